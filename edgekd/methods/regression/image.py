"""Images: the detector as one step. One hop is one image; there is no state.

Source: score regression (arXiv 2310.06047). `ImageStep` is a student, whose prediction is turned back into a score in
the teacher's units; `AutoencoderStep` is the teacher, whose score is the mean squared reconstruction error.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from edgekd.blocks.scaling import SampleScaler
from edgekd.blocks.step import StepModule
from edgekd.data.recording import Recording
from edgekd.methods.regression.config import AUTOENCODER, RegressionConfig
from edgekd.methods.regression.image_outliers import noisy
from edgekd.methods.regression.networks import Student, Teacher
from edgekd.methods.regression.score_scale import LogScale
from edgekd.runtime.errors import RecordingError

CALIBRATION = 100  # normal images that int8 ranges are taken from; there are as many of each kind of strange ones
BATCH = 128  # images at once in the batch path: more leave a core's cache
TINY = 1e-6  # a column's share of the score where no column has any ink


class ImageModule(StepModule):
    """What student and teacher of images share: scaled images in, score and the columns' shares out."""

    config: RegressionConfig

    def __init__(self, config: RegressionConfig, n_columns: int) -> None:
        super().__init__()
        self.config = config
        self.n_sensors = n_columns
        self.hop = self.warmup_samples = config.rows or n_columns
        self.false_alarm_rate = config.false_alarm_rate
        self.scaler = SampleScaler(n_columns, n_columns, (0.0, 1.0))

    @property
    def shape(self) -> tuple[int, int, int]:
        """(1, rows, columns) of one image."""
        return 1, self.hop, self.n_sensors

    def fit_scaler(self, images: np.ndarray) -> None:
        """One scale for all pixels: smallest to largest value of the training images (..., columns)."""
        low, high = float(images.min()), float(images.max())
        if high <= low:
            raise RecordingError(
                "every pixel of the training images has the same value; nothing can be learned of them"
            )
        self.scaler.offset.fill_(low)
        self.scaler.scale.fill_(high - low)
        self.scaler.fill.copy_(torch.from_numpy(np.median(images.reshape(-1, self.n_sensors), axis=0)))

    def scaled(self, images: Tensor, valid: Tensor) -> Tensor:
        """Images (B, rows, columns) raw, valid (columns,) 1 or 0 -> (B, 1, rows, columns) in [0, 1]."""
        scaler = self.scaler  # its forward would also gather the kept sensors, which here are all pixels
        filled = torch.where(torch.isfinite(images) & (valid > 0), images, scaler.fill)
        return ((filled - scaler.offset) / scaler.scale).clamp(*scaler.clip).unsqueeze(1)

    def verdict(self, images: Tensor, live: Tensor) -> tuple[Tensor, Tensor]:
        """Scaled images (B, 1, rows, columns), live (columns,) -> score (B,), contributions (B, columns)."""
        raise NotImplementedError

    def scores(self, images: Tensor) -> Tensor:
        """Scaled images (B, 1, rows, columns) -> score (B,)."""
        live = torch.ones(self.n_sensors, device=images.device)
        return self.verdict(images, live)[0]

    def forward(self, samples: Tensor, valid: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        score, shares = self.verdict(self.scaled(samples.unsqueeze(0), valid), valid)
        return score.squeeze(0), shares.squeeze(0)

    def state_shapes(self) -> dict[str, tuple[int, ...]]:
        return {}

    def calibration(self, replay: Recording) -> Recording:
        """Normal images, damaged ones and negatives, mixed."""
        draw = torch.Generator().manual_seed(0)
        normal = torch.from_numpy(images_of(replace(replay, frame=None), self.hop))
        chosen = normal[torch.linspace(0, len(normal) - 1, min(CALIBRATION, len(normal))).long()]
        scaled = self.scaled(chosen, torch.ones(self.n_sensors))
        strange = torch.cat([noisy(scaled, "mixed", draw), 1.0 - scaled]) * self.scaler.scale[0] + self.scaler.offset[0]
        images = torch.cat([chosen, strange.squeeze(1)])
        images = images[torch.randperm(len(images), generator=draw)]
        return replace(
            replay, values=images.flatten(0, 1).numpy(), starts=(0,), entities=("",), labels=None, times_s=None
        )

    def batch(self, values: Tensor, wanted: Tensor | None = None) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        live = torch.ones(self.n_sensors)
        images = values[: len(values) // self.hop * self.hop].unflatten(0, (-1, self.hop)) if len(values) else values
        ends = self.hop * torch.arange(1, len(values) // self.hop + 1)
        if wanted is not None:
            ends = ends[wanted[ends - 1]]
        for chunk in ends.split(BATCH):
            score, shares = self.verdict(self.scaled(images[chunk // self.hop - 1], live), live)
            yield chunk, score, shares


class ImageStep(ImageModule):
    """A student: the teacher's score, predicted from the image. Each column's share is its share of the ink."""

    float_weights = ("network.head.",)

    def __init__(self, config: RegressionConfig, n_columns: int) -> None:
        super().__init__(config, n_columns)
        self.network = Student(config.student, self.shape, config.leak)
        self.scale = LogScale()

    def verdict(self, images: Tensor, live: Tensor) -> tuple[Tensor, Tensor]:
        score = self.scale.score(self.network(images))  # (B,)
        ink = (images.square().sum((1, 2)) + TINY) * live  # (B, columns)
        return score, ink / ink.sum(-1, keepdim=True).clamp_min(TINY) * score.unsqueeze(-1)


class AutoencoderStep(ImageModule):
    """The teacher: mean squared reconstruction error over the pixels of the live columns."""

    float_weights = ("network.decoder.4.",)  # the residual is a difference of near-equal numbers

    def __init__(self, config: RegressionConfig, n_columns: int) -> None:
        super().__init__(config, n_columns)
        self.network = Teacher(self.shape)

    def verdict(self, images: Tensor, live: Tensor) -> tuple[Tensor, Tensor]:
        columns = self.network.errors(images).mean((1, 2)) * live  # (B, columns)
        shares = columns / live.sum().clamp_min(1.0)
        return shares.sum(-1), shares


def image_step(config: RegressionConfig, n_columns: int) -> ImageModule:
    """The untrained module of a configuration."""
    return (AutoencoderStep if config.student == AUTOENCODER else ImageStep)(config, n_columns)


def images_of(recording: Recording, rows: int) -> np.ndarray:
    """The images of a recording, float32 (N, rows, columns), not copied.

    Raises RecordingError where the recording is not made of images of so many rows.
    """
    name = recording.source or "recording"
    if recording.frame is not None and recording.frame != rows:
        raise RecordingError(
            f"{name}: images of {recording.frame} x {recording.n_sensors} pixels, {rows} rows are expected; "
            f"--set rows={recording.frame} trains on these"
        )
    if len(recording) % rows:
        raise RecordingError(
            f"{name}: {len(recording)} rows are not a whole number of images of {rows} rows; --set rows=N says how many"
        )
    return recording.values.reshape(-1, rows, recording.n_sensors)
