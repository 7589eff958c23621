"""EdgeKD on the device: one model file, numpy and one engine.

    from edgekd.runtime import Detector
    detector = Detector.load("student.onnx")
    for sample in gateway:                 # (n,) raw units; NaN = missing
        verdict = detector.update(sample)  # None between hops and in warm-up
        if verdict and verdict.is_anomaly:
            notify(verdict.score, verdict.top_sensors)

Names are imported when they are first used, so that `edgekd-run --help` does not wait for numpy.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edgekd.runtime.detector import Detector, SensorChange, Verdict
    from edgekd.runtime.errors import EdgeKDError, GateFailed, MissingExtra, ModelRefused, UsageError
    from edgekd.runtime.manifest import Manifest

_HOMES = {
    "Detector": "detector",
    "SensorChange": "detector",
    "Verdict": "detector",
    "EdgeKDError": "errors",
    "GateFailed": "errors",
    "MissingExtra": "errors",
    "ModelRefused": "errors",
    "UsageError": "errors",
    "Manifest": "manifest",
}

__all__ = [
    "Detector",
    "EdgeKDError",
    "GateFailed",
    "Manifest",
    "MissingExtra",
    "ModelRefused",
    "SensorChange",
    "UsageError",
    "Verdict",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
