"""A gateway whose disk is sick: system calls fail at random, its outbox goes away, it is killed. What comes of it?

    python -m bench.promises.fault_injection [--runs=20] [--harms=16] [--seed=1]

The calls themselves fail, in a library that is preloaded (faults.c): open, read, write, sync, truncate, rename, remove,
list and lock, with errors, short reads and writes, and hangs, for all that the gateway keeps: state, outbox, record and
the note of tried models. Between bouts of that its outbox is removed, moved, emptied or replaced, and it is killed.
Rows come from a file that grows, so that what every run must tell is known: what one that nobody harms tells.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from bench.results import save

sys.path.insert(0, str(Path(__file__).parents[2] / "tests"))
from device import PATIENCE_S, ROOT, events_of, eventually, run
from gateway_device import COMMAND, gateway_toml
from step_models import step_file, step_samples

ROWS_A_SECOND = 200
RATES = (1, 5, 20, 100)  # one call of so many fails
CALM_S = 2.5  # after faults and harm, until what was in memory is on disk
OF_SAMPLES = ("anomaly", "anomaly_end")
DELIVERY_S = 120.0  # a command that could not be started is tried again after up to a minute
CODES = (0, 1, 2, 3, 4)
LOSSES = {"outbox_dropped": "count", "outbox_made_anew": "lost", "outbox_damaged": "count", "exec_dropped": "count"}
"""Events that tell of lost ones, and the field that says how many."""


def preloaded(folder: Path) -> Path:
    """The library, compiled."""
    library = folder / "faults.so"
    source = Path(__file__).with_name("faults.c")
    subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-Wall", "-o", library, source], check=True)
    return library


class Sick:
    """A gateway on a sick disk, with all that watches it; everything of it lies in `folder`."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.deeds: Counter[str] = Counter()
        """What was done to it."""
        self._folder, self._kept = folder, folder / "kept"
        self._kept.mkdir()
        self._dice = random.Random(seed)
        self._rate, self._rows, self._got = folder / "rate", folder / "rows.csv", folder / "got"
        self.calm()
        step_file(folder / "m.onnx", 3, 4, threshold=0.15)
        self._rows.write_text("s0,s1,s2\n")
        (folder / "take.sh").write_text(f"cat >> {self._got}\n")
        (folder / "gateway.toml").write_text(
            gateway_toml(
                *("--model", folder / "m.onnx", "--csv", self._rows, "--follow", "--cooldown", "0s"),
                *("--state", self._kept / "state", "--state-every", 0.2, "--record", self._kept / "record.csv"),
                *("--outbox", self._outbox, "--exec", f"sh {folder / 'take.sh'}"),
            )
        )
        self._environment = os.environ | {
            "LD_PRELOAD": str(preloaded(folder)),
            "FAULTS_FOLDER": str(self._kept),
            "FAULTS_RATE": str(self._rate),
            "FAULTS_SEED": str(seed),
            "XDG_STATE_HOME": str(self._kept),
            "OMP_NUM_THREADS": "1",
        }
        self._samples = step_samples(3, 60_000, seed)
        self._written = 0
        self._stop = threading.Event()
        self.start()
        eventually((self._kept / "state").exists, "a state")
        self._feeder = threading.Thread(target=self._feed, daemon=True)
        self._feeder.start()
        eventually(lambda: bool(self._delivered()), "the first alarm")  # from now on it knows its place in the file
        self._todo: list[Callable[[], None]] = []

    @property
    def _outbox(self) -> Path:
        return self._kept / "outbox"

    def _feed(self) -> None:
        began = time.monotonic()
        with self._rows.open("a") as file:
            while not self._stop.wait(0.05):
                until = int((time.monotonic() - began) * ROWS_A_SECOND)
                for at, row in enumerate(self._samples[self._written : until], self._written):
                    file.write(",".join(map(str, row)) + "\n" + ("x" * 300_000 + "\n") * (at % 1000 == 500))
                file.flush()
                self._written = min(until, len(self._samples))

    def start(self) -> None:
        """Start it; what it says is appended."""
        self._starts = self.words().count("as it grows")
        with (self._folder / "stdout").open("ab") as stdout, (self._folder / "stderr").open("ab") as stderr:
            command = [*COMMAND, "run", str(self._folder / "gateway.toml")]
            self._process = subprocess.Popen(command, cwd=ROOT, env=self._environment, stdout=stdout, stderr=stderr)

    def calm(self) -> None:
        """No call fails from now on."""
        self._rate.write_text("0\n")

    def faults(self) -> None:
        """Calls fail for a while."""
        self._rate.write_text(f"{self._dice.choice(RATES)}\n")
        time.sleep(self._dice.uniform(1, 3))
        self.calm()

    def kill(self) -> None:
        """It is killed, and started again."""
        self._process.kill()
        self._process.wait()
        self.start()

    def stop(self) -> None:
        """It is stopped, and started again."""
        self.end()
        self.start()

    def end(self) -> None:
        """It is stopped, on time and well."""
        self._process.send_signal(signal.SIGTERM)
        assert self._process.wait(PATIENCE_S) == 0, self.words()[-2000:]

    def start_with_faults(self) -> None:
        """It is started while calls fail, some times; the state may be lost by it, so one of its own is."""
        kept = self._folder / "kept-for-later"
        self.end()
        shutil.copytree(self._kept, kept)
        self._rate.write_text(f"{self._dice.choice(RATES)}\n")
        for _ in range(2):
            self.start()
            time.sleep(self._dice.uniform(0.2, 1.5))
            self._process.send_signal(signal.SIGTERM)
            code = self._process.wait(PATIENCE_S)
            assert code in CODES or code == -signal.SIGTERM, self.words()[-2000:]
        self.calm()
        shutil.rmtree(self._kept)
        kept.rename(self._kept)
        self.start()

    def remove(self) -> None:
        """The outbox is removed."""
        shutil.rmtree(self._outbox, ignore_errors=True)

    def move(self) -> None:
        """The outbox is moved away."""
        if self._outbox.exists():
            self._outbox.rename(self._kept / f"away-{self.deeds.total()}")

    def replace(self) -> None:
        """A folder or a file is in its place."""
        self.move()
        if self._dice.random() < 0.5:
            self._outbox.mkdir()
        else:
            self._outbox.write_text("in the way")  # the gateway puts it aside
            time.sleep(1)

    def empty(self) -> None:
        """The files in it are cut to nothing."""
        for path in self._outbox.glob("*.events"):
            path.write_bytes(b"")

    def harm(self) -> None:
        """One of these, all in turn, and time to get over it."""
        if not self._todo:
            self._todo = [self.faults, self.kill, self.stop, self.remove, self.move, self.replace, self.empty]
            self._todo += [self.start_with_faults]
            self._dice.shuffle(self._todo)
        deed = self._todo.pop()
        eventually(lambda: self.words().count("as it grows") > self._starts, "the start")
        self.deeds[deed.__name__] += 1
        deed()
        assert deed in (self.kill, self.stop) or self._process.poll() is None, self.words()[-2000:]
        time.sleep(CALM_S)

    def words(self) -> str:
        """All that it has said to people."""
        return path.read_text() if (path := self._folder / "stderr").exists() else ""

    def finish(self) -> dict[str, Any]:
        """Wait for what it has to tell, end it, and judge."""
        self._stop.set()
        self._feeder.join()
        plain = run("--model", self._folder / "m.onnx", "--csv", self._rows, "--cooldown", "0s").stdout
        wanted = {(event["event"], event["sample"]) for event in events_of(plain) if event["event"] in OF_SAMPLES}
        told = self._events("stdout")
        with contextlib.suppress(AssertionError):  # what is missing is counted
            eventually(lambda: wanted <= set(self._delivered()), "the delivery of all", DELIVERY_S)
        self.end()
        delivered, words = self._delivered(), self.words()
        lines = [line for path in self._outbox.glob("*.events") for line in path.read_bytes().splitlines()]
        kept = {(e["event"], e.get("sample")) for line in lines if (e := json.loads(line.split(b" ", 4)[4]))}
        lost = sum(event[LOSSES[event["event"]]] for event in told if event["event"] in LOSSES)
        return {
            "samples": self._written,
            "deeds": dict(self.deeds),
            "alarms": len(wanted),
            "still_kept": len((wanted - set(delivered)) & kept),
            "missing": len(wanted - set(delivered) - kept),
            "told_as_lost": lost,
            "others": len(set(delivered) - wanted),
            "with_two_ids": sum(len(ids) > 1 for ids in delivered.values()),
            "ids_of_two": sum(n > 1 for n in Counter(i for ids in delivered.values() for i in ids).values()),
            "told": dict(Counter(event["event"] for event in told if event["event"] not in OF_SAMPLES)),
            "tracebacks": words.count("Traceback"),
        }

    def _events(self, name: str) -> list[dict[str, Any]]:
        lines = (self._folder / name).read_bytes().split(b"\n")[:-1] if (self._folder / name).exists() else []
        found = []
        for line in lines:
            try:
                found.append(json.loads(line))
            except ValueError:  # two runs' words in one line: a killed one leaves half of its last
                continue
        return found

    def _delivered(self) -> dict[tuple[str, int], set[str]]:
        """(event, sample) -> the ids under which it came."""
        found: dict[tuple[str, int], set[str]] = {}
        for event in self._events("got"):
            if event["event"] in OF_SAMPLES:
                found.setdefault((event["event"], event["sample"]), set()).add(event["id"])
        return found


def injected_run(folder: Path, seed: int, harms: int) -> dict[str, Any]:
    """One gateway, harmed so often; what came of it."""
    sick = Sick(folder, seed)
    try:
        for _ in range(harms):
            sick.harm()
        return sick.finish()
    finally:
        sick._process.kill()
        sick._process.wait()


@click.command()
@click.option("--runs", default=20, show_default=True)
@click.option("--harms", default=16, show_default=True, help="To each; two times eight, of eight kinds.")
@click.option("--seed", default=1, show_default=True, help="Of the first; the others follow.")
def main(runs: int, harms: int, seed: int) -> None:
    """Harm gateways, print what comes of it, and save it."""
    found = []
    for number in range(seed, seed + runs):
        with tempfile.TemporaryDirectory() as folder:
            found.append({"seed": number, **injected_run(Path(folder), number, harms)})
        click.echo(json.dumps(found[-1]))
    numbers = [key for key, value in found[0].items() if isinstance(value, int) and key != "seed"]
    total = {"runs": runs} | {key: sum(run[key] for run in found) for key in numbers}
    click.echo(f"in all: {total}")
    save("fault_injection", {"total": total, "runs": found})


if __name__ == "__main__":
    main()
