"""The linear detectors as one step: scaled samples -> signature matrices -> one or more terms -> score."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from edgekd.blocks.innovation_input import InnovationInput
from edgekd.blocks.scaling import SampleScaler
from edgekd.blocks.score_terms import GeometricMean, Mahalanobis, SamplePCA, SignatureEnergy, SignaturePCA
from edgekd.blocks.signature import MatrixScaler, SignatureMatrices
from edgekd.blocks.step import WindowStep
from edgekd.methods.linear.config import TERMS, LinearConfig


class LinearStep(WindowStep):
    """One linear detector, or the geometric mean of several. State: `ring`, the newest scaled samples."""

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
        each = self.each_term(windows, live)
        return each[0] if self.combine is None else self.combine(torch.stack([shares for _, shares in each], -2))

    def alone(self, window: Tensor, live: Tensor) -> tuple[Tensor, Tensor]:
        return self.verdict(window, live)  # spares a graph the nodes for an axis of one

    def each_term(self, windows: Tensor, live: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Score and contributions of every term, of the sensors that are judged."""
        if self.config.judged is not None:
            live = live * self.judged
        recent = windows[..., -self.config.recent :, :]
        matrices = None
        results = []
        for name, term in self.terms.items():
            if name.startswith("signature"):
                if matrices is None:
                    matrices = self.standardized(windows)
                results.append(term(matrices, live))
            else:
                results.append(term(recent, live))
        return results

    def standardized(self, windows: Tensor) -> Tensor:
        """Scaled windows (..., span, m) -> standardized signature matrices (..., 3, m, m)."""
        return self.matrix_scaler(self.matrices(windows[..., -self.geometry.span :, :])[..., -1, :, :, :])
