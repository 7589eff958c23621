"""What a file is, told by its content and never by its name."""

from __future__ import annotations

import re
from pathlib import Path

from edgekd.runtime.container import format_of
from edgekd.runtime.errors import ModelRefused

# in the words of messages
STUDENT, TEACHER, CHECKPOINT = "a student", "a teacher", "a checkpoint"  # the last of neither role, or damaged
EXPORTED, SIGNATURE = "an exported detector", "a signature"
RECORDING, SCORES, PLOT, PAGE = "a recording", "a file of scores", "a plot", "a page"
WORK, FOLDER = "the folder of an unfinished training", "a folder"
STREAM = "a device or a pipe"
MISSING, EMPTY, UNKNOWN = "no file", "an empty file", "an unknown kind of file"
CHECKPOINTS = (STUDENT, TEACHER, CHECKPOINT)
MODELS = (*CHECKPOINTS, EXPORTED)

SCORES_HEADER = b"sample,score,anomaly"
"""The first line of the CSV that `edgekd evaluate --scores` writes."""
SIGNATURE_BYTES = 64  # Ed25519
HEAD_BYTES = 4096
ZIP, TORCH = b"PK\x03\x04", b"/data.pkl"  # torch's archives are zipped, that is their first entry
ROLE = re.compile(rb"X\x04\0\0\0roleq.X\x07\0\0\0(student|teacher)", re.DOTALL)  # as pickled
PICTURES = (b"\x89PNG", b"%PDF", b"%!PS", b"\xff\xd8\xff", b"<svg")
GZIP, PARQUET, UTF_16 = b"\x1f\x8b", b"PAR1", (b"\xff\xfe", b"\xfe\xff")
NUMBER = re.compile(rb"""(?:^|[\s,;:|=\["'])[-+]?\d[-+.,:/\dTZeE]*(?:$|[\s,;|\]}"'])""", re.MULTILINE)  # in a cell


def kind_of(path: Path) -> str:
    """What a file or folder is; UNKNOWN, too, where it cannot be read. A STREAM is left alone."""
    try:
        if path.is_dir():
            return WORK if _is_work(path) else FOLDER
        if path.is_char_device() or path.is_fifo():
            return STREAM
        if not path.exists():
            return MISSING
        if not path.is_file():
            return UNKNOWN
        with path.open("rb") as file:
            return _kind_of_bytes(file.read(HEAD_BYTES))
    except OSError:
        return UNKNOWN


def require(path: Path, kinds: tuple[str, ...]) -> str:
    """The kind of a model's file; raises ModelRefused with the next step where it is none of `kinds`."""
    kind = kind_of(path)
    if kind == MISSING:
        raise ModelRefused(f"{path}: no such file; `edgekd distill` makes a .pt, `edgekd export` an .onnx of it")
    if kind in kinds:
        return kind
    steps = {
        **dict.fromkeys(CHECKPOINTS, f", not exported yet; export it first: edgekd export {path}"),
        EXPORTED: f" already; run it with edgekd-run --model {path}, or give the .pt that it was made from",
        RECORDING: f"; distill it first: edgekd distill {path}",
    }
    other = f"; give a file written by edgekd {'export' if EXPORTED in kinds else 'distill'}"
    raise ModelRefused(f"{path} is {kind}{steps.get(kind, other)}")


def is_checkpoint(path: Path) -> bool:
    """Whether a model's file is a checkpoint, not an exported one; raises ModelRefused where it is neither."""
    return require(path, MODELS) in CHECKPOINTS


def _is_work(path: Path) -> bool:
    """Whether nothing is in a folder but what a training keeps there, see `edgekd.distillation`."""
    names = [file.name.removeprefix(".").removesuffix(".partial") for file in path.iterdir()]
    return all(
        name in ("writable", "teacher.pt") or name.endswith(".training") or name.startswith("scores-") for name in names
    )


def _kind_of_bytes(head: bytes) -> str:
    if not head:
        return EMPTY
    if head.startswith(ZIP) and TORCH in head:
        role = ROLE.search(head)
        return CHECKPOINT if role is None else STUDENT if role[1] == b"student" else TEACHER
    if head.startswith((ZIP, GZIP, PARQUET)):  # a spreadsheet, or packed tables or arrays
        return RECORDING
    if head.lstrip()[:14].lower() == b"<!doctype html":
        return PAGE
    if head.startswith(PICTURES) or (head.startswith(b"<?xml") and b"<svg" in head):
        return PLOT
    if head.split(b"\n")[0].strip() == SCORES_HEADER:
        return SCORES
    if len(head) == SIGNATURE_BYTES and not head.isascii():
        return SIGNATURE
    text = head.replace(b"\0", b"") if head.startswith(UTF_16) else head
    if b"\0" not in text and NUMBER.search(text):
        return RECORDING
    try:
        return EXPORTED if format_of(head) else UNKNOWN
    except ModelRefused:
        return UNKNOWN
