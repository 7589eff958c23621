"""The linear detectors as one step: scaled samples -> signature matrices -> one or more terms -> score."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from edgekd.blocks.innovation_input import InnovationInput
from edgekd.blocks.scaling import SampleScaler
from edgekd.blocks.score_terms import (
    GeometricMean,
    Mahalanobis,
    SamplePCA,
    SignatureEnergy,
    SignaturePCA,
    below_each_other,
)
from edgekd.blocks.signature import MatrixScaler, SignatureMatrices
from edgekd.blocks.step import STATE_LIMIT_BYTES, WindowStep
from edgekd.methods.linear.config import TERMS, LinearConfig


class LinearStep(WindowStep):
    """One linear detector, or the geometric mean of several.

    State: `products` of the blocks of a window before the newest hop, which are computed but once, and `ring`, newest
    scaled samples, where more of them are looked at than a hop brings.
    """

    config: LinearConfig
    batch_windows = 256
    matrix_weights = ("terms.",)
    judged: Tensor
    """(m,): 1 for the sensors that the score is about; only where the configuration names them."""

    def __init__(self, config: LinearConfig, n_sensors: int, n_kept: int, period_s: float) -> None:
        super().__init__()
        self.config = config
        self.n_sensors, self.m = n_sensors, n_kept
        self.geometry = config.geometry(period_s)
        self.hop, self.span = self.geometry.hop, max(self.geometry.span, config.recent)
        self.entity_resets = config.entity_resets
        if config.input == "innovations":
            self.innovations = InnovationInput(n_kept)
        self.warmup_samples = -(-(self.span + self.unseen_samples) // self.hop) * self.hop
        self.scaler = SampleScaler(n_sensors, n_kept, (-1.0, 2.0) if config.scaling == "minmax" else (-5.0, 5.0))
        self.matrices = SignatureMatrices(self.geometry)
        self.matrix_scaler = MatrixScaler(n_kept, "element")
        self.of_matrices = any(name.startswith("signature") for name in TERMS[config.detector])
        older = max(0, self.geometry.span - self.hop) // self.geometry.block if self.of_matrices else 0
        self.older = older if 4 * older * self.m**2 <= STATE_LIMIT_BYTES else 0
        """Blocks of a window, before the newest hop, whose products are kept; none where they are too large."""
        self.terms = nn.ModuleDict({name: self._term(name) for name in TERMS[config.detector]})
        self.combine = GeometricMean(len(self.terms)) if len(self.terms) > 1 else None
        if config.judged is not None:
            self.register_buffer("judged", torch.ones(n_kept))

    def _term(self, name: str) -> nn.Module:
        if name == "mahalanobis":
            return Mahalanobis(self.m)
        if name == "sample_pca":
            return SamplePCA(self.m, min(self.config.sample_components, self.m - 1))
        if name == "signature_pca":
            return SignaturePCA(self.m, self.config.signature_components)
        return SignatureEnergy()

    @property
    def parameters_learned(self) -> int:
        """Values fitted to the training data, scaling left out."""
        return sum(buffer.numel() for buffer in self.terms.buffers())

    def verdict(self, windows: Tensor, live: Tensor) -> tuple[Tensor, Tensor]:
        """Scaled windows (..., span, m), live (m,) -> score (...,), contributions (..., m)."""
        return self._together(self.each_term(windows, live))

    def each_term(self, windows: Tensor, live: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Score and contributions of every term, of the sensors that are judged."""
        return self._each(windows, None, live)

    def state_shapes(self) -> dict[str, tuple[int, ...]]:
        shapes = self.input_shapes()
        if self.older:
            shapes["products"] = (self.older, self.m * self.m)
        samples = self.span if self.of_matrices and not self.older else self.config.recent
        if samples > self.hop:
            shapes["ring"] = (samples - self.hop, self.m)
        return shapes

    def forward(self, samples: Tensor, valid: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        remaining = list(state)
        window, following = self.shown(samples, valid, remaining)  # (hop, m)
        products = None
        if self.older:
            products = torch.cat([remaining.pop(0), self._products(window)])  # (blocks, m * m)
            following.append(products[-self.older :])
        if remaining:
            window = torch.cat([remaining.pop(0), window])  # (span or recent, m)
            following.append(window[self.hop :])
        score, shares = self._together(self._each(window, products, self.scaler.live(valid)))
        return (score, self.scaler.spread(shares), *following)

    def _products(self, samples: Tensor) -> Tensor:
        """Scaled samples (..., T, m) -> products of the blocks that are looked at, (..., blocks, m * m)."""
        return self.matrices.products(samples[..., -self.geometry.span :, :])

    def _each(self, windows: Tensor, products: Tensor | None, live: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Scaled windows (..., span, m), where products of their blocks are given newest samples alone -> the terms."""
        if self.config.judged is not None:
            live = live * self.judged
        recent = windows[..., -self.config.recent :, :]
        if self.of_matrices:
            products = self._products(windows) if products is None else products  # (..., blocks, m * m)
            matrices = (self.matrices.weights @ products).unflatten(-1, (self.m, self.m))  # (..., 3, m, m)
        return [
            term(matrices, self.matrix_scaler, live) if name.startswith("signature") else term(recent, live)
            for name, term in self.terms.items()
        ]

    def _together(self, each: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
        return each[0] if self.combine is None else self.combine(below_each_other([shares for _, shares in each]))
