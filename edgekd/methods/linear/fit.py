"""Fitting of the linear detectors with scikit-learn."""

from __future__ import annotations

import numpy as np
import torch

from edgekd.blocks.scaling import SampleScaler, judged_columns, kept_columns
from edgekd.blocks.score_terms import Mahalanobis, SamplePCA, SignaturePCA
from edgekd.blocks.signature import require_few_sensors
from edgekd.blocks.threshold import FIT, parts, require_windows
from edgekd.data import Recording
from edgekd.methods.linear.config import TERMS, LinearConfig
from edgekd.methods.linear.step import LinearStep
from edgekd.runtime.errors import RecordingError


@torch.inference_mode()
def fit_linear(recording: Recording, config: LinearConfig, seed: int, fit: np.ndarray | None = None) -> LinearStep:
    """A detector fitted to the training part of `recording`, or to the samples `fit` (T,) bool of it."""
    fit = parts(recording) == FIT if fit is None else fit
    fitted = recording.values[fit]
    judged = judged_columns(recording, config.judged)
    kept = kept_columns(fitted, config.drop_constant, recording.source, judged)
    of_matrices = any(name.startswith("signature") for name in TERMS[config.detector])
    if of_matrices:
        require_few_sensors(len(kept), recording.source)
    step = LinearStep(config, recording.n_sensors, len(kept), recording.period_s)
    if judged:
        step.judged.copy_(torch.from_numpy(np.isin(kept, judged)))
    require_windows(step, recording)
    step.scaler = SampleScaler.fit(fitted, kept, config.scaling)
    step.fit_innovations(recording, fit)
    chunks = []
    for start, end in step.entities(recording):
        values, wanted = torch.from_numpy(recording.values[start:end]), torch.from_numpy(fit[start:end])
        chunks += [windows for _, windows in step.windows(values, wanted)]
    windows = torch.cat(chunks)  # (windows, span, m)
    if len(windows) <= config.signature_components:
        raise RecordingError(
            f"{recording.source}: {len(windows)} training windows of {step.warmup_samples} samples are too few to fit "
            f"{config.detector}; give at least {2 * config.signature_components * step.hop + step.span} samples"
        )
    if of_matrices:
        raw = torch.cat([step.matrices(chunk[:, -step.geometry.span :])[:, -1] for chunk in windows.split(256)])
        step.matrix_scaler.fit(raw.mean(0), raw.std(0, correction=0))
    samples = step.shown_of(recording, fit).numpy()
    for term in step.terms.values():
        if isinstance(term, Mahalanobis):
            term.fit(samples, config.ridge)
        elif isinstance(term, SamplePCA):
            term.fit(samples)
        elif isinstance(term, SignaturePCA):
            term.fit(step.matrix_scaler(raw).numpy(), seed)
    if step.combine is not None:
        live = torch.ones(step.m)
        scores = [torch.stack([s for s, _ in step.each_term(chunk, live)], 1) for chunk in windows.split(256)]
        step.combine.fit(torch.cat(scores).numpy())
    return step
