"""A recording on a pretended serial line: a pty pair, with a real `edgekd-run --serial` reading at the other end."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import threading
import tty
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from edgekd.runtime.errors import GateFailed
from edgekd.runtime.guard import admit

PATIENCE_S = 60.0  # without a reader for so long, something is wrong
Events = list[dict[str, Any]]


class Port:
    """One end of a pty pair; `link` is the name under which the other end looks like a serial port."""

    def __init__(self, link: Path) -> None:
        self.link = link
        self._master, slave = os.openpty()
        tty.setraw(slave)  # no echo, no line discipline
        link.unlink(missing_ok=True)
        link.symlink_to(os.ttyname(slave))
        os.close(slave)

    def __enter__(self) -> Port:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.link.unlink(missing_ok=True)  # first: the system gives its number to the next one
        os.close(self._master)

    def write(self, line: bytes) -> None:
        """One line, as soon as the reader has room for it."""
        if not select.select([], [self._master], [], PATIENCE_S)[1]:
            raise GateFailed(f"{self.link}: nobody reads it any more; the words above may say why")
        os.write(self._master, line)  # a pty takes less than a page at once, and a line is far below that


def watch(
    command: str, model: Path, recording: Path, link: Path, log: Path, tell: Callable[[dict[str, Any]], None]
) -> Events:
    """Feed a CSV into `edgekd-run --serial`, line by line; all its events, each also told and written to `log`.

    The header goes first: a reader drops the first line after opening a port, and takes names of columns from it.
    """
    manifest, _ = admit(model, try_first=False)
    with recording.open("rb") as file:
        lines = file.readlines()
    last = (len(lines) - 1) // manifest.hop * manifest.hop - 1
    events: Events = []
    opened, finished = threading.Event(), threading.Event()

    def read(stream: IO[str]) -> None:
        with log.open("w") as copy:
            for text in stream:
                copy.write(text)
                events.append(event := json.loads(text))
                tell(event)
                if event["event"] == "input_open":
                    opened.set()
                if event["event"] == "score" and event["sample"] == last:
                    finished.set()
        opened.set()  # the process is gone: nobody need wait
        finished.set()

    with Port(link) as port:
        process = subprocess.Popen(
            [command, "--model", model.name, "--serial", link.name, "--scores"],
            cwd=model.parent, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert process.stdout is not None
        reader = threading.Thread(target=read, args=(process.stdout,), daemon=True)
        reader.start()
        try:
            opened.wait(PATIENCE_S)
            for line in lines:
                port.write(line)
            finished.wait(PATIENCE_S)
        finally:
            process.send_signal(signal.SIGTERM)
            code = process.wait(PATIENCE_S)
            reader.join(PATIENCE_S)
    if code:
        raise GateFailed(f"edgekd-run ended with {code}; its words stand above")
    return events
