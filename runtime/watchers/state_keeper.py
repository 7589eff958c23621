"""Keeping the state of a run: when it is saved, and how the next run goes on from it.

The loop's thread copies the state, the writer's brings it to disk. One copy at most is on its way: a slow disk costs
saves, not memory and not samples.
"""

from __future__ import annotations

import contextlib
import os
import re
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from edgekd.runtime.detector import Verdict
from edgekd.runtime.errors import UsageError
from edgekd.runtime.json_fields import shown
from edgekd.runtime.loop import Loop, Watcher
from edgekd.runtime.sources import Row
from edgekd.runtime.state import SavedState, StateFile, StateUnusable, boot_clock_s, boot_id

RETRY_S = 10.0  # a disk that was full may have room again long before the next save is due
STUCK_S = 60.0  # a card may take seconds for a write; a minute is a fault to be told
START_WAIT_S = 5.0  # at the start nothing is missed while the disk is waited for
END_WAIT_S = 0.9  # a service that is stopped has two seconds, of which its sinks need some
_STREAM_ID = re.compile(r"[0-9a-f]{8}(\.[0-9]{1,9})?", re.ASCII)


class Writer:
    """The thread that writes to disk, one job after the other; a job handles its own OSError."""

    _thread: threading.Thread | None = None

    def submit(self, job: Callable[[], None]) -> bool:
        """Do it; False, and it is never done, where too much waits."""
        self._thread = threading.Thread(target=job, name="disk-writer", daemon=True)
        self._thread.start()
        return True

    def flush(self, timeout_s: float) -> Any:
        """Wait until all that was submitted so far is done, or the time is over."""
        if self._thread is not None:
            self._thread.join(timeout_s)


