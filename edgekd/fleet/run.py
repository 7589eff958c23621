"""One run of `edgekd fleet distill`: what has to be made, made, and written down.

Nothing is made again whose data, settings and version are those of `site.json`. A run that was killed is begun again
and goes on: what it had finished is there, and the rest comes out byte for byte as it would have.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgekd import __version__
from edgekd.evaluation.score_model import reading_for
from edgekd.fleet.drift import records_of
from edgekd.fleet.machines import Fleet, Machine
from edgekd.fleet.pool import Failed, run
from edgekd.fleet.settings import Settings
from edgekd.fleet.site import SITE, Site, digest
from edgekd.fleet.work import STUDENT, TEACHER, Done, Job, Shared, work
from edgekd.runtime.errors import EdgeKDError, UsageError
from edgekd.runtime.files import atomic, sha256
from edgekd.runtime.guard.signature import signature_path

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

TEACHERS = 3  # machines of a type that its shared teacher and student are trained on

Say = Callable[[str], None]


@dataclass
class Outcome:
    """What a run came to."""

    made: dict[str, str] = field(default_factory=dict)
    """Machine -> why it was made."""
    unchanged: int = 0
    failed: dict[str, str] = field(default_factory=dict)
    """Machine -> the line."""
    elsewhere: int = 0
    """Machines of the site that the fleet does not name; theirs stays as it is."""

    @property
    def machines(self) -> int:
        """How many were looked at."""
        return len(self.made) + self.unchanged + len(self.failed)


@dataclass(frozen=True)
class Task:
    """A machine that has to be made."""

    machine: Machine
    why: str
    data: str
    """Digest of what it is trained on ..."""
    instead_of: str | None
    """... and of the fleet's own data, where it is trained on what its device recorded."""
    reading: dict[str, Any]


