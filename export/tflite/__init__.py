"""TFLite: a step module as one flatbuffer for LiteRT or the older tflite-runtime, in float or int8."""

from __future__ import annotations

from edgekd.blocks.step import StepModule
from edgekd.export.scheme import Scheme
from edgekd.runtime.errors import UsageError

SUFFIX = ".tflite"
DEFAULT_TARGET, MICRO = "litert", "tflm"


def float_model(step: StepModule, target: str | None = None) -> bytes:
    """The float model, without a manifest; the same for every target. Raises MissingExtra."""
    from edgekd.export.tflite.convert import float_file

    return float_file(step)


def schemes(target: str | None = None) -> dict[str, Scheme]:
    """The int8 schemes that are right on a target: "litert", the usual, "tflite-runtime", "tflm"; the default first."""
    from edgekd.export.tflite.int8 import SCHEMES

    if (target or DEFAULT_TARGET) not in SCHEMES:
        raise UsageError(f"--target {target}: a TFLite file is made for {', '.join(SCHEMES)}")
    return SCHEMES[target or DEFAULT_TARGET]
