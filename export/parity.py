"""How far an exported file is from torch: closed loop, step after step, the same samples through both."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass

import numpy as np
import torch
from torch import Tensor

from edgekd.blocks.step import StepModule
from edgekd.data.recording import Recording
from edgekd.export.threshold import same_meaning
from edgekd.runtime.engines import Engine
from edgekd.runtime.errors import GateFailed
from edgekd.threads import one_thread

SMALLEST = float(np.finfo(np.float32).tiny)  # where all that is normal has a score of 0
STEPS = 1000  # closed loop from the cold state
RANDOM_STATES = 8
FLOAT_TOLERANCE = 1e-4  # |error| / max(|score|, threshold)
SLOW_TOLERANCE_INT8 = 0.1
SLOW_TOLERANCE = 1e-3  # |error| of a slow score, whose threshold is 1: the average of 80 hops' rounding


@dataclass(frozen=True)
class Parity:
    """How far the file is from torch."""

    steps: int
    max_score_error: float
    """Largest |error| / max(|score|, |threshold|) over the closed loop."""
    rank_correlation: float
    """Spearman, past the warm-up."""
    changed_decisions: float
    """Share of steps past the warm-up whose decision differs, each side at its own threshold, other than within the
    tolerance of torch's; slow decisions too."""
    slow_error: float
    """Largest |error| of the slow score over the closed loop, 1 being its threshold; 0 where there is none."""
    random_state_error: float
    """Largest error over single steps from random states."""
    tolerance: float
    """What a float file is held to; an int8 file is held to the correlation and the decisions."""
    threshold: float
    """The file's own: torch's for a float file, moved to the scale of its scores for an int8 one."""

    def to_json(self) -> dict[str, float]:
        return {key: float(value) for key, value in asdict(self).items()}


