"""Which model files have run well on this machine: a small file in the state folder, `SHA-256 ENGINE VERSION` a line.

Where it cannot be kept, every start tries the model anew in a child process.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from edgekd.runtime.container import format_of
from edgekd.runtime.engines.imports import PACKAGES
from edgekd.runtime.files import atomic, sha256, state_folder

NAME = "proven-models"
KEPT = 64  # models; a gateway has a few
MAX_BYTES = 16_384


def ensure_tried(model: bytes, again: bool = False) -> None:
    """Try a model file by `probe`, unless this engine has run these very bytes before; `again`: always, unnoted."""
    folder = state_folder()
    path = folder and folder / NAME
    # the engine is the package that would be taken: the first one that is installed
    engine = next((str(package) for package in PACKAGES[format_of(model)] if package.version), "no engine")
    line, known = f"{sha256(model)} {engine}", _known(path) if path else []
    if line in known and not again:
        return
    from edgekd.runtime.guard.child_process import probe

    if probe(model) and path is not None and not again:
        with contextlib.suppress(OSError):
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with atomic(path, 0o600) as file:
                file.write("".join(f"{kept}\n" for kept in [*known[1 - KEPT :], line]).encode())


def _known(path: Path) -> list[str]:
    """The lines that are kept; none of a file that others could have written."""
    try:
        with path.open("rb") as file:
            about = os.fstat(file.fileno())
            if about.st_uid not in (0, os.geteuid()) or about.st_mode & 0o022:
                return []
            return file.read(MAX_BYTES).decode("ascii", "replace").splitlines()
    except OSError:
        return []
