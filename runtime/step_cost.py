"""What one step costs on this machine: time once it is warm, and memory."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np

from edgekd.runtime.engines import Engine
from edgekd.runtime.manifest import Manifest
from edgekd.runtime.selftest import cannot_run, self_test_samples

LONGEST_S = 2.0  # in all
ROUND, FED = 32, 64  # steps of a round, different hops that are fed in turn
MEASURED = 2000  # steps
STABLE = 0.95  # a round is warm that takes no less than this of the one before


class StepTimes(NamedTuple):
    """Microseconds of a step, its state fed back."""

    median_us: float
    p99_us: float
    steps: int


def step_times(engine: Engine, manifest: Manifest) -> StepTimes:
    """Of warm steps: rounds are thrown away until one is no faster than the one before, or half of the time is over.

    The first steps of a process take several times as long, for caches, allocators and kernels that are chosen late.
    Raises ModelRefused where the graph does not run.
    """
    samples = self_test_samples(manifest.sensors, manifest.hop, FED, seed=0)
    feeds = manifest.cold_state() | {"valid": np.ones(len(manifest.sensors), np.float32)}
    states = [spec.name for spec in manifest.state]
    began = time.perf_counter()

    def spent() -> float:
        return time.perf_counter() - began

    def some(most: int, until_s: float) -> list[float]:
        """Seconds of each of at most so many steps, one at least."""
        seconds: list[float] = []
        while not seconds or (len(seconds) < most and spent() < until_s):
            feeds["samples"] = samples[len(seconds) % FED]
            started = time.perf_counter()
            found = engine.run(feeds)
            seconds.append(time.perf_counter() - started)
            feeds.update(zip(states, found[len(manifest.outputs) :]))
        return seconds

    with cannot_run(engine):
        before = np.median(some(ROUND, LONGEST_S / 2))
        while spent() < LONGEST_S / 2:
            now = np.median(some(ROUND, LONGEST_S / 2))
            if now >= STABLE * before:
                break
            before = now
        seconds = np.array(some(MEASURED, LONGEST_S))
    return StepTimes(float(np.median(seconds) * 1e6), float(np.quantile(seconds, 0.99) * 1e6), len(seconds))


def microseconds(value: float) -> str:
    """ "47.2", "1,383"."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def peak_bytes() -> int:
    """Peak resident memory of this process.

    Linux keeps `ru_maxrss` over exec, so that a child would report its parent's peak: VmHWM is its own.
    """
    status = Path("/proc/self/status")
    if status.exists():
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return 1024 * int(line.split()[1])
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak
