"""EdgeKD on the device: one model file, numpy and one engine; docs/embedding.md shows how to use it.

What needs numpy is imported when it is first used, so that `edgekd-run --help` does not wait for numpy.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from edgekd.runtime.errors import EdgeKDError, GateFailed, MissingExtra, ModelRefused, UsageError

if TYPE_CHECKING:
    from edgekd.runtime.detector import Detector, SensorChange, StateReset, StuckChange, Verdict
    from edgekd.runtime.manifest import Manifest

__all__ = ["Detector", "EdgeKDError", "GateFailed", "Manifest", "MissingExtra", "ModelRefused", "SensorChange"]
__all__ += ["StateReset", "StuckChange", "UsageError", "Verdict"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home = "manifest" if name == "Manifest" else "detector"
    return getattr(importlib.import_module(f"{__name__}.{home}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
