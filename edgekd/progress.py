"""Progress of a training, on stderr: a bar on a terminal, one line an epoch elsewhere."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import Any

import click


class TrainingProgress:
    """Called with the events of `edgekd.training.fit`; use as a context manager."""

    def __init__(self, quiet: bool = False) -> None:
        self.quiet = quiet
        self.bar: Any = None
        self.task: Any = None
        self.job = ""

    def __enter__(self) -> TrainingProgress:
        if not self.quiet and sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

            self.bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                TextColumn("{task.percentage:>3.0f} %  {task.fields[detail]}"),
                TimeRemainingColumn(),
                console=Console(stderr=True),
            )
            self.bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        if self.bar is not None:
            self.bar.stop()

    def __call__(self, event: dict[str, Any]) -> None:
        if self.quiet:
            return
        if "note" in event:
            click.echo(f"note: {event['note']}", err=True)
        elif "validation" in event:
            self._epoch(event)
        elif self.bar is not None:
            self._step(event)

    def _step(self, event: dict[str, Any]) -> None:
        if event["job"] != self.job:
            self.job = event["job"]
            self.task = self.bar.add_task(self.job, total=event["steps"] * event["epochs"], detail="")
        done = event["steps"] * (event["epoch"] - 1) + event["step"]
        detail = (
            f"epoch {event['epoch']}/{event['epochs']}  loss {event['loss']:.4f}  {event['steps_per_s']:.1f} steps/s"
        )
        self.bar.update(self.task, completed=done, detail=detail)

    def _epoch(self, event: dict[str, Any]) -> None:
        line = (
            f"{event['job']} epoch {event['epoch']}/{event['epochs']}  loss {event['loss']:.4f}  "
            f"validation {event['validation']:.4f}  {event['seconds']:.1f} s"
        )
        if self.bar is None:
            left = (event["epochs"] - event["epoch"]) * event["seconds"]
            click.echo(f"{line}  {left:.0f} s left", err=True)
        else:
            self.bar.console.print(line)
