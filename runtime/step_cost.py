"""What one step costs on this machine: time once it is warm, and memory."""

from __future__ import annotations

import contextlib
import time
from itertools import cycle
from pathlib import Path
from typing import NamedTuple

import numpy as np

from edgekd.runtime.engines import Engine
from edgekd.runtime.manifest import Manifest
from edgekd.runtime.selftest import cannot_run, replay, self_test_samples

LONGEST_S = 2.0  # in all
MOST = 4000  # steps
FED = 64  # different hops, in turn


class StepTimes(NamedTuple):
    """Microseconds of a step, its state fed back."""

    median_us: float
    p99_us: float
    steps: int


def step_times(engine: Engine, manifest: Manifest) -> StepTimes:
    """Of the second half of the steps: a process's first ones take several times as long (caches, allocators, kernels
    that are chosen late). Raises ModelRefused where the graph does not run."""
    steps = replay(engine, manifest, cycle(self_test_samples(manifest.sensors, manifest.hop, FED, seed=0)))
    at = [time.perf_counter()]
    with cannot_run(engine):
        while len(at) < 3 or (len(at) <= MOST and at[-1] - at[0] < LONGEST_S):
            next(steps)
            at.append(time.perf_counter())
    warm_us = np.diff(at)[len(at) // 2 :] * 1e6
    return StepTimes(float(np.median(warm_us)), float(np.quantile(warm_us, 0.99)), len(warm_us))


def microseconds(value: float) -> str:
    """ "47.2", "1,383"."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def peak_bytes() -> int:
    """Peak resident memory of this process: not `ru_maxrss`, which Linux keeps over exec: it may be the parent's."""
    with contextlib.suppress(FileNotFoundError):
        return 1024 * int(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0])
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # macOS, where it is in bytes
