"""The committee of innovations: four energies of what the past does not tell, joined by their logarithms.

Its lags and means are in samples: own values one to three samples before, five samples ahead, means over 10 and 60. At
one sample a minute they are minutes and an hour, which is what it was chosen on; at one a second, a minute; at 1 kHz 60
milliseconds, a look at waveform and noise that sees no slow fault (average the samples first); at one an hour two and a
half days, in which it learns the day's course as if it were level.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor, nn

from edgekd.blocks.forecast import Stretch
from edgekd.blocks.innovations import SPAN, AllLags, Forecast, Levels, OwnAhead, OwnLags, whitened_squares
from edgekd.blocks.scaling import SampleScaler, judged_columns, kept_columns
from edgekd.blocks.score_terms import TINY, GeometricMean, live_weights
from edgekd.blocks.step import Scores, WindowStep
from edgekd.blocks.threshold import require_windows
from edgekd.data.recording import Recording
from edgekd.methods.linear.config import LinearConfig
from edgekd.methods.linear.cross_fit import FOLDS, SEAM
from edgekd.runtime.errors import RecordingError

FEWEST = 20  # samples that the terms can be fitted to
SPREAD_FLOOR = 0.05  # of a log energy
FORGETS = 1 - float(np.exp(-1.0))  # of the average log score in one hop
SMALLEST = 1e-6  # deviation of a scaled sensor


class InnovationsStep(WindowStep):
    """The committee as one step; see `edgekd.blocks.step`.

    State: `ring` the newest standardized samples; `heard` how many samples in a row each sensor has been live for,
    since one that comes back counts again when the whole window is its own; `evidence` the average log score.
    """

    config: LinearConfig
    batch_windows = 256
    matrix_weights = ("terms.",)
    center: Tensor
    deviation: Tensor
    """(m,) of the scaled samples."""
    judged: Tensor
    """int64 (j,): the sensors that the score is about, among those that are looked at."""
    of_judged: Tensor
    """(j, m): one-hot rows."""

    def __init__(self, config: LinearConfig, n_sensors: int, n_kept: int, period_s: float) -> None:
        super().__init__()
        self.config = config
        self.n_sensors, self.m = n_sensors, n_kept
        self.hop, self.span = config.geometry(period_s).hop, SPAN
        self.entity_resets = config.entity_resets
        self.warmup_samples = -(-self.span // self.hop) * self.hop
        self.scaler = SampleScaler(n_sensors, n_kept, (-1.0, 2.0) if config.scaling == "minmax" else (-5.0, 5.0))
        self.register_buffer("center", torch.zeros(n_kept))
        self.register_buffer("deviation", torch.ones(n_kept))
        judges = n_kept if config.judged is None else len(set(config.judged))
        self.judge(torch.arange(judges))
        self.combine = GeometricMean(len(self.terms))

    def judge(self, columns: Tensor) -> None:
        """Make the terms for the judged columns, int64 (j,) in order."""
        self.register_buffer("judged", columns)
        self.register_buffer("of_judged", torch.eye(self.m)[columns])
        terms: dict[str, nn.Module] = {
            "own_lags": OwnLags(columns), "own_ahead": OwnAhead(columns), "levels": Levels(columns),
        }  # fmt: skip
        if len(columns) > 1:  # all that one sensor's neighbors tell of it is context
            terms["all_lags"] = AllLags(columns, self.m)
        self.terms = nn.ModuleDict(terms)

    @property
    def parameters_learned(self) -> int:
        """Values fitted to the training data, scaling left out."""
        return sum(buffer.numel() for buffer in self.terms.buffers() if buffer.is_floating_point())

    def state_shapes(self) -> dict[str, tuple[int, ...]]:
        ring = {"ring": (self.span - self.hop, self.m)} if self.span > self.hop else {}
        return ring | {"heard": (self.m,), "evidence": (1,)}

    def standardized(self, scaled: Tensor) -> Tensor:
        """Scaled samples (..., m) -> with mean 0 and deviation 1 in training."""
        return (scaled - self.center) / self.deviation

    def all_shown(self, values: Tensor) -> Tensor:
        return self.standardized(super().all_shown(values))

    def forward(self, samples: Tensor, valid: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        window = self.standardized(self.scaler(samples, valid))  # (hop, m)
        following, remaining = [], list(state)
        if self.span > self.hop:
            window = torch.cat([remaining.pop(0), window])  # (span, m)
            following.append(window[self.hop :])
        heard, evidence = remaining
        live = self.scaler.live(valid)
        heard = ((heard + float(self.hop)) * live).clamp_max(float(self.span))
        counted = live * (heard >= self.span).to(live.dtype)
        score, shares = self.verdict(window[-self.span :], counted)
        score = score.clamp_min(TINY)
        some = counted.index_select(0, self.judged).sum().clamp_max(1.0)  # without any, all stands still
        evidence = evidence + (FORGETS * some) * (score.log() - evidence)
        averaged = evidence.exp() * some  # (1,)
        shares = self.scaler.spread(shares * (averaged / score))
        return (averaged.squeeze(0), shares, *following, heard, evidence)

    def each_term(self, windows: Tensor, live: Tensor) -> Tensor:
        """Standardized windows (..., span, m), live (m,) -> shares of every term, (..., terms, j); they sum to its
        energy."""
        forecasts = {name: term for name, term in self.terms.items() if isinstance(term, Forecast)}
        seen = windows * live
        levels = self.terms["levels"].squares(seen)  # type: ignore[operator]
        order = [[*forecasts, "levels"].index(name) for name in self.terms]
        squares = torch.cat([whitened_squares(list(forecasts.values()), seen, live), levels], -2)[..., order, :]
        return squares * live_weights(live.index_select(0, self.judged))

    def verdict(self, windows: Tensor, live: Tensor) -> tuple[Tensor, Tensor]:
        """Standardized windows (..., span, m), live (m,) -> score (...,) before averaging, contributions (..., m)."""
        score, shares = self.combine(self.each_term(windows, live))
        return score, shares if len(self.judged) == self.m else shares @ self.of_judged

    def batch(self, values: Tensor, wanted: Tensor | None = None) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        live = torch.ones(self.m)
        evidence = 0.0
        for ends, windows in self.windows(values):
            score, shares = self.verdict(windows, live)
            score = score.clamp_min(TINY)
            logs = averaged(score.log().numpy(), evidence)
            evidence = float(logs[-1])
            average = torch.from_numpy(logs).exp()
            shares = shares * (average / score).unsqueeze(-1)
            counted = torch.ones_like(ends, dtype=torch.bool) if wanted is None else wanted[ends - 1]
            if counted.any():
                yield ends[counted], average[counted], self.scaler.spread(shares[counted])


def averaged(logs: np.ndarray, before: float = 0.0) -> np.ndarray:
    """Moving average of the log scores (V,) of successive hops, as `InnovationsStep` takes it; float32 (V,)."""
    found = np.empty(len(logs), np.float32)
    rate, average = np.float32(FORGETS), np.float32(before)
    for hop, log in enumerate(logs.astype(np.float32)):
        average = found[hop] = average + rate * (log - average)
    return found


@torch.no_grad()
def fit_innovations(
    recording: Recording, config: LinearConfig, kept: np.ndarray | None = None
) -> tuple[InnovationsStep, Scores]:
    """The committee fitted to a recording, and its cross-fitted scores of it.

    Each of four folds in time is scored by terms fitted to the other three, so that what is usual for a term is what is
    usual on data that it was not fitted to. No part need be kept aside for that.

    kept: int (m,) columns to look at; None for those that are not constant. Raises RecordingError where the recording
    is too short.
    """
    judged = judged_columns(recording, config.judged)
    if kept is None:
        kept = kept_columns(recording.values, config.drop_constant, recording.source, judged)
    step = InnovationsStep(config, recording.n_sensors, len(kept), recording.period_s)
    if judged:
        step.judge(torch.from_numpy(np.flatnonzero(np.isin(kept, judged))))
    require_windows(step, recording)
    step.scaler = SampleScaler.fit(recording.values, kept, config.scaling)
    scaled = step.scaler(torch.from_numpy(recording.values), torch.ones(recording.n_sensors)).double()
    step.center.copy_(scaled.mean(0))
    step.deviation.copy_(scaled.std(0, correction=0).clamp_min(SMALLEST))

    found = []  # of each entity: ends, log energies (V, terms), shares (V, terms, j)
    shown = [step.all_shown(torch.from_numpy(recording.values[start:end])) for start, end in step.entities(recording)]
    for fold in range(FOLDS):
        if not _learn(step, [Stretch(samples.double(), ~_fold(len(samples), fold, SEAM)) for samples in shown]):
            raise RecordingError(
                f"{recording.source or 'recording'}: {len(recording):,} samples are too few for innovations; record at "
                f"least {8 * step.span:,} in one piece"
            )
        found.append([_energies(step, samples, _fold(len(samples), fold)) for samples in shown])
    _learn(step, [Stretch(samples.double(), torch.ones(len(samples), dtype=torch.bool)) for samples in shown])
    return step, _cross_fitted(step, recording, [list(of_entity) for of_entity in zip(*found)])


def _fold(count: int, fold: int, seam: int = 0) -> Tensor:
    """bool (count,): the samples of one fold, and at most `seam` more on either side."""
    seam = min(seam, count // (4 * FOLDS))
    inside = torch.zeros(count, dtype=torch.bool)
    inside[max(0, fold * count // FOLDS - seam) : (fold + 1) * count // FOLDS + seam] = True
    return inside


def _learn(step: InnovationsStep, stretches: list[Stretch]) -> bool:
    """Fit every term; False where there is too little to learn from."""
    if sum(len(stretch.rows(step.span)) for stretch in stretches) < FEWEST:
        return False
    for term in step.terms.values():
        term.fit(stretches)  # type: ignore[operator]
    return True


def _energies(step: InnovationsStep, samples: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Standardized samples (T, m) of one entity -> of every window whose newest sample is `wanted`: ends (V,), energies
    (V, terms), shares (V, terms, j)."""
    ends = torch.arange(step.warmup_samples, max(len(samples), step.warmup_samples - 1) + 1, step.hop)
    ends = ends[wanted[ends - 1]]
    live = torch.ones(step.m)
    energies, shares = [torch.zeros(0, len(step.terms))], [torch.zeros(0, len(step.terms), len(step.judged))]
    for some in ends.split(step.batch_windows) if len(ends) else ():
        shares.append(step.each_term(samples[some[:, None] + torch.arange(-step.span, 0)], live))
        energies.append(shares[-1].sum(-1))
    return ends, torch.cat(energies), torch.cat(shares)


