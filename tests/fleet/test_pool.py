"""Workers that die, and jobs that fail, cost themselves and nobody else."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from edgekd.fleet.pool import DIED, Failed, guarded, run
from edgekd.runtime.errors import RecordingError


@dataclass(frozen=True)
class Job:
    key: str
    folder: Path


@guarded
def answer(job: Job) -> str:
    """Dies where it is told to: always, or the first time."""
    if job.key == "deadly":
        os._exit(9)
    if job.key == "unlucky" and not (job.folder / "died").exists():
        (job.folder / "died").touch()
        os._exit(9)
    if job.key == "refused":
        raise RecordingError("too short; record longer")
    if job.key == "broken":
        raise ZeroDivisionError("division by zero")
    with (job.folder / "worked").open("a") as file:
        file.write(f"{job.key}\n")
    return job.key.upper()


def test_a_worker_that_dies_costs_what_it_had_in_hand(tmp_path: Path) -> None:
    names = ["a", "unlucky", "b", "deadly", "c", "refused", "broken", *(f"more-{i}" for i in range(12))]
    found = {job.key: result for job, result in run(answer, [Job(name, tmp_path) for name in names], workers=2)}
    assert found.pop("deadly") == Failed(DIED)
    assert found.pop("refused") == Failed("too short; record longer")
    broken = found.pop("broken")
    assert isinstance(broken, Failed) and broken.line.startswith("ZeroDivisionError: division by zero (test_pool.py:")
    assert found == {name: name.upper() for name in names if name not in ("deadly", "refused", "broken")}
    again = len((tmp_path / "worked").read_text().split()) - len(found)
    assert again <= 2 * 3  # two deaths among the others, three in hand each time
