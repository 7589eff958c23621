"""SHA-256 without OpenSSL: `hashlib` loads it, and 4 MB of memory are not spent for one digest a start."""

from __future__ import annotations

import importlib


def sha256(data: bytes) -> str:
    """Hexadecimal SHA-256."""
    for name in ("_sha2", "_sha256"):  # the interpreter's own, from Python 3.12 on and before
        try:
            return str(importlib.import_module(name).sha256(data).hexdigest())
        except (ModuleNotFoundError, AttributeError):  # left out of this Python's build
            continue
    import hashlib

    return hashlib.sha256(data).hexdigest()
