"""Proof that an exported file computes what was trained: closed loop, step after step, torch against the engine."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass

import numpy as np
import torch

from edgekd.data.recording import Recording
from edgekd.runtime.engines import Engine
from edgekd.runtime.errors import GateFailed
from edgekd.runtime.manifest import Manifest
from edgekd.step import StepModule

STEPS = 1000  # closed loop from the cold state
RANDOM_STATES = 8
FLOAT_TOLERANCE = 1e-4  # |error| / max(|score|, threshold)
MIN_RANK_CORRELATION = 0.99  # int8
MAX_CHANGED_DECISIONS = 0.01  # int8, share of steps


@dataclass(frozen=True)
class Parity:
    """How far the file is from torch."""

    steps: int
    max_score_error: float
    """Largest |error| / max(|score|, threshold) over the closed loop."""
    rank_correlation: float
    """Spearman, past the warm-up."""
    changed_decisions: float
    """Share of steps past the warm-up whose decision differs, other than within the tolerance of the threshold."""
    random_state_error: float
    """Largest error over single steps from random states."""
    tolerance: float
    """What a float file is held to; an int8 file is held to the correlation and the decisions."""

    def to_json(self) -> dict[str, float]:
        return {key: float(value) for key, value in asdict(self).items()}

    def check(self, int8: bool) -> None:
        """Raises GateFailed where the file is not what was trained."""
        worst = float(np.maximum(self.max_score_error, self.random_state_error))
        # written so that a figure which is no number does not hold
        if not int8 and not worst <= self.tolerance:
            raise GateFailed(
                f"parity: the file's scores differ from torch by {worst:.2g}, allowed is {self.tolerance:g}; "
                "this is a bug of the export, --force writes the file for a look at it"
            )
        if int8 and not self.rank_correlation >= MIN_RANK_CORRELATION:
            raise GateFailed(
                f"parity: int8 scores correlate {self.rank_correlation:.4f} with torch, at least "
                f"{MIN_RANK_CORRELATION} is wanted; export without --int8, or with --force to look at the file"
            )
        if int8 and not self.changed_decisions <= MAX_CHANGED_DECISIONS:
            raise GateFailed(
                f"parity: int8 changes {self.changed_decisions:.1%} of the decisions, at most "
                f"{MAX_CHANGED_DECISIONS:.0%} are allowed; export without --int8, or with --force to look at the file"
            )


def prove(step: StepModule, engine: Engine, manifest: Manifest, replay: Recording, steps: int = STEPS) -> Parity:
    """Replay the stretch (looped where it is shorter) through both, then single steps from random states.

    Raises GateFailed if a state that matters in torch has no effect in the file: such a graph has mixed its states up.
    """
    threshold = manifest.threshold.value
    scores = np.empty((steps, 2))
    warm = np.zeros(steps, bool)
    device = [tensor.numpy() for tensor in step.initial_state()]
    with torch.inference_mode():
        state = step.initial_state()
        for k, (samples, seen, reset) in enumerate(_hops(step, replay, steps)):
            if reset:
                state, device = step.initial_state(), [tensor.numpy() for tensor in step.initial_state()]
            score, _, *state = step(torch.from_numpy(samples), torch.ones(step.n_sensors), *state)
            found, _, *device = _run(engine, manifest, samples, device)
            scores[k] = float(score), float(found)
            warm[k] = seen >= step.warmup_samples
    error = np.abs(scores[:, 1] - scores[:, 0]) / np.maximum(np.abs(scores[:, 0]), threshold)
    away = np.abs(scores[:, 0] - threshold) > FLOAT_TOLERANCE * threshold
    changed = warm & away & ((scores[:, 0] > threshold) != (scores[:, 1] > threshold))
    return Parity(
        steps=steps,
        max_score_error=float(error.max()),
        rank_correlation=_spearman(*scores[warm].T) if warm.sum() > 2 else 1.0,
        changed_decisions=float(changed.sum() / max(1, warm.sum())),
        random_state_error=_from_random_states(step, engine, manifest, replay, threshold),
        tolerance=FLOAT_TOLERANCE,
    )


def _hops(step: StepModule, replay: Recording, steps: int) -> Iterator[tuple[np.ndarray, int, bool]]:
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


def _run(engine: Engine, manifest: Manifest, samples: np.ndarray, state: list[np.ndarray]) -> list[np.ndarray]:
    feeds = {spec.name: value for spec, value in zip(manifest.state, state)}
    return list(engine.run({"samples": samples, "valid": np.ones(samples.shape[1], np.float32), **feeds}))


def _from_random_states(
    step: StepModule, engine: Engine, manifest: Manifest, replay: Recording, threshold: float
) -> float:
    """Largest error of single steps from random states; a state that moves torch must move the file."""
    generator = torch.Generator().manual_seed(1)
    samples = replay.values[: step.hop]
    valid = torch.ones(step.n_sensors)
    worst = 0.0
    for _ in range(RANDOM_STATES):
        state = [torch.rand(t.shape, generator=generator) - 0.5 for t in step.initial_state()]
        with torch.inference_mode():
            score = float(step(torch.from_numpy(samples), valid, *state)[0])
        arrays = [tensor.numpy() for tensor in state]
        found = float(_run(engine, manifest, samples, arrays)[0])
        worst = max(worst, abs(found - score) / max(abs(score), threshold))
    before = _run(engine, manifest, samples, arrays)
    with torch.inference_mode():
        meant = step(torch.from_numpy(samples), valid, *state)
    for i, spec in enumerate(manifest.state):
        other = [tensor + 0.5 if j == i else tensor for j, tensor in enumerate(state)]
        with torch.inference_mode():
            moved = step(torch.from_numpy(samples), valid, *other)
        after = _run(engine, manifest, samples, [tensor.numpy() for tensor in other])
        # a recurrence over fifty samples may well forget its state to the last bit: then torch does not move either
        moves = any(not torch.allclose(a, b, rtol=1e-3, atol=1e-6) for a, b in zip(meant, moved))
        if moves and all(np.array_equal(a, b) for a, b in zip(before, after)):
            raise GateFailed(
                f"parity: state '{spec.name}' has no effect in the exported graph; this is a bug of the export"
            )
    return worst


def _spearman(a: np.ndarray, b: np.ndarray) -> float:
    from scipy.stats import spearmanr

    return float(spearmanr(a, b).statistic)
