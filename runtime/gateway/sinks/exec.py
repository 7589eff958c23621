"""`exec`: a command for each event, the event as JSON on its standard input."""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Mapping
from typing import Any

from edgekd.runtime.errors import UsageError
from edgekd.runtime.gateway.outbox import Outbox, Tell
from edgekd.runtime.gateway.secret import VARIABLES
from edgekd.runtime.gateway.segments import Record
from edgekd.runtime.gateway.sinks.interface import DeliveryProblem
from edgekd.runtime.json_fields import shown
from edgekd.runtime.sources.reconnect import Backoff

FIRST_WAIT_S = 1.0
LONGEST_WAIT_S = 60.0
TELL_EVERY_S = 60.0


class Exec:
    """Runs a command, without a shell, for one event after the other; exit code 0 is the acknowledgement.

    One that fails or takes too long is run again with the same event, after a growing wait: 1 to 60 s, for `retry_s`
    in all. Then this event is given up, for there may be something about it that the command will never take, and the
    ones behind it wait. Its standard output is thrown away, its standard error is this one's. Raises UsageError where
    there is no such command.
    """

    name = "exec"

    def __init__(self, command: str, timeout_s: float, retry_s: float, outbox: Outbox, tell: Tell) -> None:
        self.delivered = 0
        self.turned_s = time.monotonic()
        self.dropped = 0
        """Events that the command has not taken in all that time."""
        try:
            self._command = shlex.split(command)
        except ValueError as error:
            raise UsageError(f"exec: {error}") from None
        if not self._command or shutil.which(self._command[0]) is None:
            program = shown(" ".join(self._command[:1]), 100)  # what stands behind it may be a password
            raise UsageError(f"exec {program}: no such command; give its whole path")
        self._timeout_s = timeout_s
        self._retry_s = retry_s
        self._woken = threading.Event()
        self._stopping = threading.Event()
        self._running: subprocess.Popen[bytes] | None = None
        self._outbox = outbox
        self._tell = tell
        self._shown = shown(self._command[0], 200)
        self._problem = DeliveryProblem("exec", self._shown, tell)
        self._drops_told = 0
        self._drops_due = 0.0
        self._thread = threading.Thread(target=self._run, name="exec", daemon=True)

    def start(self) -> None:
        """Begin to run commands."""
        if self._stopping.is_set():
            return
        self.turned_s = time.monotonic()
        self._cursor = self._outbox.cursor("exec", self._woken.set)
        self._thread.start()

    def stop(self, timeout_s: float) -> None:
        """End after the command that is running; one that takes longer is killed, and its event kept."""
        self._stopping.set()
        self._woken.set()
        if self._thread.is_alive():
            self._thread.join(timeout_s)
        self._kill()

    def beat(self, counts: Mapping[str, Any]) -> None:
        """A command is for events."""

    def _run(self) -> None:
        backoff, trying, since = Backoff(FIRST_WAIT_S, LONGEST_WAIT_S), 0, 0.0
        while not self._stopping.is_set():
            self.turned_s = time.monotonic()
            self._tell_dropped()
            self._woken.clear()
            records = self._cursor.read(1)
            if not records:
                self._woken.wait(1.0)
                continue
            seq = records[0].seq
            if seq != trying:
                trying, since = seq, time.monotonic()
            reason = self._deliver(records[0])
            if self._stopping.is_set() and reason:
                return
            if not reason:
                backoff.reset()
                self.delivered += 1
                self._cursor.ack(seq)
                self._problem.works()
                continue
            self._problem.waiting(reason)
            wait_s = backoff.wait_s()
            if time.monotonic() + wait_s > since + self._retry_s:
                self.dropped += 1
                self._cursor.ack(seq)
                continue
            self._cursor.rewind()
            self.turned_s = time.monotonic() + wait_s
            self._stopping.wait(wait_s)

    def _tell_dropped(self) -> None:
        """Now and then: a command that takes nothing at all would tell of every event."""
        if self.dropped == self._drops_told or time.monotonic() < self._drops_due:
            return
        count, self._drops_told = self.dropped - self._drops_told, self.dropped
        self._drops_due = time.monotonic() + TELL_EVERY_S
        words = f"{self._shown} did not take {count} events in {self._retry_s:g} s each; it gets them no more"
        self._tell("exec_dropped", words, {"count": count, "total": self.dropped})

    def _deliver(self, record: Record) -> str:
        """Run the command with an event; why it failed, empty where it did not."""
        self.turned_s = time.monotonic() + self._timeout_s
        environment = {name: value for name, value in os.environ.items() if name not in VARIABLES.values()}
        try:
            self._running = subprocess.Popen(
                self._command,
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                env=environment,
                start_new_session=True,  # so that what it starts is ended with it
            )
            self._running.communicate(record.payload + b"\n", self._timeout_s)
        except subprocess.TimeoutExpired:
            self._kill()
            return f"it takes longer than {self._timeout_s:g} s"
        except OSError as error:
            return error.strerror or str(error)
        code = self._running.returncode
        return f"it was ended by signal {-code}" if code < 0 else f"exit code {code}" if code else ""

    def _kill(self) -> None:
        if (process := self._running) is None or process.returncode is not None:
            return
        with contextlib.suppress(OSError):
            os.killpg(process.pid, signal.SIGKILL)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(1.0)
