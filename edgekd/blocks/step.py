"""The step module: the whole detector as one torch module with explicit state. All that `export` knows of a method.

    forward(samples (hop, n) raw units, valid (n,) 1 or 0, *state) -> score (), contributions (n,), *next_state

A detector of slow faults too (`edgekd.blocks.with_slow`) puts slow_score (), 1 = alarm, and slow_contributions (n,)
before the next state.

Everything is inside: scaling, signature matrices, accumulator, network, residual, score. State tensors are named, have
a fixed shape, and are zero at the cold start. Windows end at multiples of `hop` from the start of an entity.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from edgekd.blocks.forecast import Stretch
from edgekd.blocks.innovation_input import LAGS, InnovationInput
from edgekd.blocks.scaling import SampleScaler
from edgekd.data.recording import Recording
from edgekd.runtime.manifest import FAST
from edgekd.threads import one_thread

SHARED = 10**6  # weights of a network that gains by a second thread
STATE_LIMIT_BYTES = 256 * 1024  # a state written every minute must not wear an SD card out


@dataclass(frozen=True)
class Scores:
    """The verdicts of one detector on one recording."""

    samples: np.ndarray
    """int64 (V,): 0-based index of the newest sample that each verdict has seen."""
    scores: np.ndarray
    """float32 (V,)."""
    contributions: np.ndarray
    """float32 (V, n): share of each sensor; rows sum to the scores."""
    slow: Scores | None = None
    """Slow verdicts at the same samples, 1 = alarm; None of a detector that has none."""


class Configuration(Protocol):
    """What every method's configuration can do."""

    def to_json(self) -> dict[str, Any]:
        """All settings by name, JSON-able."""


