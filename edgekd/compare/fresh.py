"""A model in a process of its own: how long until its first score, and how much memory at most.

    python -m edgekd.compare.fresh FILE

imports what it needs, loads the model, runs its self-test (exported files), makes one step and writes `score`; after
STEPS more steps it writes its peak memory in bytes. `start` runs that and takes the time.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from edgekd.runtime.errors import GateFailed
from edgekd.runtime.step_cost import peak_bytes

STEPS = 20
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


def start(path: Path) -> tuple[float, int]:
    """Seconds from the start of the process to the first score, and its peak resident memory in bytes."""
    command = [sys.executable, "-m", "edgekd.compare.fresh", str(path)]
    with tempfile.TemporaryFile("w+") as words:
        began = time.perf_counter()
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=words, env=os.environ | ONE_THREAD, text=True
        ) as process:
            assert process.stdout is not None
            first = process.stdout.readline()
            seconds = time.perf_counter() - began
            rest = process.stdout.read()
        if process.returncode or first.strip() != "score":
            words.seek(0)
            said = words.read().strip().splitlines()
            raise GateFailed(f"{path}: a process of its own could not score it ({said[-1] if said else 'no words'})")
    return seconds, int(rest)


def _steps(path: Path, count: int) -> None:
    """Load the model; `count` steps, the first of them announced."""
    from edgekd.file_kinds import is_checkpoint

    if is_checkpoint(path):
        import torch

        from edgekd.checkpoint import Checkpoint

        torch.set_num_threads(1)
        checkpoint = Checkpoint.load(path)
        step = checkpoint.step()
        replay = checkpoint.replay_samples
        valid, state = torch.ones(step.n_sensors), step.initial_state()
        with torch.inference_mode():
            for k in range(count):
                at = k * step.hop % (len(replay) - step.hop + 1)
                state = step(replay[at : at + step.hop], valid, *state)[len(step.outputs) :]
                _announce(k)
        return
    from edgekd.runtime import Detector
    from edgekd.runtime.selftest import self_test_samples

    detector = Detector.load(path, probe=False)  # what a start costs, not the first one's child process
    manifest = detector.manifest
    samples = self_test_samples(manifest.sensors, manifest.hop, count, seed=0)
    for k in range(count):
        detector.update_block(samples[k])
        _announce(k)


def _announce(step: int) -> None:
    if step == 0:
        print("score", flush=True)


if __name__ == "__main__":
    _steps(Path(sys.argv[1]), 1 + STEPS)
    print(peak_bytes())
