"""MNIST and Fashion-MNIST (LeCun et al. 1998; Xiao et al. 2017): one class is normal, the others are anomalies.

    DIR/train-images-idx3-ubyte  train-labels-idx1-ubyte  t10k-images-idx3-ubyte  t10k-labels-idx1-ubyte    (or .gz)

An item is a class, `0` to `9`. Its train part is the training images of the class; its test part is all test images of
the class and as many of the other classes, drawn with a fixed seed, in random order and labeled. Without an item, the
parts are all their images, unlabeled: what serves as outliers for another set.

An image is `Recording.frame` rows one after the other, its columns of pixels are the sensors, grey values 0 to 255.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np

from edgekd.data.recording import Recording
from edgekd.data.request import Request, parts, pick
from edgekd.runtime.errors import RecordingError

FASHION = ("t-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle-boot")
DIGITS = tuple("0123456789")
NAMES = {"mnist": DIGITS, "fashion-mnist": FASHION}
"""What the classes are called; a class can also be given by its number."""
STEMS = {"train": "train", "test": "t10k"}
UNSIGNED_BYTE = 8  # the type code of both kinds of file
TEST_SEED = 0  # of the other classes' images and of the order: the same test set for everybody
PERIOD_S = 1.0
"""Nominal: images have no clock."""


def matches(path: Path) -> bool:
    """Whether a folder holds the training images."""
    return path.is_dir() and any(path.glob("train-images-idx3-ubyte*"))


def loader(name: str) -> Callable[[Request], Recording]:
    """`load` of one of the two sets: "mnist" or "fashion-mnist"."""
    return lambda request: _load(request, name)


def _load(request: Request, name: str) -> Recording:
    if not request.path.is_dir():
        raise RecordingError(f"{request.path}: is a file; name the folder with the four idx files")
    chosen = None if request.item is None else _class(request, name)
    return parts(request, lambda: _train(request, name, chosen), lambda: _test(request, name, chosen))


def _class(request: Request, name: str) -> int:
    known = {word: i for i, word in enumerate(NAMES[name])}
    if request.item in DIGITS:
        return int(request.item)
    return known[pick(request, list(known) if name != "mnist" else list(DIGITS), "class")]


def _train(request: Request, name: str, chosen: int | None) -> Recording:
    images, labels = read(request.path, "train")
    return recording(images if chosen is None else images[labels == chosen], _source(name, chosen), request.period_s)


def _test(request: Request, name: str, chosen: int | None) -> Recording:
    images, labels = read(request.path, "test")
    if chosen is None:
        return recording(images, _source(name, None), request.period_s)
    order = balanced(labels, chosen)
    return recording(images[order], _source(name, chosen), request.period_s, labels[order] != chosen)


def _source(name: str, chosen: int | None) -> str:
    return name if chosen is None else f"{name}#{chosen}"


def balanced(labels: np.ndarray, chosen: int) -> np.ndarray:
    """Indices of all images of a class and of as many others, mixed; `labels` uint8 (N,)."""
    draw = np.random.default_rng(TEST_SEED)
    normal, others = np.flatnonzero(labels == chosen), np.flatnonzero(labels != chosen)
    return draw.permutation(np.concatenate([normal, draw.choice(others, min(len(normal), len(others)), replace=False)]))


def recording(
    images: np.ndarray, source: str, period_s: float | None = None, anomalous: np.ndarray | None = None
) -> Recording:
    """Images uint8 (N, rows, columns) as a recording of N times `rows` samples; `anomalous` bool (N,)."""
    if not len(images):
        raise RecordingError(f"{source}: no images; get the files again")
    _, rows, columns = images.shape
    return Recording(
        values=images.reshape(-1, columns).astype(np.float32),
        sensors=tuple(f"column_{i + 1:02}" for i in range(columns)),
        period_s=period_s or PERIOD_S,
        labels=None if anomalous is None else np.repeat(anomalous, rows),
        source=source,
        frame=rows,
    )


def read(folder: Path, part: str) -> tuple[np.ndarray, np.ndarray]:
    """Images uint8 (N, rows, columns) and labels uint8 (N,) of "train" or "test".

    Raises RecordingError where a file is missing or damaged, or the two are not of one set.
    """
    images = _idx(folder / f"{STEMS[part]}-images-idx3-ubyte", 3)
    labels = _idx(folder / f"{STEMS[part]}-labels-idx1-ubyte", 1)
    if len(images) != len(labels):
        raise RecordingError(f"{folder}: {len(images)} {part} images but {len(labels)} labels; get the files again")
    return images, labels


def _idx(path: Path, dimensions: int) -> np.ndarray:
    """An idx file: two zeros, the type, the number of dimensions, each as a big-endian int32, then the bytes."""
    data = _bytes(path)
    head = 4 + 4 * dimensions
    if data[:4] != bytes((0, 0, UNSIGNED_BYTE, dimensions)) or len(data) < head:
        raise RecordingError(f"{path}: not an idx file of bytes in {dimensions} dimensions; get the file again")
    shape = tuple(int(size) for size in np.frombuffer(data, ">u4", dimensions, 4))
    if len(data) - head != int(np.prod(shape, dtype=np.int64)):
        raise RecordingError(
            f"{path}: {len(data) - head:,} bytes, but {' x '.join(map(str, shape))} are stated; get the file again"
        )
    return np.frombuffer(data, np.uint8, offset=head).reshape(shape)


def _bytes(path: Path) -> bytes:
    packed = path.with_name(f"{path.name}.gz")
    try:
        return path.read_bytes() if path.exists() else gzip.decompress(packed.read_bytes())
    except FileNotFoundError:
        raise RecordingError(f"{path}: missing, and no {packed.name} either; put the four idx files there") from None
    except (OSError, EOFError, zlib.error) as error:
        raise RecordingError(f"{packed}: cannot be read ({error}); get the file again") from None
