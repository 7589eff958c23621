"""A student of LTA and the committee of innovations as one detector: each finds what the other does not.

The network sees how sensors move together, the committee each of them against its own past. Both scores are strange on
their own scale, so that their logarithms are added, each by its spread on normal data.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn

from edgekd.blocks.score_terms import GeometricMean, below_each_other
from edgekd.blocks.step import Scores, StepModule
from edgekd.blocks.threshold import FIT, parts
from edgekd.data.recording import Recording
from edgekd.methods.linear.config import PRESETS, LinearConfig
from edgekd.methods.linear.innovations import SPREAD_FLOOR, InnovationsStep, fit_innovations
from edgekd.methods.lta.config import LTAConfig
from edgekd.methods.lta.step import LTAStep

MEMBERS = ("network", "committee")


class JointStep(StepModule):
    """Both detectors side by side; see `edgekd.blocks.step`. State: that of each, under its name."""

    config: LTAConfig

    def __init__(self, config: LTAConfig, n_sensors: int, n_kept: int, period_s: float) -> None:
        super().__init__()
        self.config, self.n_sensors = config, n_sensors
        network = LTAStep(config, n_sensors, n_kept, period_s)
        committee = InnovationsStep(_committee(config, network), n_sensors, n_kept, period_s)
        self.join(network, committee)
        self.combine = GeometricMean(len(MEMBERS))

    def join(self, network: LTAStep, committee: InnovationsStep) -> None:
        """Take these two."""
        self.members = nn.ModuleDict({"network": network, "committee": committee})
        self.scaler = network.scaler
        self.hop, self.entity_resets = network.hop, network.entity_resets
        self.warmup_samples = max(network.warmup_samples, committee.warmup_samples)
        self.float_weights = tuple(f"members.network.{prefix}" for prefix in network.float_weights)
        self.recurrent_weights = tuple(f"members.network.{prefix}" for prefix in network.recurrent_weights)

    @property
    def each(self) -> dict[str, StepModule]:
        return {name: self.members[name] for name in MEMBERS}  # type: ignore[misc]

    @property
    def parameters_learned(self) -> int:
        return sum(step.parameters_learned for step in self.each.values())

    def state_shapes(self) -> dict[str, tuple[int, ...]]:
        return {
            f"{name}_{state}": shape for name, step in self.each.items() for state, shape in step.state_shapes().items()
        }

    def forward(self, samples: Tensor, valid: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        terms, following, remaining = [], [], list(state)
        for step in self.each.values():
            count = len(step.state_shapes())
            _, shares, *after = step(samples, valid, *remaining[:count])
            del remaining[:count]
            terms.append(shares)
            following += after
        return (*self.combine(below_each_other(terms)), *following)

    def batch(self, values: Tensor, wanted: Tensor | None = None) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        found = []
        for step in self.each.values():
            chunks = list(step.batch(values, wanted))
            if not chunks:
                return
            columns = [torch.cat(column) for column in zip(*chunks)]
            warm = columns[0] >= self.warmup_samples
            found.append([column[warm] for column in columns])
        if len(found[0][0]):
            yield found[0][0], *self.combine(below_each_other([shares for _, _, shares in found]))


def _committee(config: LTAConfig, network: LTAStep) -> LinearConfig:
    """The committee's configuration at the network's hop and sensors."""
    return replace(
        PRESETS["innovations"],
        lengths=network.geometry.lengths,
        hop=network.hop,
        scaling=config.scaling,
        drop_constant=config.drop_constant,
        judged=config.judged,
        entity_resets=config.entity_resets,
    )


@torch.no_grad()
def joined(recording: Recording, network: LTAStep) -> tuple[JointStep, Scores]:
    """A trained student joined with a committee that is fitted to the same recording, and normal scores of it.

    What is usual for the committee are its cross-fitted scores; for the network those of the part that trained it,
    since to train it four times is too dear.
    """
    config = network.config
    committee, normal = fit_innovations(recording, _committee(config, network), network.scaler.kept.numpy())
    step = JointStep(config, network.n_sensors, network.m, recording.period_s)
    step.join(network, committee)
    mine, theirs = _together(network.score(recording), normal)
    fitted = parts(recording)[mine.samples] == FIT
    step.combine.fit(np.stack([mine.scores[fitted], theirs.scores[fitted]], 1), SPREAD_FLOOR)
    score, shares = step.combine(torch.from_numpy(np.stack([mine.contributions, theirs.contributions], 1)))
    return step, Scores(mine.samples, score.numpy(), shares.numpy())


def _together(one: Scores, other: Scores) -> tuple[Scores, Scores]:
    """The verdicts that both have."""
    _, mine, theirs = np.intersect1d(one.samples, other.samples, return_indices=True)
    return tuple(
        Scores(scores.samples[chosen], scores.scores[chosen], scores.contributions[chosen])
        for scores, chosen in ((one, mine), (other, theirs))
    )  # type: ignore[return-value]
