"""What an int8 scheme is, for either file format."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from edgekd.blocks.step import StepModule
from edgekd.data.recording import Recording

Quantize = Callable[[bytes, StepModule, Recording], bytes]


@dataclass(frozen=True)
class Scheme:
    """One way to make an int8 model of a float one."""

    name: str
    """What is typed after `--int8`."""
    words: str
    """What the manifest says of it."""
    quantize: Quantize
    """(float model, its step module, replay stretch of normal samples) -> int8 model, without a manifest.

    A model in which there is nothing to quantize comes back as it is. Calibration runs closed loop on the stretch.
    """
    weights_alone: bool = False
    """Whether it leaves all computing in float; detectors that are no network have no other kind."""
    calibration: str = ""
    """What the manifest says of the data that the ranges come from; empty where none were needed."""
