"""Many jobs on all cores of this computer, by joblib, or of a Ray cluster; a worker that dies costs its own jobs.

By its code (not tried), joblib's own Ray backend gives all of a run up when one node dies, so Ray's tasks are asked
directly: Ray itself repeats those of a worker that died, and no others.
"""

from __future__ import annotations

import contextlib
import functools
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

from edgekd.runtime.errors import EdgeKDError, MissingExtra, UsageError
from edgekd.runtime.json_fields import shown

TRIES = 3
DIED = "its worker process died each time it was tried, out of memory perhaps; give it more, or fewer samples"
"""Why a job failed that takes its worker with it."""
IN_FLIGHT = 4
"""Tasks that Ray is given for each of its cores."""


class Job(Protocol):
    """Anything with a name of its own."""

    @property
    def key(self) -> str:
        """The name."""


J = TypeVar("J", bound=Job)
R = TypeVar("R")


@dataclass(frozen=True)
class Failed:
    """Why nothing came of a job, in one line."""

    line: str


def guarded(do: Callable[[J], R]) -> Callable[[J], R | Failed]:
    """`do`, of which whatever goes wrong costs one job alone."""

    @functools.wraps(do)
    def safely(job: J) -> R | Failed:
        try:
            return do(job)
        except EdgeKDError as error:
            return Failed(str(error))
        except Exception as error:  # a bug, or memory: the other machines go on
            at = traceback.extract_tb(error.__traceback__)[-1]
            return Failed(f"{type(error).__name__}: {shown(str(error), 200)} ({Path(at.filename).name}:{at.lineno})")

    return safely


def run(
    do: Callable[[J], R | Failed], jobs: Sequence[J], on: str | None = None, workers: int = -1
) -> Iterator[tuple[J, R | Failed]]:
    """Each job with what came of it, in whatever order they are done.

    do: a function of a module, see `guarded`.
    on: "auto" or the address of a Ray cluster; None for this computer's cores, `workers` of them, -1 for all.
    """
    if not jobs:
        return iter(())
    return _locally(do, jobs, workers) if on is None else _on_ray(do, jobs, on)


def _locally(do: Callable[[J], R | Failed], jobs: Sequence[J], workers: int) -> Iterator[tuple[J, R | Failed]]:
    """By joblib. After a worker's death, jobs that were in hand are tried again, each alone, to see which did it."""
    from joblib.externals.loky.process_executor import TerminatedWorkerError

    waiting, alone, tries = {job.key: job for job in jobs}, dict[str, J](), 0
    while waiting or alone:
        begun: dict[str, J] = {}
        together = bool(waiting)
        some = list(waiting.values()) if together else list(alone.values())[:1]
        try:
            for key, result in _parallel(do, some, begun, workers):
                waiting.pop(key, None)
                alone.pop(key, None)
                yield begun.pop(key), result
            tries = 0
        except TerminatedWorkerError:
            if together:
                alone |= begun
                waiting = {key: job for key, job in waiting.items() if key not in begun}
                continue
            tries += 1
            if tries == TRIES:
                tries, (key, job) = 0, next(iter(alone.items()))
                del alone[key]
                yield job, Failed(DIED)


def _parallel(
    do: Callable[[J], R], jobs: Sequence[J], begun: dict[str, J], workers: int
) -> Iterable[tuple[str, R]]:  # fmt: skip
    from joblib import Parallel, cpu_count, delayed

    def handed() -> Iterator[Any]:
        for job in jobs:
            begun[job.key] = job
            yield delayed(_done)(do, job)

    count = max(2, cpu_count() if workers < 0 else workers)  # one alone would be this process
    found: Iterable[tuple[str, R]] = Parallel(
        n_jobs=count, batch_size=1, pre_dispatch=count + 1, return_as="generator_unordered", inner_max_num_threads=1,
        backend="loky",
    )(handed())  # fmt: skip
    return found


def _done(do: Callable[[J], R], job: J) -> tuple[str, R]:
    return job.key, do(job)


def _on_ray(do: Callable[[J], R | Failed], jobs: Sequence[J], address: str) -> Iterator[tuple[J, R | Failed]]:
    """By a cluster, whose nodes all see the recordings and the site at the same paths."""
    try:
        import ray
    except ModuleNotFoundError:
        raise MissingExtra("ray", "fleet") from None
    with contextlib.redirect_stdout(sys.stderr):  # Ray tells of nodes that died
        try:
            ray.init(address=address, log_to_driver=False, logging_level="ERROR")
        except (ConnectionError, ValueError) as error:
            why = shown(" ".join(str(error).split()), 200)
            raise UsageError(f"--on {address}: no Ray cluster answers ({why}); see `ray status`") from None
        try:
            yield from _as_tasks(ray, do, jobs)
        finally:
            ray.shutdown()


def _as_tasks(ray: Any, do: Callable[[J], R | Failed], jobs: Sequence[J]) -> Iterator[tuple[J, R | Failed]]:
    """A few for each core at a time."""
    task: Callable[..., Any] = ray.remote(num_cpus=1, max_retries=TRIES)(do).remote
    limit = max(1, int(IN_FLIGHT * ray.cluster_resources().get("CPU", 1)))
    waiting, running = list(jobs)[::-1], dict[Any, J]()
    while waiting or running:
        while waiting and len(running) < limit:
            job = waiting.pop()
            running[task(job)] = job
        (ready, *_), _ = ray.wait(list(running), num_returns=1)
        job = running.pop(ready)
        try:
            yield job, ray.get(ready)
        except ray.exceptions.RayError as error:
            died = isinstance(error, ray.exceptions.WorkerCrashedError)
            yield job, Failed(DIED if died else shown(str(error).splitlines()[0], 200))
