"""Student checkpoint to one self-describing file: step graph, int8, parity proof, manifest.

Names are imported when they are first used, so that `edgekd.export.embed` does not wait for torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edgekd.export.candidate import Candidate
    from edgekd.export.exporter import Exported, export

__all__ = ["Candidate", "Exported", "export"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home = "candidate" if name == "Candidate" else "exporter"
    return getattr(importlib.import_module(f"{__name__}.{home}"), name)
