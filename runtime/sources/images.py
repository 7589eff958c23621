"""Images for a model that judges each by itself: files of a folder, or raw bytes piped in.

Files are `.npy` arrays, `.pgm` pictures (P5 or P2, at most 255 grey values), and `.raw` or `.bin` bytes without a
header: uint8, or little-endian float32 where the file is four times as long. Values are raw units, as in training.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from edgekd.runtime.errors import UsageError
from edgekd.runtime.json_fields import shown
from edgekd.runtime.sources import Items, Row
from edgekd.runtime.sources.stdin import pieces, wait_for

SUFFIXES = (".npy", ".pgm", ".raw", ".bin")
KINDS: dict[str, np.dtype[Any]] = {"uint8": np.dtype(np.uint8), "float32": np.dtype("<f4")}
MAX_FILE_BYTES = 64 * 2**20
_PGM = re.compile(rb"P([25])(?:\s|#[^\n]*\n)+(\d{1,6})(?:\s|#[^\n]*\n)+(\d{1,6})(?:\s|#[^\n]*\n)+(\d{1,5})\s")


class BadFrame(ValueError):
    """An image that is none, or not of the model's size; the text says why."""


class FrameReader:
    """Bytes to images of one shape, (rows, columns); counts those that were none."""

    unit = "images"
    clocked = False

    def __init__(self, shape: tuple[int, int]) -> None:
        self.shape = shape
        self.bad = 0
        """Images so far that were none."""
        self.last_bad = ""
        """Why the newest of them was none."""

    def read(self, path: Path) -> np.ndarray:
        """The image in a file, float32 (rows, columns). Raises BadFrame."""
        try:
            if path.stat().st_size > MAX_FILE_BYTES:
                raise BadFrame(f"larger than {MAX_FILE_BYTES >> 20} MiB")
            if path.suffix.lower() == ".npy":
                return self.fitting(np.load(path, allow_pickle=False))
            data = path.read_bytes()
        except BadFrame:
            raise
        except (OSError, ValueError, EOFError) as error:
            raise BadFrame(f"cannot be read ({shown(str(error), 100)})") from None
        return self.fitting(_pgm(data) if path.suffix.lower() == ".pgm" else self._raw(data))

    def fitting(self, image: np.ndarray) -> np.ndarray:
        """The image as float32. Raises BadFrame where it is of another shape or holds no numbers."""
        if image.dtype.kind not in "fiub":
            raise BadFrame("holds no numbers")
        image = image[..., 0] if image.ndim == 3 and image.shape[2] == 1 else image
        if image.shape != self.shape:
            raise BadFrame(f"is {_by(image.shape)}, the model takes images of {_by(self.shape)}")
        return image.astype(np.float32)

    def _raw(self, data: bytes) -> np.ndarray:
        pixels = self.shape[0] * self.shape[1]
        for kind in KINDS.values():
            if len(data) == pixels * kind.itemsize:
                return np.frombuffer(data, kind).reshape(self.shape)
        raise BadFrame(
            f"has {len(data)} bytes, an image of {_by(self.shape)} has {pixels} (or {4 * pixels} as float32)"
        )

    def skip(self, name: str, reason: object) -> None:
        """Count an image that is none."""
        self.bad += 1
        self.last_bad = f"{name} {reason}"


class FrameFiles:
    """The images of a folder in the order of their names, once. UsageError where the first one does not fit."""

    live = False

    def __init__(self, folder: str | Path, shape: tuple[int, int]) -> None:
        self.name = str(folder)
        self.rows = FrameReader(shape)
        told = shown(self.name, 300)
        try:
            found = sorted(path for path in Path(folder).iterdir() if path.suffix.lower() in SUFFIXES)
        except OSError as error:
            raise UsageError(f"{told}: {error.strerror}; give a folder of images") from None
        if not found:
            raise UsageError(f"{told}: holds no images; {', '.join(SUFFIXES)} are read")
        try:
            self.rows.read(found[0])
        except BadFrame as bad:
            raise UsageError(f"{shown(found[0].name, 300)} {bad}; resize or crop the images to it") from None
        self._paths = found

    def seek(self, sample: int) -> None:
        """Leave out the images before this sample; bad ones were no samples and are not counted."""
        left = sample // self.rows.shape[0]
        while left and self._paths:
            try:
                self.rows.read(self._paths.pop(0))
                left -= 1
            except BadFrame:
                continue

    def wait(self, seconds: float) -> None:
        """All of a folder is there already."""

    def __iter__(self) -> Iterator[Items]:
        for path in self._paths:
            try:
                yield [Row(self.rows.read(path), frame=shown(path.name, 300))]
            except BadFrame as bad:
                self.rows.skip(shown(path.name, 100), bad)
                yield ()


class FrameBytes:
    """Images one after the other on a file descriptor, without anything between them."""

    live = True
    name = "standard input"

    def __init__(self, shape: tuple[int, int], kind: str = "uint8", fd: int = 0) -> None:
        self.rows = FrameReader(shape)
        self._kind = KINDS[kind]
        self._size = shape[0] * shape[1] * self._kind.itemsize
        self._fd = fd
        self._count = 0

    def seek(self, sample: int) -> None:
        """A pipe cannot be sought."""
        raise NotImplementedError

    def wait(self, seconds: float) -> None:
        """See `Source.wait`."""
        wait_for(self._fd, seconds)

    def __iter__(self) -> Iterator[Items]:
        pending = bytearray()
        for data in pieces(self._fd):
            pending += data
            whole = len(pending) // self._size * self._size
            yield [self._row(bytes(pending[at : at + self._size])) for at in range(0, whole, self._size)]
            del pending[:whole]
        if pending:
            self.rows.skip("the last image", f"is cut short, {len(pending)} of {self._size} bytes")
        yield ()

    def _row(self, data: bytes) -> Row:
        self._count += 1
        image = np.frombuffer(data, self._kind).reshape(self.rows.shape).astype(np.float32)
        return Row(image, frame=str(self._count - 1))


def parse_raw(text: str, shape: tuple[int, int]) -> str:
    """Kind of number in `ROWSxCOLUMNS[:KIND]`, as `--raw` takes it; UsageError where it is not the model's shape."""
    found = re.fullmatch(r"(\d+)x(\d+)(?::(\w+))?", text)
    kind = (found and found[3]) or "uint8"
    if not found or kind not in KINDS:
        raise UsageError(f"--raw {shown(text, 80)}: write rows and columns, as in 28x28 or 28x28:float32")
    if (int(found[1]), int(found[2])) != shape:
        raise UsageError(f"--raw {text}: the model takes images of {_by(shape)}; resize or crop them to it")
    return kind


def _pgm(data: bytes) -> np.ndarray:
    head = _PGM.match(data)
    if not head or not 0 < int(head[4]) <= 255:
        raise BadFrame("is no PGM picture of at most 255 grey values")
    columns, rows = int(head[2]), int(head[3])
    if head[1] == b"5":
        pixels = np.frombuffer(data[head.end() :][: rows * columns], np.uint8)
    else:
        words = data[head.end() :].split()
        if not all(word.isdigit() and len(word) <= 3 for word in words):
            raise BadFrame("is a PGM picture with something that is no grey value")
        pixels = np.array([int(word) for word in words], np.int64)
    if len(pixels) != rows * columns:
        raise BadFrame(f"is cut short, {len(pixels)} of {rows * columns} pixels")
    return pixels.reshape(rows, columns)


def _by(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape)) or "a single number"
