"""The files of a command: what it reads is of the right kind, and what it writes destroys nothing."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from edgekd.file_kinds import EMPTY, MISSING, MODELS, PLOT, RECORDING, SCORES, STREAM, kind_of, require
from edgekd.runtime.errors import UsageError
from edgekd.runtime.files import atomic, identity

PLOTS = (".png", ".svg", ".pdf")
STDOUT = "/dev/stdout"


@dataclass(frozen=True)
class File:
    """A file or folder that a command reads or writes."""

    option: str
    """What names it, an option or an argument."""
    path: Path | None
    """None where it is not given."""
    kinds: tuple[str, ...] = ()
    """What it may be, see `edgekd.file_kinds`. As an input a RECORDING is whatever is no model, and none is any."""
    way_out: str = ""
    """What to do about a model in place of a recording."""


def check_files(reads: Sequence[File], writes: Sequence[File], force: bool = False) -> None:
    """What a command does first. Raises ModelRefused or UsageError, with the next step, where an input is of another
    kind; then UsageError where an output would go over an input, another output or something of another kind, or,
    without `force`, over a recording.
    """
    taken: dict[object, str] = {}
    for given in reads:
        if given.path is not None:
            if given.kinds:
                _require_kind(given, given.path)
            taken[identity(given.path)] = given.option
    for output in writes:
        if output.path is None or (SCORES in output.kinds and _is_stream(output.path)):
            continue
        if RECORDING in output.kinds:  # a collection may hold it
            folders = [(given.option, given.path) for given in reads if given.path and given.path.is_dir()]
            taken |= {identity(file): option for option, folder in folders for file in folder.rglob("*")}
        this = identity(output.path)
        if this in taken:
            raise UsageError(f"{output.path}: {output.option} would write over {taken[this]}; give it another name")
        taken[this] = output.option
        _keep_other_kinds(output, output.path, force)


def data_path(data: str | None) -> Path | None:
    """The file or folder that DATA, `[FORMAT:]PATH[#ITEM]`, names."""
    if data is None:
        return None
    from edgekd.data.formats import split_spec

    return split_spec(data)[1]


def marks_path(marks: str | None) -> Path | None:
    """The file that --marks, `PATH[#STREAM]`, names."""
    if marks is None:
        return None
    from edgekd.data.marks import split_stream

    return split_stream(marks)[0]


def open_text(path: Path) -> AbstractContextManager[BinaryIO]:
    """A file to write text to: whole or not there, see `atomic`; or a stream as it is, standard output or a pipe."""
    if identity(path) == identity(STDOUT):
        return os.fdopen(os.dup(1), "wb")  # a file that it leads to, opened anew, would be written from its beginning
    return path.open("wb") if _is_stream(path) else atomic(path)


def _is_stream(path: Path) -> bool:
    """Whether nothing is ever destroyed there: a terminal, a pipe, /dev/null, standard output wherever it leads."""
    return kind_of(path) == STREAM or identity(path) == identity(STDOUT)


def _require_kind(given: File, path: Path) -> None:
    if RECORDING not in given.kinds:
        require(path, given.kinds)
    elif (kind := kind_of(path)) in MODELS:
        raise UsageError(f"{path} is {kind}, not a recording; {given.way_out or f'{given.option} takes a recording'}")


def _keep_other_kinds(output: File, path: Path, force: bool) -> None:
    kind = kind_of(path)
    if kind not in (MISSING, EMPTY, *output.kinds):
        would = f"{output.option} would write {output.kinds[0]} over it"
        raise UsageError(f"{path}: is {kind}, and {would}; give another name")
    if kind == RECORDING and not force:
        raise UsageError(f"{path}: is a recording, and none is written over without --force; give another name")
    if PLOT in output.kinds and path.suffix.lower() not in PLOTS:
        raise UsageError(f"{path}: cannot write a plot by that name; give one that ends in .png, .svg or .pdf")
