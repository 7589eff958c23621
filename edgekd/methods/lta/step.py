"""The LTA detector as one step: scaled samples -> signature matrices + accumulator -> network -> residual -> score."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor, nn

from edgekd.blocks.accumulator import SUMMARY, Accumulator
from edgekd.blocks.innovation_input import InnovationInput
from edgekd.blocks.scaling import SampleScaler
from edgekd.blocks.score_terms import (
    TINY,
    GeometricMean,
    Mahalanobis,
    Residual,
    SignaturePCA,
    TopResidual,
    below_each_other,
)
from edgekd.blocks.signature import MatrixScaler, SignatureMatrices
from edgekd.blocks.step import STATE_LIMIT_BYTES, StepModule
from edgekd.methods.lta.config import LTAConfig
from edgekd.methods.lta.network import SignatureNetwork, level_sizes

BATCH = 32  # windows at once in the batch path: more gain nothing on a CPU
RECENT = 10  # newest samples whose Mahalanobis distance is averaged
CARRIED_WARMUP_HOPS = 6  # after them a cold start moved no score by more than half a percent (SKAB, SMD)
MEMORY_WARMUP = 2  # time constants: a seventh is left of what the windows of a cold start, half of them zeros, gave
CLIP = 5.0  # standardized matrices are clipped on their way into the network, so that int8 keeps its resolution


def widest_channels(n: int, levels: int, maps: int, rest: int) -> int:
    """Most channels of the first level (at least 4) that stay within the state limit.

    `maps` maps are kept at each level, and `rest` values besides them.
    """
    for channels in (16, 12, 8, 6):
        values = sum(maps * channels * 2**level * side**2 for level, side in enumerate(level_sizes(n, levels)))
        if 4 * (values + rest) <= STATE_LIMIT_BYTES:
            return channels
    return 4


class LTAStep(StepModule):
    """Student (or teacher) with everything around it; see `edgekd.blocks.step` for the contract.

    State: `ring` the newest scaled samples that the next window needs; `lta_*` the accumulator; and for a carried
    student `h1 c1 h2 c2` of its ConvLSTMs, older hidden maps `h1_1 ...` where it attends over them, and `prediction`
    where it predicts the next matrices; `evidence` the moving average of the log score, where it has a memory.
    """

    config: LTAConfig
    judged: Tensor
    """(m,): 1 for the sensors that the score is about; only where the configuration names them."""

    # the residual is a difference of near-equal numbers, so the layer that makes one of them keeps its precision
    float_weights = ("network.decoder.0.",)
    recurrent_weights = ("network.recurrent.",)

    def __init__(self, config: LTAConfig, n_sensors: int, n_kept: int, period_s: float) -> None:
        super().__init__()
        self.config = config
        self.n_sensors, self.m = n_sensors, n_kept
        self.carried = config.recurrence == "carried"
        self.predicts = config.target == "next"
        geometry = config.geometry(period_s)
        if self.predicts and not self.carried:  # one step more: the one that is predicted
            geometry = replace(geometry, steps=geometry.steps + 1)
        self.geometry = geometry
        self.hop = geometry.hop
        self.rereads = config.teacher().geometry(period_s).span if config.feed == "window" else None
        self.span = max(geometry.span, RECENT, self.rereads or 0)
        self.entity_resets = config.entity_resets
        if config.input == "innovations":
            self.innovations = InnovationInput(n_kept)
        warm = self.span + self.unseen_samples + (CARRIED_WARMUP_HOPS * self.hop if self.carried else 0)
        warm += MEMORY_WARMUP * (config.memory - 1) * self.hop
        self.warmup_samples = -(-warm // self.hop) * self.hop

        maps = 1 + config.attention_steps
        moments, block = self._moments()
        past = max(moments, default=0) // block
        rest = (max(0, self.span - self.hop) + (2 + past) * SUMMARY) * n_kept  # the ring, and at most so many summaries
        self.scaler = SampleScaler(n_sensors, n_kept, (-1.0, 2.0) if config.scaling == "minmax" else (-5.0, 5.0))
        self.matrices = SignatureMatrices(geometry)
        self.matrix_scaler = MatrixScaler(n_kept, config.standardize)
        self.network = SignatureNetwork(
            n_kept,
            config.levels,
            config.channels or widest_channels(n_kept, config.levels, maps, rest),
            config.separable,
            config.output,
            config.attention_scale,
        )
        self.bypass = None
        if config.bypass:
            self.bypass = SignaturePCA(n_kept, config.bypass)
            for weights in self.network.decoder[0].parameters():  # training begins with the linear detector
                nn.init.zeros_(weights)
        self.accumulator = None
        if config.accumulator != "none":
            self.accumulator = Accumulator(n_kept, config.accumulator, config.lts, moments=moments, block=block)
        self.residual: Residual | TopResidual = Residual(n_kept) if config.score == "variance" else TopResidual(n_kept)
        self.mahalanobis = Mahalanobis(n_kept) if config.mahalanobis else None
        self.combine = GeometricMean(2) if config.mahalanobis else None
        if config.judged is not None:
            self.register_buffer("judged", torch.ones(n_kept))

    def _moments(self) -> tuple[tuple[int, ...], int]:
        """When beta is taken, samples before the newest, and how often the accumulator's state is looked at for it."""
        if self.config.beta == "window" or self.geometry.steps == 1:
            return (), 1
        moments = tuple(self.geometry.gap * back for back in reversed(range(self.geometry.steps)))
        return moments, math.gcd(*moments, self.rereads or self.hop, self.config.training_hop)

    @property
    def parameters_learned(self) -> int:
        """The network's, and the principal axes of a bypass, which reconstruct as it does."""
        axes = 0 if self.bypass is None else self.bypass.axes.numel()
        return super().parameters_learned + axes

    # -- the contract ------------------------------------------------------------------------------------------

    def state_shapes(self) -> dict[str, tuple[int, ...]]:
        shapes = self.input_shapes()
        if self.span > self.hop:
            shapes["ring"] = (self.span - self.hop, self.m)
        if self.accumulator is not None:
            shapes.update(self.accumulator.state_shapes())
        # of one stream, but with the axis of batches: a graph is spared a node for each that is added or taken away
        shapes.update((name, (1, *shape)) for name, shape in self.carried_shapes().items())
        if self.config.memory > 1:
            shapes["evidence"] = (1,)
        return shapes

    def carried_shapes(self) -> dict[str, tuple[int, ...]]:
        """State of a carried network, level by level."""
        shapes: dict[str, tuple[int, ...]] = {}
        if not self.carried:
            return shapes
        for level, shape in enumerate(self.network.map_shapes, start=1):
            shapes[f"h{level}"] = shapes[f"c{level}"] = shape
            for age in range(1, self.config.attention_steps - 1):
                shapes[f"h{level}_{age}"] = shape
        if self.predicts:
            shapes["prediction"] = (3, self.m, self.m)
        return shapes

    def forward(self, samples: Tensor, valid: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        live = self.scaler.live(valid)
        remaining = list(state)
        evidence = remaining.pop() if self.config.memory > 1 else None
        scaled, following = self.shown(samples, valid, remaining)  # (hop, m)

        window = scaled
        if self.span > self.hop:
            window = torch.cat([remaining.pop(0), scaled])  # (span, m)
            following.append(window[self.hop :])
        recent = window[-RECENT:] if self.hop < RECENT else scaled[self.hop - RECENT :]
        window = window[-self.span :].unsqueeze(0)

        beta = None
        if self.accumulator is not None:
            count = len(self.accumulator.state_shapes())
            read = scaled.unsqueeze(0) if self.rereads is None else window[:, -self.rereads :]
            summary = self.accumulator(read, *(tensor.unsqueeze(0) for tensor in remaining[:count]))
            del remaining[:count]
            following += [tensor.squeeze(0) for tensor in summary]
            beta = self.accumulator.beta(*summary)

        sequence = self.sequence(window, beta)  # (1, steps, 3, m, m)
        newest = sequence.squeeze(1) if self.geometry.steps == 1 else sequence[:, -1]  # to squeeze copies nothing
        if self.carried:
            output, _, carried = self.advance(newest, remaining, live)
            following += carried
        else:
            output, _ = self.reconstruct(sequence, live)
        score, shares = self.verdict((newest - output).squeeze(0), recent, live)
        if evidence is not None:
            score, shares, evidence = self.lasting(score.reshape(1), shares.unsqueeze(0), evidence)
            score, shares = score.squeeze(0), shares.squeeze(0)
            following.append(evidence)
        return (score, self.scaler.spread(shares), *following)

    # -- its parts, shared with the batch path and with training -----------------------------------------------

    def sequence(self, window: Tensor, beta: Tensor | None) -> Tensor:
        """Scaled samples (B, span, m), beta (B, [steps,] m, m) -> S = M + beta, (B, steps, 3, m, m)."""
        matrices = self.matrix_scaler(self.matrices(window[:, -self.geometry.span :]))
        if beta is None:
            return matrices
        return matrices + (beta[:, None, None] if beta.dim() == 3 else beta[:, :, None])

    def bounded(self, matrices: Tensor) -> Tensor:
        """What the network is shown; raw matrices are bounded by the clip of the samples already."""
        return matrices if self.config.standardize == "none" else matrices.clamp(-CLIP, CLIP)

    def reconstruct(self, sequence: Tensor, live: Tensor | None = None) -> tuple[Tensor, list[Tensor]]:
        """Windowed form: S (B, steps, 3, m, m) -> output for the last step (B, 3, m, m), attended maps.

        live (m,): what a bypass may look at; all where it is None.
        """
        shown = sequence[:, :-1] if self.predicts else sequence
        output, attended = self.network(self.bounded(shown))
        return self.corrected(output, shown[:, -1], live), attended

    def advance(
        self, matrices: Tensor, state: list[Tensor], live: Tensor | None = None
    ) -> tuple[Tensor, list[Tensor], list[Tensor]]:  # fmt: skip
        """Carried form: S (B, 3, m, m) and state as in `carried_shapes` -> output for S, attended maps, next state."""
        per_level = 1 + max(1, self.config.attention_steps - 1)
        levels = [list(state[i * per_level : (i + 1) * per_level]) for i in range(self.config.levels)]
        attend = self.config.attention_steps > 1
        output, attended, following = self.network.advance(self.bounded(matrices), levels, attend)
        output = self.corrected(output, matrices, live)
        flat = [tensor for level in following for tensor in level]
        if self.predicts:
            return state[-1], attended, [*flat, output]
        return output, attended, flat

    def corrected(self, output: Tensor, matrices: Tensor, live: Tensor | None) -> Tensor:
        """Output of the network and the newest S that it was shown, both (B, 3, m, m) -> their reconstruction."""
        return output if self.bypass is None else output + self.bypass.inside(matrices, live)

    def verdict(self, residual: Tensor, recent: Tensor, live: Tensor) -> tuple[Tensor, Tensor]:
        """residual (..., 3, m, m), recent samples (..., 10, m), live (m,) -> score (...,), contributions (..., m)."""
        each = self.each_term(residual, recent, live)
        return each[0] if self.combine is None else self.combine(below_each_other([shares for _, shares in each]))

    def each_term(self, residual: Tensor, recent: Tensor, live: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Score and contributions of every term, of the sensors that are judged."""
        if self.config.judged is not None:
            live = live * self.judged
        each = [self.residual(residual, live)]
        if self.mahalanobis is not None:
            each.append(self.mahalanobis(recent, live))
        return each

    def lasting(self, scores: Tensor, shares: Tensor, evidence: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Scores (B,) of successive hops and contributions (B, m), evidence (1,) before them -> all three averaged.

        The logarithm is averaged, so that one peak among quiet hops counts for little.
        """
        averages = []
        scores = scores.clamp_min(TINY)
        logs = scores.log()
        for hop in range(len(logs)):  # slices, as litert-torch cannot split
            evidence = evidence + (logs[hop : hop + 1] - evidence) / self.config.memory
            averages.append(evidence)
        averaged = torch.cat(averages).exp()
        return averaged, shares * (averaged / scores).unsqueeze(-1), evidence

    # -- the batch path ----------------------------------------------------------------------------------------

    def batch(self, values: Tensor, wanted: Tensor | None = None) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        live = torch.ones(self.m)
        if self.config.memory == 1:
            for ends, target, output, recent in self.reconstructions(values, wanted):
                score, shares = self.verdict(target - output, recent, live)
                yield ends, score, self.scaler.spread(shares)
            return
        evidence = torch.zeros(1)
        for ends, target, output, recent in self.reconstructions(values, cold=True):
            score, shares, evidence = self.lasting(*self.verdict(target - output, recent, live), evidence)
            chosen = self.counted(ends, wanted)
            if chosen.any():
                yield ends[chosen], score[chosen], self.scaler.spread(shares[chosen])

    def counted(self, ends: Tensor, wanted: Tensor | None) -> Tensor:
        """Which windows, by samples seen at their ends (B,), are past the warm-up and `wanted` (T,): bool (B,)."""
        warm = ends >= self.warmup_samples
        return warm if wanted is None else warm & wanted[ends - 1]

    def reconstructions(
        self, values: Tensor, wanted: Tensor | None = None, cold: bool = False
    ) -> Iterator[tuple[Tensor, Tensor, Tensor, Tensor]]:  # fmt: skip
        """Every wanted window of one entity, in chunks; state runs from the cold start.

        values (T, n) raw, wanted (T,) bool by newest sample -> ends (B,) samples seen, target (B, 3, m, m), output
        (B, 3, m, m), recent (B, 10, m). A windowed network sees the wanted windows alone, a carried one every hop.
        cold: every window instead, those of the warm-up too.
        """
        if len(values) < self.hop:
            return
        scaled = self.all_shown(values)  # (T, m)
        ends = torch.arange(self.hop, len(scaled) + 1, self.hop)
        chosen = torch.ones_like(ends, dtype=torch.bool) if cold else self.counted(ends, wanted)
        padded = torch.cat([torch.zeros(self.span, self.m), scaled])
        betas = self._betas(scaled, padded, ends)
        state = [torch.zeros(1, *shape) for shape in self.carried_shapes().values()]
        hops = torch.arange(len(ends)) if self.carried else chosen.nonzero().squeeze(1)
        for chunk in hops.split(BATCH) if len(hops) else ():
            windows = padded[ends[chunk, None] + torch.arange(self.span)]  # (B, span, m)
            sequence = self.sequence(windows, None if betas is None else betas[chunk])
            if self.carried:
                rows = []
                for row in sequence[:, -1].split(1):
                    output, _, state = self.advance(row, state)
                    rows.append(output)
                outputs = torch.cat(rows)
            else:
                outputs, _ = self.reconstruct(sequence)
            seen = chosen[chunk]
            if seen.any():
                yield ends[chunk][seen], sequence[seen, -1], outputs[seen], windows[seen, -RECENT:]

    def _betas(self, scaled: Tensor, padded: Tensor, ends: Tensor) -> Tensor | None:
        """beta at every hop of one entity, (hops, [steps,] m, m); `padded` has `span` zeros before the samples."""
        if self.accumulator is None:
            return None
        if self.rereads is None:
            return self.accumulator.betas(scaled, self.hop)
        state, betas = [torch.zeros(1, *shape) for shape in self.accumulator.state_shapes().values()], []
        for end in (ends + self.span).tolist():
            state = list(self.accumulator(padded[None, end - self.rereads : end], *state))
            betas.append(self.accumulator.beta(*state))
        return torch.cat(betas)
