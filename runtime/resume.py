"""Keeping the state of a run: when it is saved, and how the next run goes on from it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from edgekd.runtime.detector import Detector
from edgekd.runtime.errors import UsageError
from edgekd.runtime.manifest import shown
from edgekd.runtime.sources import Source
from edgekd.runtime.state import (
    SavedState,
    StateUnusable,
    boot_clock_s,
    boot_id,
    load_state,
    save_state,
    set_aside,
)
from edgekd.runtime.threshold import Episodes


class StateKeeper:
    """Saves a detector and its open episode to one file. A disk that fails is told once and stops nothing."""

    def __init__(
        self,
        path: str | Path,
        every_s: float,
        detector: Detector,
        episodes: Episodes,
        emit: Callable[[Mapping[str, Any]], None],
        say: Callable[[str], None],
    ) -> None:
        self._path = Path(path)
        self._shown = shown(str(path), 300)
        self._every_s = every_s
        self._detector = detector
        self._episodes = episodes
        self._emit = emit
        self._say = say
        self._digest = detector.manifest.digests.file
        self._due = time.monotonic() + every_s
        self._failed = False
        self._saved_at = -1

    def resume(self, source: Source) -> bool:
        """Go on where the file says; whether there was a state to go on from."""
        saved = self._load()
        if saved is None:
            return False
        detector = self._detector
        event: dict[str, Any] = {"event": "resumed", "sample": detector.samples_seen}
        if not source.live:
            source.seek(detector.samples_seen)
            self._say(f"resumed from {self._shown} at sample {detector.samples_seen}")
        else:
            gap_s = self._gap_s(saved.meta)
            long = gap_s is None or gap_s > detector.manifest.warmup_samples * detector.manifest.period_s
            if long:
                detector.rewarm()
            event |= {"sample": detector.samples_seen, "gap_s": gap_s, "rewarm": long}
            gap = "the machine was rebooted in between" if gap_s is None else f"{gap_s:.1f} s later"
            warm = "; what it remembers is kept, verdicts come again after the warm-up" if long else ""
            self._say(f"resumed from {self._shown} at sample {detector.samples_seen}, {gap}{warm}")
        self._emit(event)
        return True

    def tick(self) -> None:
        """Save if it is time to."""
        if time.monotonic() >= self._due:
            self.save()

    def save(self) -> None:
        """Save now, unless nothing has come in since the last time."""
        self._due = time.monotonic() + self._every_s
        if self._detector.samples_seen == self._saved_at and not self._failed:
            return
        meta = {"episodes": self._episodes.snapshot(), "boot_id": boot_id(), "boot_clock_s": boot_clock_s()}
        try:
            save_state(self._path, self._digest, SavedState(self._detector.snapshot(), meta))
        except OSError as error:
            if not self._failed:
                self._failed = True
                self._say(
                    f"cannot save the state to {self._shown}: {error.strerror}; detection goes on, saving is retried"
                )
                self._emit({"event": "state_not_saved", "reason": error.strerror})
            return
        self._failed = False
        self._saved_at = self._detector.samples_seen

    def _load(self) -> SavedState | None:
        """The state of the file, put into the detector; None for a cold start, with a word on why."""
        try:
            saved = load_state(self._path, self._digest)
            if saved is not None:
                self._restore(saved)
            return saved
        except StateUnusable as error:
            aside = set_aside(self._path, error.kept_as)
            kept = f", kept as {shown(str(aside), 300)}" if aside else ""
            self._say(f"state {self._shown} is not used: {error}{kept}; starting cold")
        except OSError as error:
            self._say(f"state {self._shown} cannot be read: {error.strerror}; starting cold")
        return None

    def _restore(self, saved: SavedState) -> None:
        episodes = Episodes()
        try:
            episodes.restore(saved.meta["episodes"])
            self._detector.restore(saved.arrays)
        except (UsageError, KeyError, TypeError, ValueError) as error:
            raise StateUnusable(shown(str(error)), "corrupt") from None
        self._episodes.restore(episodes.snapshot())

    @staticmethod
    def _gap_s(meta: dict[str, Any]) -> float | None:
        """Seconds since the state was saved, None where the machine was rebooted in between: no clock says how many."""
        if not boot_id() or meta.get("boot_id") != boot_id():
            return None
        return max(0.0, boot_clock_s() - float(meta.get("boot_clock_s", 0.0)))