class StateKeeper(Watcher):
    """Saves detector, open episode and threshold to one file. A disk that fails is told once and stops nothing."""

    def __init__(self, path: str, loop: Loop, writer: Writer, every_s: float, parts: dict[str, Any]) -> None:
        """parts: what more is saved, by name, with methods as those of `Episodes`. Other parts stay in the file."""
        self.stream_id = os.urandom(4).hex()  # `secrets` loads OpenSSL, 4 MB for four bytes
        """Tells the events of this stream of samples from those of every other, and what a live source sent before a
        restart from what it sent after; a file that is read on is the same stream."""
        self.failures = 0  # saves of this run that the disk did not take
        self._loop = loop
        self._detector = loop.detector
        self._parts: dict[str, Any] = {"episodes": loop.episodes, **parts}
        if len(loop.detector.manifest.outputs) > 2:
            self._parts["slow"] = loop.slow
        self._kept: dict[str, Any] = {}  # what the file said at the start
        self._shown = shown(path, 300)
        self._file = StateFile(Path(os.path.realpath(path)), loop.detector.manifest.digests.file)
        self._writer = writer
        self._every_s = every_s
        self._saved_at_s = time.monotonic()
        self._due = self._saved_at_s + every_s
        self._handed_at_s: float | None = None  # a copy is on its way since
        self._handed_at = -1  # samples seen by the newest copy
        self._outcome: tuple[float, str] | None = None  # the writer's answer: when, and why not
        self._failing = False

    @property
    def age_s(self) -> float:
        """Seconds since a state came to disk, before the first one since the start."""
        return time.monotonic() - self._saved_at_s

    def begin(self) -> None:
        """Go on where the file says."""
        saved = self._load()
        if saved is None:
            self._save_and_wait(START_WAIT_S)  # an event's name must outlive the run that told it
            return
        detector, after, gap = self._detector, "", {}
        if not self._goes_on(saved.meta):
            gap_s = _gap_s(saved.meta)
            after = ", the machine was rebooted in between" if gap_s is None else f", {gap_s:.1f} s later"
            long = gap_s is None or gap_s > detector.manifest.warmup_samples * detector.manifest.period_s
            if long:
                detector.rewarm()
                self._loop.episodes.interrupt()
                self._loop.slow.interrupt()
                after += "; what it remembers is kept, verdicts come again after the warm-up"
            gap = {"gap_s": gap_s, "rewarm": long}
        self._loop.say(f"resumed from {self._shown} at sample {detector.samples_seen}{after}")
        if gap:  # from now on another stream, whose name is on disk before its first event is told
            name, _, count = self.stream_id.partition(".")
            self.stream_id = f"{name}.{int(count or 0) + 1}"
            if not self._save_and_wait(START_WAIT_S):  # the next start would choose the same name again
                self.stream_id = os.urandom(4).hex()
        self._loop.emit({"event": "resumed", "sample": detector.samples_seen, **gap})

    def verdict(self, verdict: Verdict, row: Row) -> None:
        """A long piece of input is not to hold up saving."""
        self.tick()

    def tick(self) -> None:
        """Tell what became of the last save, and save if it is time to."""
        self._hear()
        now = time.monotonic()
        if self._handed_at_s is not None:
            if now - self._handed_at_s > STUCK_S:
                self._tell("the disk does not answer")
        elif now >= self._due:
            self.save()

    def save(self) -> None:
        """Hand over a copy of the state, unless one is still on its way or nothing has come in since the last."""
        if self._handed_at_s is not None or (self._detector.samples_seen == self._handed_at and not self._failing):
            return
        meta = {
            **self._kept,
            "stream_id": self.stream_id,
            **{name: part.snapshot() for name, part in self._parts.items()},
            "boot_id": boot_id(),
            "boot_clock_s": boot_clock_s(),
            "position": self._loop.source.position(),
        }
        state = SavedState(self._detector.snapshot(), meta)
        self._handed_at_s = time.monotonic()
        self._handed_at = self._detector.samples_seen
        self._due = self._handed_at_s + self._every_s
        if not self._writer.submit(lambda: self._write(state)):
            self._outcome = time.monotonic(), "too much waits for the disk"

    def end(self) -> None:
        """The last state on disk, or the disk has had its time."""
        self._save_and_wait(END_WAIT_S)

    def _save_and_wait(self, seconds: float) -> bool:
        """Save what is known now; whether it came to disk in so many seconds."""
        end = time.monotonic() + seconds
        self._writer.flush(seconds)  # a copy that is on its way
        self._hear()
        self.save()
        self._writer.flush(max(0.0, end - time.monotonic()))
        self._hear()
        return self._handed_at_s is None and not self._failing

    def _write(self, state: SavedState) -> None:
        """The writer's part."""
        try:
            self._file.save(state)
            problem = ""
        except OSError as error:
            problem = error.strerror or str(error)
        self._outcome = time.monotonic(), problem

    def _hear(self) -> None:
        """Take the writer's answer, if there is one."""
        if self._outcome is None:
            return
        (at_s, problem), self._outcome = self._outcome, None
        self._handed_at_s = None
        if problem:
            self.failures += 1
            self._due = min(self._due, at_s + RETRY_S)
        else:
            self._saved_at_s = at_s
        self._tell(problem)

    def _tell(self, problem: str) -> None:
        """That saving fails, once, and that it works again."""
        if self._failing == bool(problem):
            return
        self._failing = bool(problem)
        if problem:
            self._loop.say(f"cannot save the state to {self._shown}: {problem}; detection goes on, saving is retried")
            self._loop.emit({"event": "state_not_saved", "reason": problem})
        else:
            self._loop.say(f"the state is saved to {self._shown} again")
            self._loop.emit({"event": "state_saved_again", "failures": self.failures})

    def _load(self) -> SavedState | None:
        """The state of the file, put into the detector; None for a cold start, with a word on why."""
        try:
            saved = self._file.load()
            if saved is not None:
                self._restore(saved)
            return saved
        except StateUnusable as error:
            path, kept = Path(f"{self._file.path}.{error.kept_as}"), ""
            with contextlib.suppress(OSError):  # of no use here, but maybe elsewhere
                self._file.path.replace(path)
                kept = f", kept as {shown(str(path), 300)}"
            self._loop.say(f"state {self._shown} is not used: {error}{kept}; starting cold")
        except OSError as error:
            self._loop.say(f"state {self._shown} cannot be read: {error.strerror}; starting cold")
        return None

    def _restore(self, saved: SavedState) -> None:
        """Put a state into the parts; raises StateUnusable, and changes nothing, where one of them does not take it."""
        before = [(part, part.snapshot()) for part in self._parts.values()]
        try:
            if not _STREAM_ID.fullmatch(saved.meta["stream_id"]):
                raise ValueError("its stream has no name")
            float(saved.meta.get("boot_clock_s", 0.0))
            for name, part in self._parts.items():
                part.restore(saved.meta.get(name))
            self._detector.restore(saved.arrays)
        except (UsageError, AttributeError, KeyError, TypeError, ValueError, OverflowError) as error:
            for part, snapshot in before:
                part.restore(snapshot)
            raise StateUnusable(shown(str(error)), "corrupt") from None
        self.stream_id, self._kept = saved.meta["stream_id"], saved.meta

    def _goes_on(self, meta: dict[str, Any]) -> bool:
        """Whether the source goes on with the very next sample, because it is a file, or one that grows."""
        if not self._loop.source.live:
            self._loop.source.seek(self._detector.samples_seen)
            return True
        return self._loop.source.seek_position(meta.get("position"))


def _gap_s(meta: dict[str, Any]) -> float | None:
    """Seconds since the state was saved, None where the machine was rebooted in between: no clock says how many."""
    if not boot_id() or meta.get("boot_id") != boot_id():
        return None
    return max(0.0, boot_clock_s() - float(meta.get("boot_clock_s", 0.0)))
