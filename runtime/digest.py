"""SHA-256 without OpenSSL: `hashlib` loads it, and 4 MB of memory are not spent for one digest a start."""

from __future__ import annotations

import contextlib
import importlib


def sha256(*pieces: bytes | memoryview) -> str:
    """Hexadecimal SHA-256 of all pieces, one behind the other."""
    for name in ("_sha2", "_sha256", "hashlib"):  # the interpreter's own, from Python 3.12 on and before, if it has one
        with contextlib.suppress(ModuleNotFoundError, AttributeError):
            digest = importlib.import_module(name).sha256()
            break
    for piece in pieces:
        digest.update(piece)
    return str(digest.hexdigest())