class Run:
    """A fleet, its site, and how the work is done."""

    def __init__(
        self,
        fleet: Fleet,
        site: Site,
        *,
        on: str | None = None,
        workers: int = -1,
        key: Ed25519PrivateKey | None = None,
        say: Say = lambda line: None,
        doing: Callable[[str, float], None] = lambda text, share: None,
    ) -> None:
        self.fleet, self.site, self._on, self._workers, self._key = fleet, site, on, workers, key
        self._say, self._doing = say, doing
        self.outcome = Outcome()
        self._kept: dict[str, Any] = {}

    def all_machines(self) -> Outcome:
        """Make what is new or has changed."""
        return self._run([task for machine in self.fleet.machines if (task := self._task(machine)) is not None])

    def from_records(self, folder: Path) -> Outcome:
        """Make those whose normal has moved, by `drift.json`, from what their devices recorded."""
        names = self.site.drift().get("moved", {})
        machines = [machine for machine in self.fleet.machines if machine.name in names]
        tasks = []
        for machine in machines:
            try:
                data, _ = records_of(folder, machine.name)
                entry = self.site.machines[machine.name]
                own, task = machine.digest(), self._of_records(machine, entry, data, names[machine.name]["since"])
                tasks.append(replace(task, why="its normal has moved", instead_of=own))
            except EdgeKDError as error:
                self._failed(machine.name, str(error))
        return self._run([task for task in tasks if task.data != self.site.machines[task.machine.name]["data"]])

    # -- what has to be made ---------------------------------------------------------------------------------------

    def _task(self, machine: Machine) -> Task | None:
        """What is to be made of a machine; None where nothing is, or nothing can be."""
        entry = self.site.machines.get(machine.name)
        try:
            data = machine.digest()
            if entry is not None and entry.get("instead_of") == data:
                return self._of_records(machine, entry, tuple(entry["trained_on"]), entry["since"])
        except EdgeKDError as error:
            self._failed(machine.name, str(error))
            return None
        return Task(machine, "", data, None, self.fleet.reading)

    def _of_records(self, machine: Machine, entry: dict[str, Any], data: tuple[str, ...], since: int) -> Task:
        """The same machine by what its device recorded, read as its model reads."""
        recorded = replace(machine, data=data, recording=None, since=since)
        how = reading_for(self.site.folder_of(machine.name) / entry["file"], {})
        return Task(recorded, "", replace(recorded, test=None).digest(), entry.get("instead_of"), how)

    def _why(self, task: Task, settings: str) -> str:
        """Why a machine is made; "" where it is not."""
        entry = self.site.machines.get(task.machine.name)
        if entry is None:
            return "new"
        if entry["data"] != task.data:
            return task.why or "its data have changed"
        if entry["settings"] != settings:
            return "settings or version have changed"
        return "" if self.site.has(task.machine.name, entry) else "its file was gone"

    # -- making it -------------------------------------------------------------------------------------------------

    def _run(self, tasks: list[Task]) -> Outcome:
        began, number = time.monotonic(), int(self.site.last.get("run", 0)) + 1
        self._kept = dict(self.site.last["machines"])
        shared = self._shared_of({task.machine.type for task in tasks})
        made: dict[str, tuple[Task, str]] = {}
        for task in tasks:
            if isinstance(found := shared[task.machine.type], str):
                self._failed(task.machine.name, found)
                continue
            settings = self._settings_digest(task.machine.type, found)
            if why := self._why(task, settings):
                made[task.machine.name] = replace(task, why=why), settings
            else:
                self.outcome.unchanged += 1
        jobs = [self._job(task, shared[task.machine.type]) for task, _ in made.values()]
        for job, result in self._each(jobs, "machines"):
            task, settings = made[job.key]
            if isinstance(result, Failed):
                self._failed(job.key, result.line)
                continue
            before = self.site.machines.get(job.key, {}).get("figures")
            self._keep(task, settings, result)
            self.outcome.made[job.key] = task.why
            self._kept[job.key] = {
                "run": number, "why": task.why, "step_us": result.step_us, "cpu_s": result.cpu_s, "before": before
            }  # fmt: skip
        names = {machine.name for machine in self.fleet.machines}
        self.outcome.elsewhere = len(self.site.machines.keys() - names)
        self._finish(number, time.monotonic() - began)
        return self.outcome

    def _shared_of(self, types: set[str]) -> dict[str, Shared | str | None]:
        """What machines of each type begin with: files, None where they share nothing, a line where it failed."""
        found: dict[str, Shared | str | None] = {}
        jobs, wanted = [], {}
        for name in sorted(types):
            settings, folder = self.fleet.settings[name], self.site.folder_of_type(name)
            if not settings.shares:
                found[name] = None
                continue
            found[name] = Shared(folder / STUDENT, folder / TEACHER)
            of = {key: getattr(settings, key) for key in ("method", "preset", "set", "seed")}
            wanted[name] = digest(of, self.fleet.reading, __version__)
            kept = self.site.types.get(name, {}).get("settings") == wanted[name] and (folder / STUDENT).is_file()
            if not kept:
                machines = [machine for machine in self.fleet.machines if machine.type == name][:TEACHERS]
                jobs.append(Job(name, settings, self.fleet.reading, tuple(machines), share=True))
        for job, result in self._each(jobs, "shared teachers"):
            if isinstance(result, Failed):
                found[job.key] = f"the shared student of its type '{job.key}': {result.line}"
                continue
            self.site.put(self.site.folder_of_type(job.key), result.files)
            self.site.types[job.key] = {
                "settings": wanted[job.key],
                "student": sha256(result.files[STUDENT]),
                "machines": [machine.name for machine in job.machines],
            }
            self.site.save()
        return found

    def _settings_digest(self, type_: str, shared: Shared | str | None) -> str:
        student = None if shared is None else self.site.types[type_]["student"]
        return digest(self.fleet.settings[type_].to_json(), self.fleet.reading, student, __version__)

    def _job(self, task: Task, shared: Shared | str | None) -> Job:
        settings: Settings = self.fleet.settings[task.machine.type]
        assert not isinstance(shared, str)
        return Job(task.machine.name, settings, task.reading, (task.machine,), shared)

    def _each(self, jobs: list[Job], what: str) -> Iterator[tuple[Job, Done | Failed]]:
        """Every job with its result, and progress."""
        for done, found in enumerate(run(work, jobs, self._on, self._workers), 1):
            yield found
            self._doing(what, done / len(jobs))

    def _keep(self, task: Task, settings: str, done: Done) -> None:
        """Write a machine's files, then its entry."""
        name = task.machine.name
        folder, before = self.site.folder_of(name), self.site.machines.get(name, {}).get("file")
        exported = next(file for file in done.files if file != STUDENT)
        self.site.put(folder, done.files)
        if before is not None:  # what is over other bytes, or of another format
            signature_path(folder / before).unlink(missing_ok=True)
            if before != exported:
                (folder / before).unlink(missing_ok=True)
        entry: dict[str, Any] = {
            "type": task.machine.type,
            "file": exported,
            "data": task.data,
            "settings": settings,
            "model": sha256(done.files[exported]),
            "figures": done.figures,
        }
        if task.instead_of is not None:
            entry |= {"instead_of": task.instead_of, "since": task.machine.since, "trained_on": list(task.machine.data)}
        self._sign(folder / exported)
        self.site.machines[name] = entry
        self.site.save(now=False)

    def _failed(self, name: str, line: str) -> None:
        self.outcome.failed[name] = line
        self._say(f"{name}: {line}")

    def _finish(self, number: int, took_s: float) -> None:
        self.site.save()
        if self._key is not None:
            for name, entry in self.site.machines.items():
                self._sign(self.site.folder_of(name) / entry["file"])
            self._sign(self.site.folder / SITE)
        else:
            signature_path(self.site.folder / SITE).unlink(missing_ok=True)  # it would be over other bytes
        self.site.save_run(
            {
                "run": number,
                "took_s": took_s,
                "machines": {name: kept for name, kept in self._kept.items() if name in self.site.machines},
                "failed": self.outcome.failed,
                "unchanged": self.outcome.unchanged,
            }
        )

    def _sign(self, path: Path) -> None:
        """Write the signature of a file, where there is none of it yet."""
        if self._key is None or not path.is_file():
            return
        signature = self._key.sign(path.read_bytes())
        beside = signature_path(path)
        try:
            if not beside.is_file() or beside.read_bytes() != signature:
                with atomic(beside) as file:
                    file.write(signature)
        except OSError as error:
            raise UsageError(f"{beside}: cannot write the signature ({error.strerror})") from None
