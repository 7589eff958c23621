"""Any detector with slow verdicts beside its own: the same scores, and the monitors of `edgekd.blocks.slow` gated by
them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from edgekd.blocks.slow import SlowMonitors, fit_slow
from edgekd.blocks.step import Scores, StepModule
from edgekd.data.recording import Recording
from edgekd.runtime.manifest import FAST, SLOW
from edgekd.threads import one_thread

CALM = 0.995
"""Quantile of normal scores above which a fast score is high."""


class WithSlow(StepModule):
    """A detector, `fast`, and its slow monitors; see `edgekd.blocks.step`.

    State: that of `fast`, `slow_seen` samples since the cold start as far as its warm-up, then that of the monitors.
    """

    outputs = FAST + SLOW
    gate: Tensor
    """(): the fast score above which a hop is not calm; neither is one before the warm-up's end."""

    def __init__(self, fast: StepModule, cycle_hops: int) -> None:
        super().__init__()
        self.fast = fast
        self.slow = SlowMonitors(fast.scaler.place.shape[0], fast.hop, cycle_hops)
        self.register_buffer("gate", torch.zeros(()))
        self.config, self.n_sensors, self.hop = fast.config, fast.n_sensors, fast.hop
        self.warmup_samples, self.entity_resets = fast.warmup_samples, fast.entity_resets
        self.false_alarm_rate, self.score_floor = fast.false_alarm_rate, fast.score_floor
        for kind in ("float_weights", "float_activations", "dense_weights", "matrix_weights", "recurrent_weights"):
            setattr(self, kind, tuple(f"fast.{prefix}" for prefix in getattr(fast, kind)))

    @property
    def scaler(self) -> Any:  # type: ignore[override]
        """That of `fast`."""
        return self.fast.scaler

    @property
    def parameters_learned(self) -> int:
        return self.fast.parameters_learned

    def calibration(self, replay: Recording) -> Recording:
        return self.fast.calibration(replay)

    def state_shapes(self) -> dict[str, tuple[int, ...]]:
        return {**self.fast.state_shapes(), "slow_seen": (1,), **self.slow.state_shapes()}

    def forward(self, samples: Tensor, valid: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        count = len(self.fast.state_shapes())
        score, shares, *following = self.fast(samples, valid, *state[:count])
        seen = (state[count] + float(self.hop)).clamp_max(float(self.warmup_samples))
        cold = (seen < self.warmup_samples).to(seen.dtype).squeeze(0)
        high = torch.maximum((score > self.gate).to(seen.dtype), cold)
        slow, of_slow, *slow_following = self.slow(
            self.scaler(samples, valid), self.scaler.live(valid), high, *state[count + 1 :]
        )
        return (score, shares, slow, self.scaler.spread(of_slow), *following, seen, *slow_following)

    def batch(self, values: Tensor, wanted: Tensor | None = None) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        return self.fast.batch(values, wanted)

    @torch.inference_mode()
    def score(self, recording: Recording, wanted: np.ndarray | None = None) -> Scores:
        found = self.fast.score(recording)
        chosen = np.ones(len(found.samples), bool) if wanted is None else wanted[found.samples]
        slow, shares = np.zeros(len(chosen), np.float32), np.zeros((len(chosen), self.n_sensors), np.float32)
        for (start, end), (scaled, high) in zip(
            self.entities(recording), _shown(self.fast, recording, found, self.gate)
        ):
            inside = (found.samples >= start) & (found.samples < end)
            hops = (found.samples[inside] + 1 - start) // self.hop - 1
            with one_thread():
                scores, of_slow = self.slow.batch(torch.from_numpy(scaled), torch.from_numpy(high))
            slow[inside], shares[inside] = scores.numpy()[hops], self.scaler.spread(of_slow).numpy()[hops]
        columns = (found.samples, found.scores, found.contributions, slow, shares)
        samples, scores, contributions, slow, shares = (column[chosen] for column in columns)
        return Scores(samples, scores, contributions, Scores(samples, slow, shares))


def with_slow(fast: StepModule) -> StepModule:
    """`fast` as its configuration wants it: alone, or with monitors that are to be loaded."""
    config: Any = fast.config
    return WithSlow(fast, config.cycle_hops) if config.slow else fast


def fit_with_slow(fast: StepModule, recording: Recording, normal: Scores) -> StepModule:
    """`fast` with monitors fitted to its training recording; alone where there is nothing that they could watch.

    normal: its scores of that recording, cross-fitted where it has such.
    """
    gate = float(np.quantile(normal.scores, CALM))
    slow = fit_slow(list(_shown(fast, recording, normal, gate)), fast.hop)
    config: Any = fast.config
    fast.config = replace(config, slow=slow.watches, cycle_hops=slow.cycle_hops)
    step = with_slow(fast)
    if isinstance(step, WithSlow):
        step.slow = slow
        step.gate.fill_(gate)
    return step


def _shown(
    fast: StepModule, recording: Recording, found: Scores, gate: float | Tensor
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Scaled samples of each entity, and where the fast score is high; it is before the first verdict, too."""
    for start, end in fast.entities(recording):
        scaled = fast.scaler(torch.from_numpy(recording.values[start:end]), torch.ones(recording.n_sensors))
        high = np.ones((end - start) // fast.hop, bool)
        inside = (found.samples >= start) & (found.samples < end)
        high[(found.samples[inside] + 1 - start) // fast.hop - 1] = found.scores[inside] > float(gate)
        yield scaled.numpy(), high
