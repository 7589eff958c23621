"""Trying a model in a process of its own: some wheels kill the process that imports them, some files the one that loads
them, and neither says anything. What a hostile file can do to a reader or an engine, it does to a process that may die.
The child is a Python of its own and shares nothing with this one, so a program may have threads.
"""

from __future__ import annotations

import contextlib
import errno
import json
import math
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from edgekd.runtime.container import format_of
from edgekd.runtime.engines.imports import PACKAGES, load_package
from edgekd.runtime.errors import EdgeKDError, ModelRefused, UsageError
from edgekd.runtime.json_fields import shown

TIMEOUT_S = 300.0  # an emulated or very busy board is slow, and it may still be right
MAX_BYTES = 88 * 2**20  # address space for reading, then for running; the published student takes 10 MiB of it ...
COPIES = 3  # ... and beside it so many times the file: an engine reads it, makes tensors of it, and packs those anew
MAX_OPEN = 64  # files; an engine opens its own one after the other
KEPT = ("LD_LIBRARY_PATH", "LD_PRELOAD", "PYTHONHOME")  # of the environment, where passwords may be: what Python needs
_REASONS = {4: ": it uses instructions that this processor lacks", 9: ": memory may be too short"}  # SIGILL, SIGKILL


def probe(model: bytes) -> bool:
    """Whether the self-test passes; where it fails, or the engine does not start, the caller will meet that too.

    Raises UsageError where the child dies of a signal or hangs, ModelRefused where file or graph are not good.
    """
    if getattr(sys, "frozen", False) or not Path(sys.executable or "").name.lower().startswith(("python", "pypy")):
        return False  # Python inside another program, which another start of that would only be another one of
    command = [sys.executable, "-PB", "-c", "from edgekd.runtime.guard.child_process import main; main()"]
    env = {name: os.environ[name] for name in KEPT if name in os.environ}
    env["PYTHONPATH"] = os.pathsep.join(str(Path(p).absolute()) for p in sys.path)
    try:
        done = subprocess.run(command, input=model, env=env, capture_output=True, timeout=TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired as error:
        if told := _told(error.stdout or b""):
            raise UsageError(f"{told['package']} hangs {told['stage']}, for {TIMEOUT_S:g} s; {told['mend']}") from None
        raise UsageError(f"Python does not start within {TIMEOUT_S:g} s; the machine may be too busy") from None
    except OSError as error:
        hint = "; free some memory" if error.errno in (errno.ENOMEM, errno.EAGAIN) else ""
        raise UsageError(f"cannot start a process to try the model in ({error.strerror}){hint}") from None
    told = _told(done.stdout)
    if "refused" in told:
        raise ModelRefused(shown(told["refused"], 2000))
    if "passed" in told:
        return bool(told["passed"])
    if done.returncode == -signal.SIGXCPU:
        raise ModelRefused(f"it takes more than {TIMEOUT_S:g} s of processor time to try, no model for a device")
    if done.returncode < 0 and told:
        died, why = signal.Signals(-done.returncode).name, _REASONS.get(-done.returncode, "")
        raise UsageError(f"{told['package']} dies of {died} {told['stage']}{why}; {told['mend']}")
    said = done.stderr.decode(errors="replace").strip().splitlines()
    raise UsageError(f"cannot try the model in a process of its own ({shown(said[-1] if said else 'no reason', 200)})")


def main() -> None:
    """The child: model on standard input; standard output is one JSON object, a line of it whenever there is news."""
    for name, most in ("CORE", 0), ("FSIZE", 0), ("NOFILE", MAX_OPEN), ("CPU", math.ceil(TIMEOUT_S)):
        _limit(name, most)
    parent = os.fdopen(os.dup(1), "w")  # what an engine prints, it may quote from the file, is no word of ours
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    from edgekd.runtime.engines import load_engine
    from edgekd.runtime.guard import read_checked
    from edgekd.runtime.selftest import run_self_test

    def tell(**news: object) -> None:
        print(json.dumps(news), file=parent, flush=True)

    try:
        model = sys.stdin.buffer.read()
        most = MAX_BYTES + COPIES * len(model)
        _limit("AS", most, lasts=False)
        manifest = read_checked(model)
        _limit("AS", 2**40, lasts=False)  # for an engine's own code and tables
        for package in PACKAGES[format_of(model)]:
            tell(package=str(package), mend=package.another, stage="when it is imported")
            if load_package(package) is not None:
                break
        _limit("AS", most)
        tell(stage="while it loads this model")
        engine = load_engine(model, manifest)
        tell(stage="while it runs this model")
        tell(passed=run_self_test(engine, manifest).passed)
    except ModelRefused as error:
        tell(refused=str(error))
    except MemoryError:
        tell(refused=f"it needs more than {most >> 20} MiB of memory, no model for a device")
    except EdgeKDError:
        tell(passed=False)  # of the engine: the parent comes to it and tells it
    os._exit(0)  # what an engine does to its memory on the way out is nobody's business any more


def _told(output: bytes) -> dict[str, Any]:
    """What the child has told in whole lines, of which a later one says what has changed."""
    return {key: value for line in output.split(b"\n")[:-1] for key, value in json.loads(line).items()}


def _limit(name: str, most: int, lasts: bool = True) -> None:
    """No more than this, of address space beside what there is, if the system can; `lasts`: nor can it be raised."""
    with contextlib.suppress(ImportError, AttributeError, ValueError, OSError, OverflowError):
        import resource

        kind = getattr(resource, f"RLIMIT_{name}")
        if name == "AS":
            most += int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
        resource.setrlimit(kind, (most, most if lasts else resource.getrlimit(kind)[1]))
