"""Importing an engine: each way in which that is known to fail becomes one line with the pin that mends it."""

from __future__ import annotations

import contextlib
import importlib
import io
import os
import platform
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgekd.runtime.errors import MissingExtra, UsageError
from edgekd.runtime.json_fields import shown

PYTHON = sys.version_info[:2]
_NUMPY_WORDS = ("multiarray failed to import", "_ARRAY_API not found", "using NumPy 1.x")


@dataclass(frozen=True)
class Package:
    """A package that can run one kind of file."""

    name: str  # as pip knows it
    module: str  # what is imported
    needs: str  # what the module must hold
    pin: str  # what pip should be given to install it anew
    bad: tuple[str, ...] = ()  # versions that are known to do harm, by how they begin
    better: str = ""  # what pip should be given instead of those

    @property
    def version(self) -> str:
        """Installed version, found without importing it; empty where nobody knows."""
        written = self.name.replace("-", "_")
        for folder in sys.path:  # `importlib.metadata` does it with 4 MB of memory
            for found in Path(folder).glob(f"{written}-*.*-info"):
                return found.stem.split("-")[1]
        return ""

    @property
    def another(self) -> str:
        """What takes another build of it than the one that is installed."""
        if self is TFLITE_RUNTIME:
            return "export again with --target tflite-runtime, and without --int8 if that does not help"
        if not self.version:
            return f"pip install --force-reinstall {self.pin} may mend it"
        return f"pip install '{self.name}!={self.version}' takes another version"

    def broken(self, how: str) -> UsageError:
        """The line for a package that is installed and does not get as far as a model."""
        return UsageError(f"{self.name} is installed {how}; pip install --force-reinstall {self.pin} mends it")

    def __str__(self) -> str:
        return f"{self.name} {self.version}".rstrip()


# 1.21.0 dies of SIGILL on a Raspberry Pi 4; from 1.24 until 1.27 convolutions leak on ARM, and results can depend on an
# earlier session.
_BAD = ("1.21.0.", "1.24.", "1.25.", "1.26."), "'onnxruntime>=1.27'"
ONNXRUNTIME = Package("onnxruntime", "onnxruntime", "InferenceSession", "'edgekd[onnx]'", *_BAD)
LITERT = Package("ai-edge-litert", "ai_edge_litert.interpreter", "Interpreter", "'edgekd[tflite]'")
_PIN = "'tflite-runtime==2.14.0' 'numpy<2'"
TFLITE_RUNTIME = Package("tflite-runtime", "tflite_runtime.interpreter", "Interpreter", _PIN)
PACKAGES = {"onnx": (ONNXRUNTIME,), "tflite": (LITERT, TFLITE_RUNTIME)}
"""Kind of file -> packages that run it, the preferred one first."""


def load_engine_package(kind: str) -> tuple[Package, Any]:
    """The first installed package for a kind of file, and its module; raises UsageError where there is no good one."""
    for package in PACKAGES[kind]:
        if (module := load_package(package)) is not None:
            return package, module
    # a 64-bit kernel under a 32-bit system calls itself aarch64, and wheels go by the system
    if sys.maxsize > 2**32 or not platform.machine().startswith(("arm", "aarch64")):
        raise MissingExtra(PACKAGES[kind][0].name, kind)
    file = "a file from edgekd export --format tflite --target tflite-runtime"
    if PYTHON > (3, 11):  # the last one with a wheel of tflite-runtime
        none = f"no engine has a wheel for 32-bit ARM and Python {PYTHON[0]}.{PYTHON[1]}: take a 64-bit system"
        raise UsageError(f"{none}, or Python 3.11 (Debian bookworm) and {file}")
    if kind == "onnx":
        none = "onnxruntime has no wheel for 32-bit ARM: take a 64-bit system"
        raise UsageError(f"{none}, or {file} and pip install {TFLITE_RUNTIME.pin}")
    raise UsageError(f"no TFLite engine is installed; pip install {TFLITE_RUNTIME.pin} brings it")


def load_package(package: Package) -> Any:
    """The package's module, or None where it is not installed; raises UsageError where it is no good."""
    if f"{package.version}.".startswith(package.bad):
        raise UsageError(f"{package} is known to crash, leak or miscompute; pip install {package.better} mends it")
    try:
        with hushed():
            module = importlib.import_module(package.module)
    except ModuleNotFoundError as error:
        if error.name == package.module.partition(".")[0]:
            return None
        if error.name and error.name != package.module:
            raise package.broken(f"without {error.name}") from None
        module = None
    except Exception as error:  # a broken wheel fails in many ways: ImportError, OSError, AttributeError …
        how = f"but does not start ({shown(str(error), 200)})"
        raise numpy_mismatch(package, error) or package.broken(how) from None
    if not hasattr(module, package.needs):  # a half-removed package leaves an empty namespace behind
        raise package.broken("but empty")
    return module


def numpy_mismatch(package: Package, error: BaseException | None) -> UsageError | None:
    """The line where what went wrong, or what led to it, is NumPy's refusal of a module built for NumPy 1."""
    for _ in range(8):
        if any(words in str(error) for words in _NUMPY_WORDS):
            newer = f", or pip install -U {package.name}" if package is not TFLITE_RUNTIME else ""
            older = f"{package} was built for NumPy 1 and does not start under NumPy {np.__version__}"
            return UsageError(f"{older}; pip install 'numpy<2' mends it{newer}")
        error = error and (error.__cause__ or error.__context__)
    return None


_HUSH = threading.Lock()


@contextlib.contextmanager
def hushed() -> Iterator[None]:
    """Nothing reaches standard error, where TFLite greets and NumPy explains itself; what goes wrong is raised too."""
    with _HUSH, contextlib.redirect_stderr(io.StringIO()), contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError):  # a daemon may have closed it
            kept = os.dup(2)
            stack.callback(os.close, kept)
            stack.callback(os.dup2, kept, 2)
            with Path(os.devnull).open("wb") as nowhere:
                os.dup2(nowhere.fileno(), 2)
        yield
