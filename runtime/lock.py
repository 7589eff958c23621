"""One run at a time on one state: a lock that the system drops with the process, however that ends."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from edgekd.runtime.errors import UsageError
from edgekd.runtime.json_fields import shown


@contextlib.contextmanager
def lock_state(path: str, say: Callable[[str], None]) -> Iterator[None]:
    """Hold `PATH.lock`, which stays there with our process id in it. Raises UsageError where another process holds it.

    A disk that takes no lock file is told and stops nothing, as with the state itself.
    """
    lock = Path(f"{path}.lock")
    try:
        # never removed: whoever has opened it meanwhile would hold a lock that nobody else sees
        file = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        say(f"cannot lock {shown(str(lock), 300)}: {error.strerror}; make sure that no other run uses this state")
        yield
        return
    try:
        _take(file, path, lock, say)
        yield
    finally:
        os.close(file)


def _take(file: int, path: str, lock: Path, say: Callable[[str], None]) -> None:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.pread(file, 20, 0).decode("ascii", "replace").strip()
        who = f"process {holder}" if holder.isdecimal() else "another process"
        raise UsageError(
            f"{shown(path, 300)}: {who} runs on this state; stop it first, or give this run a --state of its own"
        ) from None
    except OSError as error:  # some network file systems
        say(f"cannot lock {shown(str(lock), 300)}: {error.strerror}; make sure that no other run uses this state")
        return
    with contextlib.suppress(OSError):  # a full disk
        os.ftruncate(file, 0)
        os.pwrite(file, f"{os.getpid()}\n".encode(), 0)
