"""Images for a model that judges each by itself: files of a folder, or raw bytes piped in.

`.npy`, `.pgm` (P5 or P2, at most 255 grey values), and `.raw` or `.bin`: uint8, or little-endian float32 by their size.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from edgekd.runtime.errors import UsageError
from edgekd.runtime.json_fields import shown
from edgekd.runtime.sources import InputEvent, Items, NoSample, Row, Source, Tally

SUFFIXES = (".npy", ".pgm", ".raw", ".bin")
KINDS: dict[str, np.dtype[Any]] = {"uint8": np.dtype(np.uint8), "float32": np.dtype("<f4")}
HEADER_BYTES, PIXEL_BYTES = 2**16, 32  # no format takes more; what is larger need not be read to be refused
_PGM = re.compile(rb"P([25])(?:\s|#[^\n]*\n)+(\d{1,6})(?:\s|#[^\n]*\n)+(\d{1,6})(?:\s|#[^\n]*\n)+(\d{1,5})\s")


class FrameReader(Tally):
    """Files or bytes to images of one shape, (rows, columns); counts those that were none."""

    unit = "images"

    def __init__(self, shape: tuple[int, int], kind: str = "uint8") -> None:
        """kind: of the numbers, where images come one after the other without anything between them."""
        self.shape = shape
        self._kind = KINDS[kind]
        self._size = shape[0] * shape[1] * self._kind.itemsize
        self._pending = bytearray()
        self._count = 0

    def read(self, path: Path) -> np.ndarray:
        """The image in a file, float32 (rows, columns). Raises NoSample where it is none, or of another shape."""
        suffix = path.suffix.lower()
        try:
            size = path.stat().st_size
            if not path.is_file() or size > HEADER_BYTES + PIXEL_BYTES * self.shape[0] * self.shape[1]:
                raise NoSample(f"is no file, or has too many bytes ({size}) for an image of {_by(self.shape)}")
            if suffix == ".npy":
                image = np.load(path, allow_pickle=False)
            else:
                image = (_pgm if suffix == ".pgm" else self._raw)(path.read_bytes())
        except NoSample:
            raise
        except Exception as error:  # NumPy reads a header as Python, and says no in many ways
            raise NoSample(f"cannot be read ({shown(str(error), 100)})") from None
        if not isinstance(image, np.ndarray) or image.dtype.kind not in "fiub":
            raise NoSample("holds no array of numbers")
        image = image[..., 0] if image.ndim == 3 and image.shape[2] == 1 else image
        if image.shape != self.shape:
            raise NoSample(f"is {_by(image.shape)}, the model takes images of {_by(self.shape)}")
        return image.astype(np.float32)

    def feed(self, data: bytes) -> list[Row | InputEvent]:
        """The images that `data` completes."""
        self._pending += data
        rows: list[Row | InputEvent] = []
        for at in range(0, len(self._pending) - self._size + 1, self._size):
            image = np.frombuffer(self._pending[at : at + self._size], self._kind).reshape(self.shape)
            rows.append(Row(image.astype(np.float32), frame=str(self._count)))
            self._count += 1
        del self._pending[: len(rows) * self._size]
        return rows

    def end(self) -> list[Row | InputEvent]:
        """Nothing: what is left is no image."""
        if self._pending:
            self.refuse(f"the last image is cut short, {len(self._pending)} of {self._size} bytes")
        return []

    def _raw(self, data: bytes) -> np.ndarray:
        pixels = self.shape[0] * self.shape[1]
        for kind in KINDS.values():
            if len(data) == pixels * kind.itemsize:
                return np.frombuffer(data, kind).reshape(self.shape)
        want = f"an image of {_by(self.shape)} has {pixels} (or {4 * pixels} as float32)"
        raise NoSample(f"has {len(data)} bytes, {want}")


class FrameFiles(Source):
    """The images of a folder in the order of their names, once. Raises UsageError where there are none."""

    live = False

    def __init__(self, folder: str | Path, shape: tuple[int, int]) -> None:
        self.name = str(folder)
        self.rows: FrameReader = FrameReader(shape)
        self._skip = 0
        told = shown(self.name, 300)
        try:
            self._paths = sorted(path for path in Path(folder).iterdir() if path.suffix.lower() in SUFFIXES)
        except OSError as error:
            raise UsageError(f"{told}: {error.strerror}; give a folder of images") from None
        if not self._paths:
            raise UsageError(f"{told}: holds no images; {', '.join(SUFFIXES)} are read")

    def seek(self, sample: int) -> None:
        """Leave out the images before this sample; bad ones were no samples and are not counted."""
        self._skip = sample // self.rows.shape[0]

    def __iter__(self) -> Iterator[Items]:
        for path in self._paths:
            try:
                row = Row(self.rows.read(path), frame=shown(path.name, 300))
                yield [row] * (not self._skip)
                self._skip = max(0, self._skip - 1)
            except NoSample as bad:
                if not self._skip:
                    self.rows.refuse(f"{shown(path.name, 100)} {bad}")
                yield []


def parse_raw(text: str, shape: tuple[int, int]) -> str:
    """Kind of number in `ROWSxCOLUMNS[:KIND]`, as `--raw` takes it; UsageError where it is not the model's shape."""
    found = re.fullmatch(rf"(\d+)x(\d+)(?::({'|'.join(KINDS)}))?", text)
    if not found:
        raise UsageError(f"--raw {shown(text, 80)}: write rows and columns, as in 28x28 or 28x28:float32")
    if (int(found[1]), int(found[2])) != shape:
        raise UsageError(f"--raw {text}: the model takes images of {_by(shape)}; resize or crop them to it")
    return found[3] or "uint8"


def _pgm(data: bytes) -> np.ndarray:
    head = _PGM.match(data)
    if not head or not 0 < int(head[4]) <= 255:
        raise NoSample("is no PGM picture of at most 255 grey values")
    columns, rows = int(head[2]), int(head[3])
    if head[1] == b"5":
        pixels = np.frombuffer(data[head.end() :][: rows * columns], np.uint8)
    else:
        words = data[head.end() :].split()
        if not all(word.isdigit() and len(word) <= 3 for word in words):
            raise NoSample("is a PGM picture with something that is no grey value")
        pixels = np.array([int(word) for word in words], np.int64)
    if len(pixels) != rows * columns:
        raise NoSample(f"is cut short, {len(pixels)} of {rows * columns} pixels")
    return pixels.reshape(rows, columns)


def _by(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape)) or "a single number"