class StepModule(nn.Module):
    """Base of every method's detector. Subclasses set the attributes below and write three methods."""

    config: Configuration
    scaler: SampleScaler
    n_sensors: int
    """Sensors of the recording, constant ones included."""
    hop: int
    """Samples that one step consumes."""
    warmup_samples: int
    """Samples of an entity before the first score that means anything."""
    innovations: InnovationInput | None
    """Where the detector is shown innovations in place of the scaled samples."""
    entity_resets: bool = True
    """Whether state is cleared where another entity begins."""

    outputs: tuple[str, ...] = FAST
    """What `forward` returns before the next state."""

    false_alarm_rate: float | None = None
    """Share of normal scores above the threshold; None sets it by a margin over the largest one."""

    score_floor: float = 0.0
    """Added to a score before a student of `regression` learns its logarithm, where the lowest decades are noise."""

    float_weights: tuple[str, ...] = ()
    """Prefixes of the parameters whose layers must not be quantized."""
    float_activations: tuple[str, ...] = ()
    """Prefixes of the parameters whose layers take no eight-bit inputs; an int8 scheme of weights alone takes them."""
    dense_weights: tuple[str, ...] = ()
    """Prefixes of the parameters whose dense layers may be quantized; convolutions may wherever they stand."""
    matrix_weights: tuple[str, ...] = ()
    """Prefixes of the constant matrices of a detector without layers: an int8 file holds them as bytes and computes in
    float, since what they make is a difference of near-equal numbers."""
    recurrent_weights: tuple[str, ...] = ()
    """Prefixes of the parameters whose layers are fed back within a step: an int8 scheme may spare them."""

    def __init__(self) -> None:
        super().__init__()
        self.innovations = None

    def state_shapes(self) -> dict[str, tuple[int, ...]]:
        """Name and shape of every state tensor, in the order in which `forward` takes and returns them."""
        raise NotImplementedError

    def forward(self, samples: Tensor, valid: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        """One step: samples (hop, n), valid (n,), state -> score (), contributions (n,), next state."""
        raise NotImplementedError

    def batch(self, values: Tensor, wanted: Tensor | None = None) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Scores of one entity from its cold start, many windows at once.

        values (T, n) raw units -> chunks of ends (B,) int64 [samples seen at each window's end], scores (B,),
        contributions (B, n), for every window that ends at a multiple of `hop` past the warm-up and whose newest
        sample is `wanted` (T,) bool (None: all).
        """
        raise NotImplementedError

    def calibration(self, replay: Recording) -> Recording:
        """Samples that int8 takes its ranges from, of a normal stretch. A method may add what is far from normal: an
        activation that is clipped at what normal data reach gives all anomalies one score."""
        return replay

    @property
    def parameters_learned(self) -> int:
        """Trained parameters, scaling and score statistics left out."""
        return sum(parameter.numel() for parameter in self.parameters())

    @property
    def unseen_samples(self) -> int:
        """Samples of an entity that the input needs before the first that it shows."""
        return 0 if self.innovations is None else LAGS

    def input_shapes(self) -> dict[str, tuple[int, ...]]:
        """State of the input, before that of all else; a part of `state_shapes`."""
        return {} if self.innovations is None else self.innovations.state_shapes()

    def shown(self, samples: Tensor, valid: Tensor, state: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """One hop: samples (hop, n) raw units, valid (n,), state -> what the detector sees (hop, m), next state of the
        input. Takes the input's own state off the front of `state`."""
        scaled = self.scaler(samples, valid)
        if self.innovations is None:
            return scaled, []
        lags, heard = state.pop(0), state.pop(0)
        shown, *following = self.innovations(scaled, self.scaler.live(valid), lags, heard)
        return shown, following

    def all_shown(self, values: Tensor) -> Tensor:
        """The same of a whole entity from its cold start, values (T, n) raw units -> (T, m)."""
        scaled = self.scaler(values, torch.ones(self.n_sensors))
        return scaled if self.innovations is None else self.innovations.whole(scaled, self.hop)

    def fit_innovations(self, recording: Recording, fitted: np.ndarray) -> None:
        """Learn the forecasts, where there are any, of the samples `fitted` (T,) bool; the scaler is fitted already."""
        if self.innovations is not None:
            scaled = self.scaler(torch.from_numpy(recording.values), torch.ones(self.n_sensors)).double()
            mask = torch.from_numpy(fitted)
            self.innovations.fit([Stretch(scaled[a:b], mask[a:b]) for a, b in self.entities(recording)])

    def shown_of(self, recording: Recording, wanted: np.ndarray) -> Tensor:
        """What the detector sees of the samples `wanted` (T,) bool of a recording, (k, m)."""
        pieces = []
        for start, end in self.entities(recording):
            shown = self.all_shown(torch.from_numpy(recording.values[start:end]))
            pieces.append(shown[torch.from_numpy(wanted[start:end])])
        return torch.cat(pieces)

    @property
    def state_bytes(self) -> int:
        """Of one stream."""
        return 4 * sum(math.prod(shape) for shape in self.state_shapes().values())

    def initial_state(self) -> list[Tensor]:
        """The cold start: a zero tensor of its own for every state."""
        return [torch.zeros(shape) for shape in self.state_shapes().values()]

    def entities(self, recording: Recording) -> list[tuple[int, int]]:
        """[start, end) of every stretch that state runs through."""
        return recording.bounds if self.entity_resets else [(0, len(recording))]

    @torch.inference_mode()
    def score(self, recording: Recording, wanted: np.ndarray | None = None) -> Scores:
        """The batch path over a whole recording, or its verdicts on the samples `wanted` (T,) bool alone."""
        parts: list[list[np.ndarray]] = []
        with one_thread() if self.parameters_learned < SHARED else contextlib.nullcontext():
            for start, end in self.entities(recording):
                chosen = None if wanted is None else torch.from_numpy(wanted[start:end])
                for ends, scores, shares in self.batch(torch.from_numpy(recording.values[start:end]), chosen):
                    parts.append([ends.numpy() + start - 1, scores.float().numpy(), shares.float().numpy()])
        return _joined(parts, self.n_sensors)

    @torch.inference_mode()
    @one_thread()
    def replay(self, recording: Recording, limit: int | None = None) -> Scores:
        """The step path: `forward` hop by hop with its state fed back, as the device runs it."""
        parts: list[list[np.ndarray]] = []
        valid = torch.ones(self.n_sensors)
        for start, end in self.entities(recording):
            state = self.initial_state()
            for stop in range(start + self.hop, end + 1, self.hop):
                samples = torch.from_numpy(recording.values[stop - self.hop : stop])
                found = self(samples, valid, *state)
                state = list(found[len(self.outputs) :])
                if stop - start >= self.warmup_samples:
                    told = (output.unsqueeze(0).numpy() for output in found[: len(self.outputs)])
                    parts.append([np.array([stop - 1]), *told])
                if limit is not None and len(parts) >= limit:
                    return _joined(parts, self.n_sensors)
        return _joined(parts, self.n_sensors)


class WindowStep(StepModule):
    """A detector that looks at nothing but the newest window. State: `ring`, the scaled samples before the newest hop.

    Subclasses set the attributes below and write `verdict`.
    """

    m: int
    """Sensors that are looked at."""
    span: int
    """Samples of a window."""
    batch_windows: int = 64
    """Windows at once in the batch path."""

    def verdict(self, windows: Tensor, live: Tensor) -> tuple[Tensor, Tensor]:
        """Scaled windows (B, span, m), live (m,) 1 or 0 -> score (B,), contributions (B, m)."""
        raise NotImplementedError

    def state_shapes(self) -> dict[str, tuple[int, ...]]:
        return self.input_shapes() | ({"ring": (self.span - self.hop, self.m)} if self.span > self.hop else {})

    def forward(self, samples: Tensor, valid: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        remaining = list(state)
        window, following = self.shown(samples, valid, remaining)  # (hop, m)
        if remaining:
            window = torch.cat([remaining[0], window])  # (span, m)
            following.append(window[self.hop :])
        score, shares = self.alone(window[-self.span :], self.scaler.live(valid))
        return (score, self.scaler.spread(shares), *following)

    def alone(self, window: Tensor, live: Tensor) -> tuple[Tensor, Tensor]:
        """The verdict on one window (span, m): score (), contributions (m,)."""
        score, shares = self.verdict(window.unsqueeze(0), live)
        return score.squeeze(0), shares.squeeze(0)

    def windows(self, values: Tensor, wanted: Tensor | None = None) -> Iterator[tuple[Tensor, Tensor]]:
        """values (T, n) raw units of one entity -> chunks of ends (B,) and scaled windows (B, span, m); see `batch`."""
        scaled = self.all_shown(values)
        ends = torch.arange(self.hop, max(len(scaled), self.hop - 1) + 1, self.hop)
        ends = ends[ends >= self.warmup_samples]
        if wanted is not None:
            ends = ends[wanted[ends - 1]]
        for chunk in ends.split(self.batch_windows) if len(ends) else ():
            yield chunk, scaled[chunk[:, None] + torch.arange(-self.span, 0)]

    def batch(self, values: Tensor, wanted: Tensor | None = None) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        live = torch.ones(self.m)
        for ends, windows in self.windows(values, wanted):
            score, shares = self.verdict(windows, live)
            yield ends, score, self.scaler.spread(shares)


def _joined(parts: Sequence[Sequence[np.ndarray]], n: int) -> Scores:
    """parts: samples, scores, contributions and, of a detector that has some, slow scores and contributions."""
    if not parts:
        return Scores(np.zeros(0, np.int64), np.zeros(0, np.float32), np.zeros((0, n), np.float32))
    samples, scores, shares, *of_slow = (np.concatenate(column) for column in zip(*parts))
    slow = Scores(samples, of_slow[0], of_slow[1]) if of_slow else None
    return Scores(samples, scores, shares, slow)


def too_much_state(step: StepModule) -> str:
    """What to say of a state beyond the limit; empty within it."""
    if step.state_bytes <= STATE_LIMIT_BYTES:
        return ""
    return (
        f"its state is {step.state_bytes / 1024:,.0f} KiB; saved every minute, more than {STATE_LIMIT_BYTES // 1024} "
        "wear a memory card out: --preset innovations keeps 1 KiB a sensor, a quarter of it with --set slow=false"
    )


def multiply_adds(step: StepModule) -> int:
    """Multiply-adds of one step: convolutions, matrix products and recurrences; what is elementwise is not counted."""
    from torch.utils.flop_counter import FlopCounterMode

    samples, valid = torch.zeros(step.hop, step.n_sensors), torch.ones(step.n_sensors)
    # torch counts the products inside RNN and GRU cells, but not the LSTM that it hands to oneDNN whole
    whole_lstm = {torch.ops.aten.mkldnn_rnn_layer: _lstm_flops}
    with FlopCounterMode(display=False, custom_mapping=whole_lstm) as counter, torch.inference_mode():
        step(samples, valid, *step.initial_state())
    return counter.get_total_flops() // 2


def _lstm_flops(
    sequence: tuple[int, ...], w_input: tuple[int, ...], w_hidden: tuple[int, ...], *_: Any, **__: Any
) -> int:
    """sequence (T, batch, inputs), w_input (4 hidden, inputs), w_hidden (4 hidden, hidden) -> 2 flops a product."""
    vectors = sequence[0] * sequence[1]
    return 2 * vectors * (w_input[0] * w_input[1] + w_hidden[0] * w_hidden[1])
