"""Files that torch writes: read without running code, written whole. Torch is loaded when one is read or written."""

from __future__ import annotations

import hashlib
import pickletools
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zipfile import ZIP_STORED, ZipFile

from edgekd.runtime.errors import UsageError
from edgekd.runtime.files import atomic
from edgekd.runtime.json_fields import shown

if TYPE_CHECKING:
    import torch

SAFE_TORCH = (2, 10)


MAX_VALUES = 10**6  # in lists and dicts; a training's history is of some thousand
TIMES = 4  # the values of all tensors are at most so many times the file: some are in it twice and stored once
KINDS = "Float|Double|Half|Long|Int|Short|Char|Byte|Bool"  # of numbers that NumPy has, too, and are real
NAMES = re.compile(rf"collections OrderedDict|torch\._utils _rebuild_(tensor_v2|parameter)|torch ({KINDS})Storage")
"""What `save_atomically` names in a pickle: tensors. Other names that torch lets in allocate by a number."""


def load_safely(path: Path) -> Any:
    """Read what `save_atomically` wrote: tensors and plain values, never code, and no more than the file can hold.

    Tensors stay in the file until they are used; what is written to them stays in this process.

    Raises UsageError under a torch in which that promise does not hold, ValueError and torch's own errors for a file of
    another kind.
    """
    import torch

    if tuple(int(number) for number in re.findall(r"\d+", torch.__version__)[:2]) < SAFE_TORCH:
        raise UsageError(
            f"torch {torch.__version__} can be made to run code by a checkpoint (CVE-2026-24747); "
            f"pip install 'torch>={'.'.join(map(str, SAFE_TORCH))}'"
        )
    _check_archive(path)
    content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    _check_values(content, TIMES * path.stat().st_size)
    return content


def _check_archive(path: Path) -> None:
    """Raise ValueError for what unpacks to more than the file is long."""
    with ZipFile(path) as archive:
        if any(part.compress_type != ZIP_STORED for part in archive.infolist()):
            raise ValueError("it is compressed")
        (pickled,) = (name for name in archive.namelist() if name.endswith("/data.pkl"))
        for operation, argument, _ in pickletools.genops(archive.read(pickled)):
            if operation.name == "GLOBAL" and not NAMES.fullmatch(argument or ""):
                raise ValueError(f"it holds {argument}")


def _check_values(content: Any, most_bytes: int) -> None:
    """Raise ValueError for lists within lists that are billions when walked through, and tensors of a few bytes that
    say they are large (strides of 0), before anybody computes with them."""
    import torch

    left, values = MAX_VALUES, [content]
    while values:
        value = values.pop()
        if isinstance(value, torch.Tensor):
            size = value.numel() * value.element_size()
            most_bytes -= size
            if size > value.untyped_storage().nbytes() or most_bytes < 0:
                raise ValueError("a tensor is larger than its data")
        elif isinstance(value, str):
            value.encode()
        elif isinstance(value, (dict, list, tuple)):
            inside = [*value, *value.values()] if isinstance(value, dict) else value
            left -= len(inside)
            if left < 0:
                raise ValueError(f"it holds more than {MAX_VALUES} values")
            values += inside


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
