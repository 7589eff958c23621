"""Files that torch writes: read without running code, written whole. Torch is loaded when one is read or written."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgekd.runtime.errors import UsageError
from edgekd.runtime.files import atomic
from edgekd.runtime.json_fields import shown

if TYPE_CHECKING:
    import torch

SAFE_TORCH = (2, 10)


def load_safely(path: Path, mapped: bool = False) -> Any:
    """Read what `save_atomically` wrote: tensors and plain values, never code.

    mapped: leave tensors in the file until they are used; what is written to them stays in this process.

    Raises UsageError under a torch in which that promise does not hold.
    """
    import torch

    if tuple(int(number) for number in re.findall(r"\d+", torch.__version__)[:2]) < SAFE_TORCH:
        raise UsageError(
            f"torch {torch.__version__} can be made to run code by a checkpoint (CVE-2026-24747); "
            f"pip install 'torch>={'.'.join(map(str, SAFE_TORCH))}'"
        )
    return torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)


def save_atomically(content: Any, path: Path) -> None:
    """`torch.save` that leaves the old file whole when it is cut short."""
    import torch

    with atomic(path) as file:
        torch.save(content, file)


def first_line(error: Exception) -> str:
    """What an error of torch says, cut to fit into a line of ours; it may quote the file, which may be hostile."""
    return shown((str(error).strip() or type(error).__name__).splitlines()[0].rstrip(":"), 120)


def weights_digest(about: str, weights: Mapping[str, torch.Tensor]) -> str:
    """SHA-256 over what the weights are of, their names and their values."""
    h = hashlib.sha256(about.encode())
    for name, tensor in sorted(weights.items()):
        h.update(name.encode() + tensor.cpu().contiguous().numpy().tobytes())
    return h.hexdigest()
