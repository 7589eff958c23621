"""EdgeKD on the device: one model file, numpy and one engine; docs/embedding.md shows how to use it.

Names are imported when they are first used, so that `edgekd-run --help` does not wait for numpy.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edgekd.runtime.detector import Detector, SensorChange, StuckChange, Verdict
    from edgekd.runtime.errors import EdgeKDError, GateFailed, MissingExtra, ModelRefused, UsageError
    from edgekd.runtime.manifest import Manifest

__all__ = ["Detector", "EdgeKDError", "GateFailed", "Manifest", "MissingExtra", "ModelRefused", "SensorChange"]
__all__ += ["StateReset", "StuckChange", "UsageError", "Verdict"]
_HOMES = {
    "detector": ("Detector", "SensorChange", "StateReset", "StuckChange", "Verdict"),
    "errors": ("EdgeKDError", "GateFailed", "MissingExtra", "ModelRefused", "UsageError"),
    "manifest": ("Manifest",),
}


def __getattr__(name: str) -> Any:
    for home, names in _HOMES.items():
        if name in names:
            return getattr(importlib.import_module(f"{__name__}.{home}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *(name for names in _HOMES.values() for name in names)})
