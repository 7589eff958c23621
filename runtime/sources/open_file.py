"""Any file of a logger, opened as UTF-8 lines: compressed, in another encoding, one JSON array."""

from __future__ import annotations

import codecs
import gzip
import io
import json
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path

from edgekd.runtime.errors import UsageError
from edgekd.runtime.json_fields import shown
from edgekd.runtime.sources import CHUNK_BYTES

GZIP, ZIP, WORKBOOK = b"\x1f\x8b", b"PK\x03\x04", "xl/workbook.xml"
MAX_ITEM = 2**20  # characters of one sample in a JSON array: 4096 sensors with long names
_BETWEEN = re.compile(r"[\s,]*")
_ARRAY = re.compile(rb"\[\s*[\[{]")
BOMS = {codecs.BOM_UTF8: "utf-8-sig", codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}


def chunks(path: str | Path, encoding: str = "") -> Iterator[bytes]:
    """The text of a file in UTF-8, piece by piece. encoding: "" is UTF-8, or what its first bytes say.

    Opens the file when the first piece is asked for. Raises OSError, and UsageError for what holds no text.
    """
    with Path(path).open("rb") as file:
        yield from _texts(file, shown(str(path), 300), encoding)


def _texts(file: io.BufferedReader, name: str, encoding: str) -> Iterator[bytes]:
    head = file.peek(4096)[:4096]
    try:
        if head.startswith(GZIP):
            yield from _texts(io.BufferedReader(gzip.GzipFile(fileobj=file)), name, encoding)  # type: ignore[type-var]
        elif head.startswith(ZIP):
            yield from _packed(file, name, encoding)
        else:
            yield from _text(file, head, name, encoding)
    except Exception as error:  # of zlib, lzma and zipfile, of many kinds
        if isinstance(error, UsageError) or (isinstance(error, OSError) and error.errno):  # said already, or the disk's
            raise
        raise UsageError(f"{name}: damaged ({error}); pack it again") from None


def _packed(file: io.BufferedReader, name: str, encoding: str) -> Iterator[bytes]:
    with zipfile.ZipFile(file) as archive:
        members = [member for member in archive.namelist() if not member.endswith("/")]
        if WORKBOOK in members:
            raise UsageError(f"{name}: is a workbook; save its sheet as CSV")
        elif len(members) == 1:
            with archive.open(members[0]) as member:
                yield from _texts(io.BufferedReader(member), name, encoding)  # type: ignore[arg-type]
        else:
            raise UsageError(f"{name}: holds {len(members)} files; unpack it and name one of them")


def _text(file: io.BufferedReader, head: bytes, name: str, encoding: str) -> Iterator[bytes]:
    found = next((kind for mark, kind in BOMS.items() if head.startswith(mark)), encoding or "utf-8")
    if not found.startswith("utf-16") and b"\0" in head:
        raise UsageError(f"{name}: is no text; export it as CSV")
    if found.startswith("utf-8") and _is_array(head.removeprefix(codecs.BOM_UTF8).lstrip()):
        yield from _samples(file)
    elif found == "utf-8":
        while data := file.read1(CHUNK_BYTES):
            yield data
    else:
        with io.TextIOWrapper(file, found, errors="replace", newline="") as text:
            while part := text.read(CHUNK_BYTES):
                yield part.encode("utf-8", "replace")


def _is_array(head: bytes) -> bool:
    """Whether a file that begins so is one JSON array of samples; lines of arrays are lines."""
    line, _, more = head.partition(b"\n")
    try:
        json.loads(line)
    except (ValueError, RecursionError):
        more = b""
    return not more.strip() and _ARRAY.match(head) is not None


def _samples(file: io.BufferedReader) -> Iterator[bytes]:
    """The samples of a JSON array as a line each; what comes behind it, or is none, as it is."""
    decode = json.JSONDecoder().raw_decode
    with io.TextIOWrapper(file, "utf-8-sig", errors="replace") as text:
        left, at, lines = text.read(CHUNK_BYTES).lstrip(), 1, ""
        while True:
            try:
                at = _BETWEEN.match(left, at).end()  # type: ignore[union-attr]
                item, at = decode(left, at)
                lines += f"{json.dumps(item)}\n"
            except (ValueError, RecursionError):
                if lines:
                    yield lines.encode()
                left, at, lines = left[at:], 0, ""
                if len(left) > MAX_ITEM or not (more := text.read(CHUNK_BYTES)):
                    break
                left += more
        left = left.removeprefix("]")
        while left:
            yield left.encode("utf-8", "replace")
            left = text.read(CHUNK_BYTES)
