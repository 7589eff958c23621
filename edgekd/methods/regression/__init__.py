"""`regression`: a small student predicts a teacher's anomaly score directly, without a decoder.

networks.py      the seven students and the image teacher
score_scale.py   the scale of the scores, and the loss
image.py         images, one of them a hop: the step modules; image_jobs.py and image_train.py train them,
                 image_outliers.py makes outliers from normal images
series.py        windows and signature matrices: the step module, with the students of networks.py or that of
                 energy_student.py; series_train.py and series_jobs.py train it, scorers.py is any teacher of a series
"""

from __future__ import annotations

from edgekd.blocks.step import StepModule
from edgekd.data.recording import Recording
from edgekd.distillation import distill_from
from edgekd.methods.interface import Trained, Training
from edgekd.methods.regression.config import PRESETS, RegressionConfig
from edgekd.methods.regression.networks import Student, Teacher

SYSTEM = "score regression: a small student predicts the teacher's anomaly score, arXiv 2310.06047"
DEFAULT_PRESET = "signature"
CONFIG = RegressionConfig
__all__ = ["CONFIG", "DEFAULT_PRESET", "PRESETS", "STEP", "SYSTEM", "Student", "Teacher", "distill_from", "train"]


def STEP(config: RegressionConfig, n_sensors: int, n_kept: int, period_s: float) -> StepModule:
    """The step module of a configuration: of images, or of a series."""
    if config.is_image:
        from edgekd.methods.regression.image import image_step

        return image_step(config, n_sensors)
    from edgekd.methods.regression.series import SeriesStep

    return SeriesStep(config, n_sensors, n_kept, period_s)


def train(recording: Recording, config: RegressionConfig, how: Training) -> Trained:
    """Distill a student: from an autoencoder of its own for images, from the given teachers for a series."""
    if config.is_image:
        from edgekd.methods.regression.image_train import train_image

        return train_image(recording, config, how)
    from edgekd.methods.regression.series_train import train_series

    return train_series(recording, config, how)
