"""Trying a model in a process of its own: some wheels kill the process that imports them, some files the one that loads
them, and neither says anything.

onnxruntime 1.21.0 died of an illegal instruction on every Raspberry Pi 4; tflite-runtime's kernels for some int8 graphs
do on ARM; and what a hostile file can do to an engine, it does to a process that may die. `edgekd-run`, and for TFLite
`Detector.load`, ask here before they load a file for the first time (`tried_models`), `--check` every time.

Safe in a program with threads: the child is a Python of its own, started as any command is, and shares nothing with it.
"""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

from edgekd.runtime.container import format_of
from edgekd.runtime.engines.imports import PACKAGES, TFLITE_RUNTIME, Package, load_package
from edgekd.runtime.errors import EdgeKDError, ModelRefused, UsageError
from edgekd.runtime.json_fields import shown

TIMEOUT_S = 300.0  # an emulated or very busy board is slow, and it may still be right
MAX_BYTES = 256 * 2**20  # address space for loading and running; the published student takes 10 MiB of it ...
COPIES = 3  # ... and beside it so many times the file: an engine reads it, makes tensors of it, and packs those anew
_STAGES = {"import": "when it is imported", "load": "while it loads this model", "run": "while it runs this model"}
_REASONS = {
    signal.SIGILL: ": it uses instructions that this processor lacks",
    signal.SIGKILL: ": memory may be too short",
}


def probe(model: bytes) -> bool:
    """Import the engine for a model file, load the file and replay its self-test, all in a child process.

    The child has `MAX_BYTES` and `COPIES` of the file of memory for it, and `TIMEOUT_S`. Returns whether the self-test
    passed there; where the engine does not start, or the self-test fails, the caller will meet it too. Raises
    UsageError where the child dies of a signal or hangs, ModelRefused where the engine does not take the file or cannot
    run it.
    """
    if getattr(sys, "frozen", False) or not Path(sys.executable or "").name.lower().startswith(("python", "pypy")):
        return False  # Python inside another program, which another start of that would only be another one of
    command = [sys.executable, "-P", "-c", "from edgekd.runtime.guard.child_process import main; main()"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(str(Path(p).absolute()) for p in sys.path)}
    try:
        done = subprocess.run(
            command, input=model, env=environment, capture_output=True, timeout=TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired as error:
        package, stage, _ = _last(error.stdout or b"")
        if package:
            raise UsageError(f"{package} hangs {stage}, for {TIMEOUT_S:g} s; {_another(package)}") from None
        raise UsageError(f"Python does not start within {TIMEOUT_S:g} s; the machine may be too busy") from None
    except OSError as error:
        hint = "; free some memory" if error.errno in (errno.ENOMEM, errno.EAGAIN) else ""
        raise UsageError(f"cannot start a process to try the model in ({error.strerror}){hint}") from None
    package, stage, outcome = _last(done.stdout)
    if outcome is not None:
        if outcome.get("refused"):
            raise ModelRefused(shown(str(outcome["refused"]), 2000))
        return bool(outcome.get("passed"))
    if done.returncode < 0 and package:
        died = signal.Signals(-done.returncode)
        raise UsageError(f"{package} dies of {died.name} {stage}{_REASONS.get(died, '')}; {_another(package)}")
    said = done.stderr.decode(errors="replace").strip().splitlines()
    raise UsageError(f"cannot try the model in a process of its own ({shown(said[-1] if said else 'no reason', 200)})")


def main() -> None:
    """The child: model on standard input; one line for each stage before it begins, `STAGE PACKAGE`, then a JSON."""
    _limit("RLIMIT_CORE", 0)
    parent = os.fdopen(os.dup(1), "w")  # what an engine prints, it may quote from the file, is no word of ours
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    from edgekd.runtime.engines import load_engine
    from edgekd.runtime.guard.static_checks import read_checked
    from edgekd.runtime.selftest import run_self_test

    outcome: dict[str, object] = {}
    try:
        model = sys.stdin.buffer.read()
        manifest = read_checked(model)
        most = MAX_BYTES + COPIES * len(model)
        for package in PACKAGES[format_of(model)]:
            print("import", package.name, file=parent, flush=True)
            if load_package(package) is not None:
                break
        _limit("RLIMIT_AS", _address_space() + most)
        print("load", package.name, file=parent, flush=True)
        engine = load_engine(model, manifest)
        print("run", package.name, file=parent, flush=True)
        outcome["passed"] = run_self_test(engine, manifest).passed
    except ModelRefused as error:
        outcome["refused"] = str(error)
    except MemoryError:
        outcome["refused"] = f"it needs more than {most >> 20} MiB of memory, no model for a device"
    except EdgeKDError:
        pass  # of the engine: the parent comes to it and tells it
    print(json.dumps(outcome), file=parent, flush=True)
    os._exit(0)  # what an engine does to its memory on the way out is nobody's business any more


def _last(output: bytes) -> tuple[Package | None, str, dict[str, object] | None]:
    """The package that was at work and what it was at, from the child's last whole lines, and its outcome."""
    found: tuple[Package | None, str] = None, ""
    for line in output.decode(errors="replace").splitlines(keepends=True):
        if line.startswith("{") and line.endswith("}\n"):
            return *found, json.loads(line)
        stage, _, name = line.strip().partition(" ") if line.endswith("\n") else ("", "", "")
        for package in (package for kind in PACKAGES.values() for package in kind):
            if package.name == name and stage in _STAGES:
                found = package, _STAGES[stage]
    return *found, None


def _another(package: Package) -> str:
    version = package.version
    if package is TFLITE_RUNTIME:
        return "export again with --target tflite-runtime, and without --int8 if that does not help"
    if not version:
        return f"pip install --force-reinstall {package.pin} may mend it"
    return f"pip install '{package.name}!={version}' takes another version"


def _address_space() -> int:
    """Bytes of this process's address space; all there is where nobody tells."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError):
        return sys.maxsize // 2


def _limit(name: str, value: int) -> None:
    try:
        import resource

        resource.setrlimit(getattr(resource, name), (value, value))
    except (ImportError, AttributeError, ValueError, OSError, OverflowError):
        pass
