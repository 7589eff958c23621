"""What a file is, by its content and never by its name, so that one in another's place is met with the next step."""

from __future__ import annotations

import zipfile
from pathlib import Path

from edgekd.runtime.container import format_of
from edgekd.runtime.errors import ModelRefused, UsageError

CHECKPOINT, EXPORTED, RECORDING, UNKNOWN = "checkpoint", "exported", "recording", "unknown"
HEAD_BYTES = 4096
TORCH = b"/data.pkl"  # the first entry of torch's archives
BINARY_TABLES = (b"PAR1", b"\x1f\x8b")  # Parquet, gzip
UTF_16 = (b"\xff\xfe", b"\xfe\xff")


def kind_of(path: Path) -> str:
    """CHECKPOINT, EXPORTED, what looks like a RECORDING, or UNKNOWN. Raises ModelRefused where there is no file."""
    if not path.is_file():
        raise ModelRefused(f"{path}: no such file; `edgekd distill` makes a .pt, `edgekd export` an .onnx of it")
    with path.open("rb") as file:
        head = file.read(HEAD_BYTES)
    if head.startswith(b"PK\x03\x04"):  # a spreadsheet or zipped tables, unless torch wrote it
        return RECORDING if TORCH not in head and zipfile.is_zipfile(path) else CHECKPOINT
    try:
        format_of(head)
    except ModelRefused:
        text = b"\0" not in head or head.startswith(UTF_16)
        table = text and set(b",;\t") & set(head) and set(b"0123456789") & set(head)
        return RECORDING if table or head.startswith(BINARY_TABLES) else UNKNOWN
    return EXPORTED


def is_checkpoint(path: Path) -> bool:
    """Whether a model file is a torch checkpoint; anything else is taken for an exported one.

    Raises ModelRefused where there is no such file, or it is a recording.
    """
    kind = kind_of(path)
    if kind == RECORDING:
        raise ModelRefused(next_step(path, kind))
    return kind == CHECKPOINT


def next_step(path: Path, kind: str) -> str:
    """What to do with a file of a kind that was not asked for."""
    steps = {
        CHECKPOINT: f"is a student, not exported yet; export it first: edgekd export {path}",
        EXPORTED: f"is exported already; run it with edgekd-run --model {path}, or give the .pt that it was made from",
        RECORDING: f"is a recording; distill it first: edgekd distill {path}",
        UNKNOWN: "is not a student checkpoint; give a file made by edgekd distill",
    }
    return f"{path} {steps[kind]}"


def require_recording(data: str, way_out: str) -> None:
    """Raise UsageError where DATA is a model; `way_out` is what to do about it."""
    path = Path(data)
    if path.is_file() and (kind := kind_of(path)) in (CHECKPOINT, EXPORTED):
        what = "a student" if kind == CHECKPOINT else "an exported detector"
        raise UsageError(f"{data} is {what}, not a recording; {way_out}")
