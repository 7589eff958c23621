"""Files: whole or not there, whenever the power is cut; their digest; the folder where a device keeps its own."""

from __future__ import annotations

import contextlib
import errno
import functools
import importlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO


def state_folder() -> Path | None:
    """Where a program keeps its own: in systemd's folder for this service, or the user's; None without a home."""
    if given := os.environ.get("STATE_DIRECTORY", "").partition(":")[0]:
        return Path(given)
    try:
        return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state", "edgekd")
    except RuntimeError:  # a user without a home
        return None


def identity(path: str | Path) -> object:
    """The same for every name of one file, through whatever links, also where it is yet to be made."""
    try:
        return Path(path).stat().st_dev, Path(path).stat().st_ino
    except OSError:
        return os.path.realpath(path)


def sync(fd: int, how: Callable[[int], None]) -> None:
    """Bring a file or folder to disk. A file system that syncs none, as network and FUSE ones, is no failure."""
    try:
        how(fd)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.ENOSYS):
            raise


@contextlib.contextmanager
def atomic(path: Path, mode: int = 0o666) -> Iterator[BinaryIO]:
    """A binary file that takes the place of `path` when the block ends well; else the old one stays, alone.

    It is written beside `path` and renamed over it, so that a power cut leaves the old one or the new one, whole.
    """
    partial = path.with_name(f".{path.name}.partial")  # one name, so that power cuts leave no litter
    try:
        partial.unlink(missing_ok=True)  # so that what is opened is new, and no link to another file
        with open(partial, "xb", opener=functools.partial(os.open, mode=mode)) as file:
            yield file
            file.flush()
            sync(file.fileno(), os.fsync)
        partial.replace(path)
    finally:
        with contextlib.suppress(OSError):  # there is none where all went well
            partial.unlink()
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        sync(directory, os.fsync)  # the rename itself
    finally:
        os.close(directory)


def sha256(*pieces: bytes | memoryview) -> str:
    """Hexadecimal SHA-256 of all pieces, one behind the other; without OpenSSL, which takes 4 MB of memory."""
    for name in ("_sha2", "_sha256", "hashlib"):  # the interpreter's own, from Python 3.12 on and before, if it has one
        with contextlib.suppress(ModuleNotFoundError, AttributeError):
            digest = importlib.import_module(name).sha256()
            break
    for piece in pieces:
        digest.update(piece)
    return str(digest.hexdigest())
