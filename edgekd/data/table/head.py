"""The lines of a file, whatever its encoding, and the first of them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from edgekd.data.table import workbook
from edgekd.runtime.errors import RecordingError, UsageError
from edgekd.runtime.sources.open_file import chunks
from edgekd.runtime.sources.row_reader import LineSplitter

BATCH_BYTES = 1 << 18
HEAD_LINES = 400
LONGEST_LINE = 1 << 20
ENCODINGS = [*(f"cp125{i}" for i in range(9)), "cp850", "cp437", "iso8859-2", "iso8859-5", "iso8859-15"]
USUAL = frozenset("°µμ²³äöüÄÖÜßéèêëàâáíìîóòôúùûñçÇÉ±·–…×ØøåÅæÆ½¼¾‰€“”„’´\u00a0")
"""What is not ASCII in a header of Western Europe."""
_ODD = re.compile(r"\w[\u2013-\u2122\u2026]\w|\bø[CF]\b")
"""What other encodings look like when they are read as Windows-1252."""


@dataclass(frozen=True)
class Line:
    """A line that says something."""

    number: int
    """From 1."""
    text: str
    count: int = 1
    """Lines that it takes: a name in quotes may hold line breaks."""


def batches(path: Path, encoding: str) -> Iterator[tuple[list[bytes], bool]]:
    """The lines of a file, some thousand at once, and whether each is ended; UTF-8.

    Raises RecordingError where it cannot be read.
    """
    splitter, batch, size = LineSplitter(LONGEST_LINE), [], 0
    try:
        for piece in workbook.lines(path) if workbook.is_workbook(path) else chunks(path, encoding):
            batch.append(piece)
            size += len(piece)
            if size >= BATCH_BYTES and not piece.endswith(b"\r"):
                yield splitter.feed(b"".join(batch).replace(b"\r\n", b"\n")), True
                batch, size = [], 0
        yield splitter.feed(b"".join(batch).replace(b"\r\n", b"\n")), True
        yield splitter.end(), False
    except OSError as error:
        raise RecordingError(f"{path}: cannot be read ({error.strerror or error}); check its permissions") from error
    except UsageError as error:
        raise RecordingError(str(error)) from error


def head_of(path: Path, encoding: str) -> tuple[str, list[Line]]:
    """The encoding of a file, where `encoding` is not it already, and its first lines that say something.

    Raises RecordingError where it cannot be read, or holds nothing.
    """
    try:
        content = _beginning(path, encoding)
    except RecordingError as error:
        if encoding or "is no text" not in str(error):
            raise
        for kind in ("utf-16-le", "utf-16-be"):  # without the mark that tells it
            text = _beginning(path, kind).decode()
            if text and sum(map(str.isascii, text)) > 0.9 * len(text) and "\0" not in text:
                return head_of(path, kind)
        raise RecordingError(f"{path}: not a text file; export it as CSV") from error
    if not encoding and (found := encoding_of(content)):
        return head_of(path, found)
    texts = content.decode("utf-8", "replace").removeprefix("\ufeff").split("\n")
    head = [Line(i, text) for i, text in enumerate(texts, 1) if text.strip()]
    if not head:
        raise RecordingError(f"{path}: empty; a recording needs a header and at least one row")
    return encoding, head


def _beginning(path: Path, encoding: str) -> bytes:
    raw: list[bytes] = []
    for lines, _ in batches(path, encoding):
        raw += lines
        if len(raw) > HEAD_LINES:
            break
    return b"\n".join(raw)


def encoding_of(content: bytes) -> str:
    """ "" for UTF-8, else what the bytes are likeliest to be."""
    try:
        content.decode()
        return ""
    except UnicodeDecodeError as error:
        if error.reason == "unexpected end of data":
            return ""
    western = content.decode("cp1252", "replace")
    if not {c for c in western if not c.isascii()} <= USUAL or _ODD.search(western):
        from charset_normalizer import from_bytes

        best = from_bytes(content, cp_isolation=ENCODINGS).best()
        if best is not None:
            return best.encoding.replace("_", "-")
    return "cp1252"