class Reference:
    """What torch computes: the closed loop over the replay stretch, and single steps from random states.

    It runs once, for all files of a student. The newest samples of the stretch are taken, which are those that set the
    threshold; a shorter stretch is looped.
    """

    def __init__(self, step: StepModule, replay: Recording, threshold: float, steps: int = STEPS) -> None:
        self.step, self.threshold, self.steps = step, threshold, steps
        newest = replay.slice(max(0, len(replay) - steps * step.hop), len(replay))
        self.hops = list(hops(step, newest, steps))
        self.scores = np.empty((steps, len(step.outputs) // 2))
        self.warm = np.array([seen >= step.warmup_samples for _, seen, _ in self.hops])
        with torch.inference_mode(), one_thread():
            state = step.initial_state()
            for k, (samples, _, reset) in enumerate(self.hops):
                state = step.initial_state() if reset else state
                found = step(torch.from_numpy(samples), torch.ones(step.n_sensors), *state)
                state = list(found[len(step.outputs) :])
                self.scores[k] = scores_of(step, found)
        self.samples = newest.values[: step.hop]
        generator = torch.Generator().manual_seed(1)
        self.random_states = [
            [torch.rand(shape, generator=generator) - 0.5 for shape in step.state_shapes().values()]
            for _ in range(RANDOM_STATES)
        ]

    def outputs(self, state: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """One step of torch from this state."""
        with torch.inference_mode(), one_thread():
            return self.step(torch.from_numpy(self.samples), torch.ones(self.step.n_sensors), *state)


def prove(reference: Reference, engine: Engine, int8: bool = False) -> Parity:
    """Run what torch ran through the file. An int8 file gets a threshold of its own (`edgekd.export.threshold`).

    Raises GateFailed if a state that matters in torch has no effect in the file: such a graph has mixed its states up.
    """
    (expected, *slow), warm, threshold = reference.scores.T, reference.warm, reference.threshold
    found, *slow_found = _closed_loop(reference, engine).T
    own = same_meaning(expected[warm], found[warm], threshold) if int8 else threshold
    error = np.abs(found - expected) / np.maximum(np.abs(expected), max(abs(threshold), SMALLEST))
    away = np.abs(expected - threshold) > FLOAT_TOLERANCE * abs(threshold)
    changed = away & ((expected > threshold) != (found > own))
    slow_error = 0.0
    for meant, got in zip(slow, slow_found):
        slow_error = float(np.abs(got - meant).max())
        # in int8 a hop more or less may count as calm, which moves an average a little
        changed |= (np.abs(meant - 1) > (SLOW_TOLERANCE_INT8 if int8 else SLOW_TOLERANCE)) & ((meant > 1) != (got > 1))
    changed &= warm
    _require_every_state(reference, engine)
    return Parity(
        steps=reference.steps,
        max_score_error=float(error.max()),
        rank_correlation=spearman(expected[warm], found[warm]),
        changed_decisions=float(changed.sum() / max(1, warm.sum())),
        slow_error=slow_error,
        random_state_error=_from_random_states(reference, engine),
        tolerance=FLOAT_TOLERANCE,
        threshold=own,
    )


def hops(step: StepModule, replay: Recording, steps: int) -> Iterator[tuple[np.ndarray, int, bool]]:
    """(samples, samples seen since the reset, whether state is reset before) of `steps` hops, looping without end.

    State is reset where an entity begins. A stretch of one entity goes on with its state when it is looped: what is
    proven is that errors do not build up.
    """
    entities = [(start, end) for start, end in step.entities(replay) if end - start >= step.hop]
    if not entities:
        raise GateFailed(f"parity: the replay stretch of {len(replay)} samples is shorter than one hop of {step.hop}")
    done, seen = 0, 0
    while True:
        for start, end in entities:
            if len(entities) > 1:
                seen = 0
            for stop in range(start + step.hop, end + 1, step.hop):
                seen += step.hop
                yield replay.values[stop - step.hop : stop], seen, seen == step.hop
                done += 1
                if done == steps:
                    return


def _closed_loop(reference: Reference, engine: Engine) -> np.ndarray:
    """The engine's scores over the reference's hops, its own state fed back: float64 (steps, 1 or 2)."""
    cold = [tensor.numpy() for tensor in reference.step.initial_state()]
    scores, state = np.empty_like(reference.scores), cold
    for k, (samples, _, reset) in enumerate(reference.hops):
        found = _run(reference, engine, samples, cold if reset else state)
        scores[k], state = scores_of(reference.step, found), found[len(reference.step.outputs) :]
    return scores


def scores_of(step: StepModule, found: Sequence[np.ndarray | Tensor]) -> list[float]:
    """The scores among the outputs of one step: its own and, where it has one, the slow one."""
    return [float(found[i]) for i in range(0, len(step.outputs), 2)]


def _run(
    reference: Reference, engine: Engine, samples: np.ndarray, state: Sequence[np.ndarray | Tensor]
) -> list[np.ndarray]:
    feeds = {name: np.asarray(value) for name, value in zip(reference.step.state_shapes(), state)}
    return list(engine.run({"samples": samples, "valid": np.ones(samples.shape[1], np.float32), **feeds}))


def _from_random_states(reference: Reference, engine: Engine) -> float:
    """Largest relative error of single steps from random states."""
    errors = []
    for state in reference.random_states:
        meant = scores_of(reference.step, reference.outputs(state))
        found = scores_of(reference.step, _run(reference, engine, reference.samples, state))
        for score, got, threshold in zip(meant, found, (reference.threshold, 1.0)):
            errors.append(abs(got - score) / max(abs(score), abs(threshold), SMALLEST))
    return float(np.max(errors))  # NaN stays NaN


def _require_every_state(reference: Reference, engine: Engine) -> None:
    """A state that moves torch must move the file."""
    state = reference.random_states[-1]
    meant, before = reference.outputs(state), _run(reference, engine, reference.samples, state)
    for i, name in enumerate(reference.step.state_shapes()):
        other = [tensor + 0.5 if j == i else tensor for j, tensor in enumerate(state)]
        # a recurrence over fifty samples may well forget its state to the last bit: then torch does not move either
        if all(torch.allclose(a, b, rtol=1e-3, atol=1e-6) for a, b in zip(meant, reference.outputs(other))):
            continue
        if all(np.array_equal(a, b) for a, b in zip(before, _run(reference, engine, reference.samples, other))):
            raise GateFailed(f"parity: state '{name}' has no effect in the exported graph; this is a bug of the export")


def spearman(a: np.ndarray, b: np.ndarray) -> float:
    """Rank correlation; 1 of values that have no order, NaN where one side alone is constant, or no number."""
    from scipy.stats import spearmanr

    flat = [len(side) <= 2 or bool(np.ptp(side) == 0) for side in (a, b)]
    return 1.0 if all(flat) else float("nan") if any(flat) else float(spearmanr(a, b).statistic)
