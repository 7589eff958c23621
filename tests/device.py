"""Runs `edgekd-run` as a process of its own, its events read as they come; fakes serial ports with pty pairs."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import select
import subprocess
import sys
import threading
import time
import tty
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import numpy as np

ROOT = Path(__file__).parent.parent
COMMAND = [sys.executable, "-m", "edgekd.runtime.cli"]
PATIENCE_S = 30.0  # only a hang takes this long
DAY_S = 86_400.0
HANGING = """
import sys, time
from edgekd.runtime.engines.onnx import OnnxEngine
run, steps = OnnxEngine.run, 0
def hanging(self, feeds):
    global steps
    steps += 1
    if steps > 12 + 5:  # after the self-test
        open({mark!r}, "w").close()
        time.sleep(3600)
    return run(self, feeds)
OnnxEngine.run = hanging
from {module} import main
main()
"""


def write_csv(path: Path, samples: np.ndarray) -> Path:
    """samples: float32 (T, n), written so that they read back as the same float32, under a header s0, s1 …"""
    header = ",".join(f"s{i}" for i in range(samples.shape[1]))
    rows = [",".join("" if value != value else str(value) for value in row) for row in samples]
    path.write_text("\n".join([header, *rows]) + "\n")
    return path


def run(*arguments: object, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run to the end."""
    command = [*COMMAND, *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE_S, **options)


def events_of(text: str, kind: str = "") -> list[dict[str, Any]]:
    """The events in a run's standard output, all or those of one kind."""
    events = [json.loads(line, parse_constant=lambda name: 1 / 0) for line in text.splitlines()]
    return [event for event in events if not kind or event["event"] == kind]


def eventually(condition: Callable[[], bool], what: str, patience_s: float = PATIENCE_S) -> None:
    """Wait until it holds."""
    end = time.monotonic() + patience_s
    while not condition():
        assert time.monotonic() < end, f"{what} has not happened within {patience_s:.0f} s"
        time.sleep(0.01)


@contextlib.contextmanager
def hanging(mark: Path, *arguments: object, module: str = "edgekd.runtime.cli") -> Iterator[subprocess.Popen[bytes]]:
    """A run on a pipe whose engine hangs in the sixth step, where it makes `mark`."""
    command = [sys.executable, "-c", HANGING.format(mark=str(mark), module=module), *map(str, arguments)]
    quiet = subprocess.DEVNULL
    process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=quiet, stderr=quiet)
    try:
        yield process
    finally:
        process.kill()
        process.wait(PATIENCE_S)


def set_clock(clock: Path, days: int) -> None:
    """The wall clock of what was started with the fixture `clock`; a reader never sees half of it."""
    new = clock.with_suffix(".new")
    new.write_text(f"{days * DAY_S:.0f}\n")
    new.replace(clock)


def catches(pid: int, signum: int) -> bool:
    """Whether a process handles a signal itself; Python alone only does so with SIGINT."""
    status = Path(f"/proc/{pid}/status").read_text()
    (caught,) = (line.split()[1] for line in status.splitlines() if line.startswith("SigCgt:"))
    return bool(int(caught, 16) >> (signum - 1) & 1)


class Device:
    """A running `edgekd-run`."""

    def __init__(self, *arguments: object, stdin: int | None = subprocess.DEVNULL) -> None:
        self.process = subprocess.Popen(
            self.command(*arguments),
            cwd=ROOT,
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.events: list[dict[str, Any]] = []
        self.words = ""
        self._queue: queue.Queue[dict[str, Any] | None] = queue.Queue()
        self._readers = [
            threading.Thread(target=self._read_events, args=(self.process.stdout,), daemon=True),
            threading.Thread(target=self._read_words, args=(self.process.stderr,), daemon=True),
        ]
        for reader in self._readers:
            reader.start()

    def command(self, *arguments: object) -> list[str]:
        """What is run."""
        return [*COMMAND, *map(str, arguments)]

    def event_of(self, line: str) -> dict[str, Any]:
        """The event in a line of standard output."""
        return json.loads(line)

    def __enter__(self) -> Device:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(PATIENCE_S)
        for reader in self._readers:
            reader.join(PATIENCE_S)

    def wait_for(self, wanted: Callable[[dict[str, Any]], bool] | str) -> dict[str, Any]:
        """The next event that is wanted (a condition, or a kind)."""
        while True:
            try:
                event = self._queue.get(timeout=PATIENCE_S)
            except queue.Empty:
                raise AssertionError(f"no such event; words so far: {self.words}") from None
            assert event is not None, f"the run ended first; its words: {self.words}"
            if event["event"] == wanted if isinstance(wanted, str) else wanted(event):
                return event

    def end(self, signum: int | None = None) -> int:
        """Wait for the end, after a signal if one is given; the exit code."""
        if signum is not None:
            self.process.send_signal(signum)
        code = self.process.wait(PATIENCE_S)
        for reader in self._readers:
            reader.join(PATIENCE_S)
        return code

    def scores(self) -> list[dict[str, Any]]:
        """The score events so far."""
        return [event for event in self.events if event["event"] == "score"]

    def _read_events(self, stream: IO[str]) -> None:
        for line in stream:
            if line.endswith("\n"):  # a killed process may leave half a line
                self.events.append(self.event_of(line))
                self._queue.put(self.events[-1])
        self._queue.put(None)

    def _read_words(self, stream: IO[str]) -> None:
        for line in stream:
            self.words += line


class Port:
    """A serial port whose other end we hold; `link` is what the device opens."""

    def __init__(self, link: Path) -> None:
        self._link = link
        self._master, slave = os.openpty()
        self._name = os.ttyname(slave)
        tty.setraw(slave)  # no echo, no line discipline, before anybody opens it
        os.set_blocking(self._master, False)
        temporary = link.with_suffix(".new")
        temporary.symlink_to(self._name)
        temporary.replace(link)
        os.close(slave)

    def write(self, data: bytes) -> None:
        """All of it, waiting for the reader."""
        while data:
            assert select.select([], [self._master], [], PATIENCE_S)[1], "nobody reads the port"
            try:
                data = data[os.write(self._master, data) :]
            except BlockingIOError:
                continue

    def unplug(self) -> None:
        """The adapter is gone, and its name: the system gives the number to the next one, of whatever program."""
        if self._link.is_symlink() and str(self._link.readlink()) == self._name:
            self._link.unlink()
        os.close(self._master)
