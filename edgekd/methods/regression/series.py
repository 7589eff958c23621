"""Series: the detector as one step. Newest window -> signature matrices (+ accumulator) -> student -> score."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from edgekd.blocks.accumulator import Accumulator
from edgekd.blocks.innovation_input import InnovationInput
from edgekd.blocks.scaling import SampleScaler
from edgekd.blocks.score_terms import TINY, live_pairs
from edgekd.blocks.signature import MatrixScaler, SignatureMatrices
from edgekd.blocks.step import StepModule
from edgekd.methods.regression.config import ENERGIES, RegressionConfig
from edgekd.methods.regression.energy_student import EnergyStudent
from edgekd.methods.regression.networks import Student
from edgekd.methods.regression.score_scale import TINY as LOWEST
from edgekd.methods.regression.score_scale import LogScale

BATCH = 64  # windows at once in the batch path


def compressed(values: Tensor) -> Tensor:
    """sign(z) log(1 + |z|): convolutions see the tail of standardized values on a scale of its own."""
    return values.sign() * values.abs().log1p()


class SeriesStep(StepModule):
    """A student's prediction of the teacher's score, from the newest window.

    State: `ring` the newest scaled samples, and `lta_*` the accumulator where there is one. Each sensor's share is that
    of its standardized matrices in their energy (`input` "signature"), or of its samples ("window").
    """

    config: RegressionConfig
    window_mean: Tensor
    window_scale: Tensor

    # an int8 score saturates and ties where it matters, in the tail
    float_weights = ("network.head.",)

    def __init__(self, config: RegressionConfig, n_sensors: int, n_kept: int, period_s: float) -> None:
        super().__init__()
        self.config = config
        self.n_sensors, self.m = n_sensors, n_kept
        self.geometry = config.geometry(period_s)
        self.hop, self.span = self.geometry.hop, self.geometry.span
        self.entity_resets = config.entity_resets
        self.scaler = SampleScaler(n_sensors, n_kept, (-1.0, 2.0) if config.scaling == "minmax" else (-5.0, 5.0))
        if config.input == "innovations":
            self.innovations = InnovationInput(n_kept)
        self.warmup_samples = -(-(self.span + self.unseen_samples) // self.hop) * self.hop
        self.of_matrices = config.input != "window"
        self.accumulator = None
        if self.of_matrices:
            self.matrices = SignatureMatrices(self.geometry)
            self.matrix_scaler = MatrixScaler(n_kept, config.standardize)
            if config.accumulator != "none":
                self.accumulator = Accumulator(n_kept, config.accumulator, config.lts)
        else:
            self.register_buffer("window_mean", torch.zeros(n_kept))
            self.register_buffer("window_scale", torch.ones(n_kept))
        self.network: EnergyStudent | Student
        if config.student == ENERGIES:
            self.network = EnergyStudent(n_kept, self.geometry.lengths, self.of_matrices)
        else:
            shape = (3, n_kept, n_kept) if self.of_matrices else (n_kept, self.span)
            self.network = Student(config.student, shape, config.leak)
        self.scale = LogScale(config.floor or LOWEST)

    # -- the contract ------------------------------------------------------------------------------------------------

    def state_shapes(self) -> dict[str, tuple[int, ...]]:
        shapes = self.input_shapes()
        if self.span > self.hop:
            shapes["ring"] = (self.span - self.hop, self.m)
        if self.accumulator is not None:
            shapes.update(self.accumulator.state_shapes())
        return shapes

    def forward(self, samples: Tensor, valid: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        live = self.scaler.live(valid)
        remaining = list(state)
        scaled, following = self.shown(samples, valid, remaining)  # (hop, m)
        window = scaled
        if self.span > self.hop:
            window = torch.cat([remaining.pop(0), scaled])  # (span, m)
            following.append(window[self.hop :])
        beta = None
        if self.accumulator is not None:
            summary = self.accumulator(scaled.unsqueeze(0), *(tensor.unsqueeze(0) for tensor in remaining))
            following += [tensor.squeeze(0) for tensor in summary]
            beta = self.accumulator.beta(*summary)
        score, shares = self.verdict(window[-self.span :].unsqueeze(0), beta, live)
        return (score.squeeze(0), self.scaler.spread(shares).squeeze(0), *following)

    # -- its parts, shared with the batch path and with training -----------------------------------------------------

    def standardized(self, windows: Tensor, beta: Tensor | None) -> Tensor:
        """Scaled windows (B, span, m), beta (B, m, m) or None -> what the student is shown.

        S = M + beta, (B, 3, m, m), of standardized signature matrices; or the standardized windows (B, span, m).
        """
        if not self.of_matrices:
            return (windows - self.window_mean) / self.window_scale
        matrices = self.matrix_scaler(self.matrices(windows).flatten(0, 1))  # one step: (B, 3, m, m)
        return matrices if beta is None else matrices + beta.unsqueeze(1)

    def energies(self, shown: Tensor, live: Tensor) -> Tensor:
        """What `standardized` made -> sum of squares of each sensor: (B, 3, m), or (B, span, m) of a window.

        Matrices are symmetric, so a sensor's row tells all of it. Never quite zero for a live sensor, so that a score
        always has somewhere to be shared out.
        """
        squares = live @ shown.square() if self.of_matrices else shown.square()
        return squares.clamp_min(TINY) * live  # a floor, since exporters drop the addition of so little

    def predict(self, windows: Tensor, shown: Tensor, energies: Tensor, live: Tensor) -> Tensor:
        """Scaled windows (B, span, m), what `standardized` and `energies` made of them -> the predicted log score g."""
        if isinstance(self.network, EnergyStudent):
            return self.network(windows, energies if self.of_matrices else None, live)
        if self.of_matrices:
            return self.network(compressed(shown * live_pairs(live)))
        return self.network(compressed(shown * live).transpose(1, 2))

    def verdict(self, windows: Tensor, beta: Tensor | None, live: Tensor) -> tuple[Tensor, Tensor]:
        """Scaled windows (B, span, m), beta (B, m, m) or None, live (m,) -> score (B,), contributions (B, m)."""
        shown = self.standardized(windows, beta)
        energies = self.energies(shown, live)
        score = self.scale.score(self.predict(windows, shown, energies, live))
        score = score * live.sum().clamp(max=1.0)  # where no sensor is live there is nothing to be said
        shares = energies.sum(1)
        return score, shares * (score / shares.sum(-1).clamp_min(TINY)).unsqueeze(-1)

    # -- the batch path ----------------------------------------------------------------------------------------------

    def batch(self, values: Tensor, wanted: Tensor | None = None) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        live = torch.ones(self.m)
        scaled = self.all_shown(values)  # (T, m)
        hops = len(scaled) // self.hop
        ends = self.hop * torch.arange(1, hops + 1)
        chosen = ends >= self.warmup_samples
        if wanted is not None:
            chosen &= wanted[ends - 1]
        if not chosen.any():
            return
        betas = None if self.accumulator is None else self.accumulator.betas(scaled, self.hop)  # (hops, m, m)
        for chunk in chosen.nonzero().squeeze(1).split(BATCH):
            windows = scaled[ends[chunk, None] + torch.arange(-self.span, 0)]  # (B, span, m)
            score, shares = self.verdict(windows, None if betas is None else betas[chunk], live)
            yield ends[chunk], score, self.scaler.spread(shares)
