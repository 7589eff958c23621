"""How torch shares its work among threads."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator

SPINS = "1000"


def wait_briefly() -> None:
    """To be called before torch is loaded: threads that wait for each other soon sleep.

    They would spin, which takes the core that the other one needs: beside other programs, training took more than
    twice as long. What the environment says of it stays.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", SPINS)


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Torch on one thread, if it is loaded at all: for what is too small to share. Exported files always run on one."""
    torch = sys.modules.get("torch")
    if torch is None:
        yield
        return
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
