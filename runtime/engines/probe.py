"""Trying an engine in a process of its own: some wheels kill the process that imports them, and say nothing.

onnxruntime 1.21.0 died of an illegal instruction on every Raspberry Pi 4; tflite-runtime's kernels for some int8 graphs
do on ARM. `edgekd-run --check` asks here first, so that it can tell.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from edgekd.runtime.container import container_of
from edgekd.runtime.engines.imports import PACKAGES, TFLITE_RUNTIME, Package, load_package
from edgekd.runtime.errors import EdgeKDError, UsageError

TIMEOUT_S = 300.0  # an emulated or very busy board is slow, and it may still be right
_STAGES = {"import": "when it is imported", "load": "while it loads this model", "run": "while it runs this model"}
_REASONS = {
    signal.SIGILL: ": it uses instructions that this processor lacks",
    signal.SIGKILL: ": memory may be too short",
}


def probe(path: str | Path) -> None:
    """Import the engine for a model file, load the file and replay its self-test, all in a child process.

    Raises UsageError where the child dies of a signal or hangs. What it meets in any other way, the caller will meet.
    """
    if not sys.executable:  # Python inside another program
        return
    command = [
        sys.executable,
        "-P",
        "-c",
        "from edgekd.runtime.engines.probe import main; main()",
        str(Path(path).resolve()),
    ]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(str(Path(p).absolute()) for p in sys.path)}
    try:
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired as error:
        output = (error.stdout or b"").decode() if isinstance(error.stdout, bytes) else error.stdout or ""
        package, stage = _last(output)
        if package:
            raise UsageError(f"{package} hangs {stage}, for {TIMEOUT_S:g} s; {_another(package)}") from None
        return
    if done.returncode >= 0:
        return
    package, stage = _last(done.stdout)
    if package:
        died = signal.Signals(-done.returncode)
        raise UsageError(f"{package} dies of {died.name} {stage}{_REASONS.get(died, '')}; {_another(package)}")


def main() -> None:
    """The child: one line for each stage before it begins, `STAGE PACKAGE`."""
    _no_core_file()
    from edgekd.runtime import manifest as manifest_file
    from edgekd.runtime.engines import load_engine
    from edgekd.runtime.selftest import run_self_test

    try:
        manifest, model = manifest_file.read(sys.argv[1])
        for package in PACKAGES[container_of(model).name]:
            print("import", package.name, flush=True)
            if load_package(package) is not None:
                break
        print("load", package.name, flush=True)
        engine = load_engine(model, manifest)
        print("run", package.name, flush=True)
        run_self_test(engine, manifest)
    except EdgeKDError:
        pass  # the parent comes to it and tells it


def _last(output: str) -> tuple[Package | None, str]:
    """The package that was at work and what it was at, from the child's last whole line."""
    lines = [line for line in output.splitlines(keepends=True) if line.endswith("\n")]
    stage, _, name = lines[-1].strip().partition(" ") if lines else ("", "", "")
    for package in (package for kind in PACKAGES.values() for package in kind):
        if package.name == name and stage in _STAGES:
            return package, _STAGES[stage]
    return None, ""


def _another(package: Package) -> str:
    version = package.version
    if package is TFLITE_RUNTIME:
        return "export again with --target tflite-runtime, and without --int8 if that does not help"
    if not version:
        return f"pip install --force-reinstall {package.pin} may mend it"
    return f"pip install '{package.name}!={version}' takes another version"


def _no_core_file() -> None:
    try:
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    except (ImportError, ValueError, OSError):
        pass
