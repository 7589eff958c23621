"""The file formats: one room each under `edgekd.export`, all with the same doors."""

from __future__ import annotations

import importlib
from typing import Protocol, cast

from edgekd.blocks.step import StepModule
from edgekd.export.scheme import Scheme
from edgekd.runtime.errors import UsageError

ROOMS = {"onnx": "edgekd.export.onnx", "tflite": "edgekd.export.tflite"}  # imported when a file is wanted of them


class Format(Protocol):
    """What a room offers."""

    SUFFIX: str
    """Of its files: ".onnx"."""

    def float_model(self, step: StepModule, target: str | None = None) -> bytes:
        """The whole detector in float, without a manifest. target: the engine that it is meant for, None the usual."""

    def schemes(self, target: str | None = None) -> dict[str, Scheme]:
        """The int8 schemes by name, in the order of trying, the default first."""


def room(name: str) -> Format:
    """The room of a format; raises UsageError where there is none."""
    if name not in ROOMS:
        raise UsageError(f"there is no format '{name}'; give one of {', '.join(ROOMS)}")
    return cast(Format, importlib.import_module(ROOMS[name]))
