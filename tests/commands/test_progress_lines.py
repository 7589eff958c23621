"""Progress where nobody sits at a terminal, and the time that is left."""

from __future__ import annotations

import re

import pytest

from edgekd.progress import EVERY_S, Progress, TrainingProgress


class Clock:
    """Seconds that a test lets go by."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_long_work_says_a_line_every_ten_seconds(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    progress = Progress(clock=clock)
    progress.doing("scoring plant.csv", 0.0)
    for second in range(1, 61):
        clock.now = float(second)
        progress.doing("scoring plant.csv", second / 100)
        progress.tell()  # what the ticker does
    progress.doing("judging")
    clock.now = 75.0
    progress.tell()
    *lines, last = capsys.readouterr().err.splitlines()
    assert len(lines) == 60 / EVERY_S
    assert lines[-1] == "scoring plant.csv  60%  40 seconds left"
    assert last == "judging  for 15 seconds"


def test_a_slow_moment_moves_the_time_left_little() -> None:
    clock = Clock()
    progress = TrainingProgress(clock=clock)
    left = []
    for step in range(1, 400):
        clock.now += 20.0 if step == 200 else 1.0  # a validation, or a busy machine
        event = {"job": "student", "epoch": 1, "epochs": 1, "step": step, "steps": 400, "loss": 1.0, "steps_per_s": 1.0}
        progress(event)
        left.append(progress.left)
    assert not left[0] and all(re.fullmatch(r"[\d.]+ (second|minute)s? left", words) for words in left[4:])
    before, after = (float(words.split()[0]) for words in left[198:200])
    assert abs(after - before) <= 1  # minutes of 3: by the pace of the newest steps alone it would be 20 times as much


def test_a_quiet_progress_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    with Progress(quiet=True, clock=clock) as progress:
        progress.doing("scoring")
        clock.now = 60.0
        progress.tell()
    assert not capsys.readouterr().err
