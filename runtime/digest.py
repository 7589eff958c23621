"""SHA-256 without OpenSSL: `hashlib` loads it, and 4 MB of memory are not spent for one digest a start."""

from __future__ import annotations

import importlib
from typing import Any


def sha256(*pieces: bytes | memoryview) -> str:
    """Hexadecimal SHA-256 of all pieces, one behind the other."""
    digest = _sha256()
    for piece in pieces:
        digest.update(piece)
    return str(digest.hexdigest())


def _sha256() -> Any:
    for name in ("_sha2", "_sha256"):  # the interpreter's own, from Python 3.12 on and before
        try:
            return importlib.import_module(name).sha256()
        except (ModuleNotFoundError, AttributeError):  # left out of this Python's build
            continue
    import hashlib

    return hashlib.sha256()
