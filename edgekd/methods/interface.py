"""What goes in and out of the function that every method has: `train(recording, config, how) -> Trained`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from edgekd.blocks.step import Scores, StepModule
from edgekd.data.recording import Recording


class Scorer(Protocol):
    """Anything that scores recordings, as a teacher."""

    name: str

    def __call__(self, recording: Recording) -> np.ndarray:
        """float64 (T,): the score of each sample of a recording, larger is stranger, NaN where there is none."""


@dataclass(frozen=True)
class Training:
    """How to train: everything that is not the method's own configuration."""

    seed: int = 0
    workdir: Path | None = None
    """Where unfinished trainings are kept, one file each; None keeps nothing."""
    resume: bool = False
    device: str = "cpu"
    """Where the networks train, as torch names it; scores are always computed on the CPU."""
    teacher: StepModule | None = None
    """A trained teacher to distill from; None trains one where the method needs it."""
    teachers: tuple[StepModule, ...] = ()
    """All given teachers, `teacher` the first of them; several teach together (`regression`)."""
    shared: StepModule | None = None
    """The student of all machines of a type, to begin with; it and the teacher get the recording's own scaling (`lta`).
    Where it looks at other sensors, the recording is trained on alone, without it and without the teacher."""
    frozen: bool = False
    """Take the shared student's network as it is: only scaling, score and threshold are the recording's own."""
    teacher_scores: np.ndarray | None = None
    """float64 (T,): a score for each sample of the recording, NaN where there is none, from any scorer at all."""
    scorers: tuple[Scorer, ...] = ()
    """Teachers that are no step modules (`regression`)."""
    outliers: Recording | None = None
    """Recording of what is not normal (images of another set), to show the student high scores (`regression`)."""
    keep_teacher: Callable[[StepModule], None] = lambda step: None
    """Called with a teacher that was trained on the way, before the student's training begins."""
    report: Callable[[dict[str, Any]], None] = lambda event: None
    """Progress: one call a training step and one an epoch."""


@dataclass(frozen=True)
class Trained:
    """A detector that is ready to score."""

    step: StepModule
    histories: dict[str, list[dict[str, float]]] = field(default_factory=dict)
    """Loss, validation loss and seconds of every epoch, for each network that was trained."""
    normal: Scores | None = None
    """Cross-fitted scores of the training recording, each by a detector that was fitted without that sample's fold, on
    the final detector's scale; they set the threshold. None where the method gives none."""
