"""What a command is about to write destroys nothing: neither what it reads, nor a file of another kind.

A command calls `protect` before it does anything else. Kinds are told by what is in a file, never by its name.
"""

from __future__ import annotations

import pickletools
import stat
import zipfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from edgekd.runtime.container import format_of
from edgekd.runtime.errors import ModelRefused, UsageError
from edgekd.runtime.files import identity

SCORES_HEADER = ("sample", "score", "anomaly")
"""The first line of the CSV that `edgekd evaluate --scores` writes."""
PICTURES = (b"\x89PNG", b"%PDF", b"%!PS", b"\xff\xd8\xff", b"<svg")
HEAD_BYTES = 4096


@dataclass(frozen=True)
class Kind:
    """A kind of file, or of folder, that a command writes."""

    words: str
    known: Callable[[Path], bool]
    """Whether a file or folder that is there is one; may raise OSError."""


@dataclass(frozen=True)
class Output:
    """One file that a command is to write."""

    option: str
    """What names it, or what it is named after."""
    path: Path | None
    """None where it is not asked for."""
    kind: Kind


def protect(reads: Iterable[tuple[str, Path | None]], writes: Iterable[Output], force: bool = False) -> None:
    """Raise UsageError where a command would write over what it reads, one output over another, or any of them over
    something of another kind; over a recording, too, without `force`.

    reads: what names a file or folder, an option or an argument, and its path.
    """
    inputs = [(name, path) for name, path in reads if path is not None]
    taken = {identity(path): name for name, path in inputs}
    for output in writes:
        if output.path is None:
            continue
        this = identity(output.path)
        if output.kind is RECORDING:  # which a collection may hold
            taken |= {identity(file): name for name, path in inputs if path.is_dir() for file in path.rglob("*")}
        if this in taken:
            raise UsageError(f"{output.path}: {output.option} would write over {taken[this]}; give it another name")
        taken[this] = output.option
        _require_own_kind(output.path, output, force)


def data_path(data: str | None) -> Path | None:
    """The file or folder that DATA, `[FORMAT:]PATH[#ITEM]`, names."""
    if data is None:
        return None
    from edgekd.data.formats import split_spec

    return split_spec(data)[1]


def _require_own_kind(path: Path, output: Output, force: bool) -> None:
    try:
        about = path.stat()
    except OSError:  # there is none, or whoever writes it will say so
        return
    file, folder, kind = stat.S_ISREG(about.st_mode), stat.S_ISDIR(about.st_mode), output.kind
    if file and not about.st_size:
        return
    try:
        known = (file or folder) and kind.known(path)
    except OSError:
        known = False
    if not known:
        what = "a folder" if folder else f"what is no {kind.words}"
        raise UsageError(f"{path}: {output.option} would write over {what}; give another name, or remove that first")
    if kind is RECORDING and not force:
        raise UsageError(f"{path}: is a recording already, and none is written over without --force; give another name")


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(HEAD_BYTES)


def _role(path: Path) -> str:
    """What a checkpoint is, "student" or "teacher"; empty for any other file. Nothing that is in it is run."""
    try:
        with zipfile.ZipFile(path) as archive:
            inside = next(name for name in archive.namelist() if name.endswith("/data.pkl"))
            with archive.open(inside) as file:
                texts = (text for _, text, _ in pickletools.genops(file) if isinstance(text, str))
                return next(texts) if "role" in texts else ""
    except (zipfile.BadZipFile, StopIteration, ValueError, NotImplementedError, RuntimeError):
        return ""


def _is_model(path: Path) -> bool:
    try:
        return bool(format_of(_head(path)))
    except ModelRefused:
        return False


def _is_plot(path: Path) -> bool:
    head = _head(path)
    return head.startswith(PICTURES) or (head.startswith(b"<?xml") and b"<svg" in head)


def _is_scores(path: Path) -> bool:
    return _head(path).split(b"\n")[0].strip() == ",".join(SCORES_HEADER).encode()


def _is_recording(path: Path) -> bool:
    """Parquet, or text that is no file of scores."""
    head = _head(path)
    text = head if head[:2] not in (b"\xff\xfe", b"\xfe\xff") else b""
    return head.startswith(b"PAR1") or not (b"\0" in text or _is_plot(path) or _is_scores(path))


def _is_work(path: Path) -> bool:
    """A folder with nothing in it but what a training keeps there, see `edgekd.distillation`."""
    names = [file.name.removeprefix(".").removesuffix(".partial") for file in path.iterdir()]
    return all(
        name in ("writable", "teacher.pt") or name.endswith(".training") or name.startswith("scores-") for name in names
    )


STUDENT = Kind("student checkpoint", lambda path: _role(path) == "student")
TEACHER = Kind("teacher checkpoint", lambda path: _role(path) == "teacher")
WORK = Kind("folder of an unfinished training", _is_work)
MODEL = Kind("exported model", _is_model)
SIGNATURE = Kind("signature", lambda path: path.stat().st_size == 64)
PLOT = Kind("plot", _is_plot)
SCORES = Kind("file of scores", _is_scores)
RECORDING = Kind("recording", _is_recording)
