"""Progress of long work, on stderr: a bar on a terminal, elsewhere a line where none was said for 10 seconds."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

import click

from edgekd.runtime.duration import unit_of

EVERY_S = 10.0  # between two lines
SETTLED_S = 3.0  # before that nobody knows how long it takes


class Progress:
    """What is being done; use as a context manager, and call `doing`."""

    def __init__(self, quiet: bool = False, clock: Callable[[], float] = time.monotonic) -> None:
        self._quiet, self._clock = quiet, clock
        self._bar: Any = None
        self._text, self._detail, self._share, self._left = "", "", 0.0, ""
        self._begun = (0.0, 0.0)  # when the first share of this work was told, and what it was
        self._said = clock()
        self._over = threading.Event()
        self._ticker = threading.Thread(target=self._tick, daemon=True)

    def __enter__(self) -> Self:
        if self._quiet:
            return self
        if sys.stderr.isatty():
            self._bar = _bar()
            self._bar.start()
        else:
            self._ticker.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self._over.set()
        if self._bar is not None:
            self._bar.stop()

    def doing(self, text: str, share: float = 0.0, detail: str = "") -> None:
        """text: the work; share: what of it is done, 0..1, where that is known; detail: more words of the moment."""
        now = self._clock()
        if text != self._text:
            self._text, self._begun = text, (now, share)
            if self._bar is not None:
                self._bar.remove_task(self._bar.task_ids[0])
                self._bar.add_task(text, total=None, detail="")  # it moves to and fro until a share is known
        self._share, self._detail, self._left = share, detail, self._time_left(now, share)
        if self._bar is not None:
            said = f"{detail}  {self._left}".strip()
            self._bar.update(self._bar.task_ids[0], total=1.0 if share else None, completed=share, detail=said)

    def say(self, line: str) -> None:
        """A whole line, which stays."""
        self._said = self._clock()
        if self._bar is not None:
            self._bar.console.print(line, markup=False, highlight=False, soft_wrap=True)
        elif not self._quiet:
            click.echo(line, err=True)

    @property
    def left(self) -> str:
        """ "4 minutes left", "" where that is not known yet."""
        return self._left

    def _time_left(self, now: float, share: float) -> str:
        """By the mean pace since the work's first share: a slow moment moves it little."""
        began, first = self._begun
        if share <= first or now - began < SETTLED_S:
            return ""
        return f"{in_words((1 - share) * (now - began) / (share - first))} left"

    def tell(self) -> None:
        """The line that says what is being done, if it is time for one."""
        if not self._text or self._clock() - self._said < EVERY_S:
            return
        done = f"{self._share:.0%}" if self._share else f"for {in_words(round(self._clock() - self._begun[0]))}"
        self.say("  ".join(part for part in (self._text, done, self._detail, self._left) if part))

    def _tick(self) -> None:
        while not self._over.wait(1.0):
            self.tell()


def _bar() -> Any:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn

    columns = TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[detail]}")
    bar = Progress(*columns, console=Console(stderr=True), transient=True)
    bar.add_task("", total=None, detail="")
    return bar


class TrainingProgress(Progress):
    """Called with the events of `edgekd.distillation.distill`."""

    def __call__(self, event: dict[str, Any]) -> None:
        if self._quiet:
            return
        if "doing" in event:
            self.doing(event["doing"])
        elif "note" in event:
            self.say(f"note: {event['note']}")
        elif "validation" in event:
            self._epoch(event)
        else:
            self._step(event)

    def _step(self, event: dict[str, Any]) -> None:
        epoch, epochs = event["epoch"], event["epochs"]
        share = (epoch - 1 + event["step"] / event["steps"]) / epochs
        detail = f"epoch {epoch}/{epochs}  loss {event['loss']:.4f}  {event['steps_per_s']:.1f} steps/s"
        self.doing(event["job"], share, detail)

    def _epoch(self, event: dict[str, Any]) -> None:
        line = (
            f"{event['job']} epoch {event['epoch']}/{event['epochs']}  loss {event['loss']:.4f}  "
            f"validation {event['validation']:.4f}  {event['seconds']:.1f} s"
        )
        self.doing(event["job"], event["epoch"] / event["epochs"], line.removeprefix(f"{event['job']} "))
        self.say(f"{line}  {self.left}".rstrip())


def in_words(seconds: float) -> str:
    """Seconds as people say them: "45 seconds", "100 minutes", "1 hour", "2.5 days"."""
    unit, size = unit_of(seconds)
    amount = f"{seconds / size:.2g}" if seconds / size < 10 else f"{seconds / size:,.0f}"
    unit = {"s": "second", "min": "minute", "h": "hour", "d": "day"}[unit]
    return f"{amount} {unit}" if amount == "1" else f"{amount} {unit}s"
