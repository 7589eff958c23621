"""NumPy archives: open them safely, with messages that name the file."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from edgekd.runtime.errors import RecordingError


def keys(path: Path) -> list[str]:
    """Names of the arrays in an archive; empty where the file is no readable archive."""
    try:
        with zipfile.ZipFile(path) as archive:
            return [name.removesuffix(".npy") for name in archive.namelist()]
    except (OSError, zipfile.BadZipFile):
        return []


def read(path: Path, names: list[str]) -> Mapping[str, np.ndarray]:
    """The named arrays. Pickled objects are refused.

    Raises RecordingError where the file is damaged or an array is missing.
    """
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in names}
    except KeyError as error:
        raise RecordingError(f"{path}: {error.args[0]}; the archive is not in the layout it looks like") from error
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise RecordingError(f"{path}: not a readable NumPy archive ({error}); get the file again") from error
