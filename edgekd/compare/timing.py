"""Step times in turn: a slow moment of the machine hits every engine, and ratios are taken round by round."""

from __future__ import annotations

import contextlib
import gc
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from edgekd.compare.subjects import Subject
from edgekd.threads import one_thread

ROUNDS = 60
ROUND_S = 0.01  # a turn lasts about this long, and at least one step
MAX_STEPS = 16  # steps a turn
WARM_STEPS = 5  # untimed: caches, allocators, lazy kernels


@dataclass(frozen=True)
class Timing:
    """Step times of one subject."""

    seconds: np.ndarray
    """float64 (rounds, steps of one turn)."""

    @property
    def p50_us(self) -> float:
        """Median of the rounds' medians, microseconds."""
        return float(np.median(self.of_rounds) * 1e6)

    @property
    def p99_us(self) -> float:
        return float(np.quantile(self.seconds, 0.99) * 1e6)

    @property
    def of_rounds(self) -> np.ndarray:
        """float64 (rounds,): median step of each round, seconds."""
        return np.median(self.seconds, axis=1)

    def ratio_to(self, other: Timing) -> float:
        """Median over the rounds of this step's time over the other's in the same round."""
        return float(np.median(self.of_rounds / other.of_rounds))


def in_turn(subjects: Sequence[Subject], rounds: int, progress: Callable[[], None] = lambda: None) -> list[Timing]:
    """Time every subject's steps, round robin, on one thread each. They have been fed before."""
    with one_thread(), _no_collection():
        steps = [_steps_a_turn(subject) for subject in subjects]
        times = [np.empty((rounds, count)) for count in steps]
        for round_ in range(rounds):
            for k in range(len(subjects)):
                # who comes first changes from round to round, so that nobody always follows the same neighbor
                at = (round_ + k) % len(subjects)
                for i in range(steps[at]):
                    started = time.perf_counter()
                    subjects[at].step()
                    times[at][round_, i] = time.perf_counter() - started
            progress()
    return [Timing(seconds) for seconds in times]


def _steps_a_turn(subject: Subject) -> int:
    seconds = []
    for _ in range(WARM_STEPS):
        started = time.perf_counter()
        subject.step()
        seconds.append(time.perf_counter() - started)
    return int(np.clip(ROUND_S / np.median(seconds), 1, MAX_STEPS))


@contextlib.contextmanager
def _no_collection() -> Iterator[None]:
    """A garbage collection of a large process would fall on whoever is being timed."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()