def _cross_fitted(
    step: InnovationsStep, recording: Recording, found: list[list[tuple[Tensor, Tensor, Tensor]]]
) -> Scores:  # fmt: skip
    """Fit how terms are joined to their cross-fitted energies, and join those. found: of each entity, fold by fold."""
    whole = [tuple(torch.cat(column) for column in zip(*folds)) for folds in found]
    logs = []
    for _, energies, _ in whole:
        columns = energies.clamp_min(TINY).log().numpy().T
        logs.append(np.stack([averaged(column, column[0] if len(column) else 0.0) for column in columns], 1))
    step.combine.fit(np.exp(np.concatenate(logs).astype(np.float64)), SPREAD_FLOOR)
    samples, scores, contributions = [], [], []
    for (start, _), (ends, _, shares) in zip(step.entities(recording), whole):
        score, share = step.combine(shares)
        score = score.clamp_min(TINY)
        average = torch.from_numpy(averaged(score.log().numpy())).exp()
        samples.append(ends.numpy() + start - 1)
        scores.append(average.numpy())
        spread = step.scaler.spread((share * (average / score).unsqueeze(-1)) @ step.of_judged)
        contributions.append(spread.numpy())
    return Scores(np.concatenate(samples), np.concatenate(scores), np.concatenate(contributions))
