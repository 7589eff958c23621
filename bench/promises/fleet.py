"""A fleet by one command: what a machine costs, what kills and changes cost, whose normal has moved.

    python -m bench.promises.fleet [--machines 200] [--only PART]

Machines are simulated lines of one type (`edgekd simulate`), each with a seed of its own: three days of minutes from 12
sensors to train on, three days that its device records, three more to judge what was made anew. In the records a tenth
of the machines has moved half-way: one to three sensors by 1.5 to 2.5 standard deviations. Seconds of wall clock are
worth what the other load of the computer lets them be, seconds of a core hardly depend on it.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import resource
import shutil
import signal
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import numpy as np
from joblib import Parallel, delayed

from bench.results import in_turn, kept, rounded
from bench.results import save as save_results
from edgekd.data import load, save
from edgekd.evaluation.alarms import alarms_told
from edgekd.evaluation.score_model import reading_for, score_detector
from edgekd.fleet.report import page, rows_of
from edgekd.fleet.site import Site
from edgekd.runtime import Detector
from edgekd.simulation.simulate import simulate

ROOT = Path(__file__).parents[2]
SAMPLES = 4320
SHIFTED = 10  # every so-manyth machine has moved
SOME = 20  # machines of the parts that are run again and again
KILLS = 5
SHOWN = (
    "machines", "all s", "CPU s a machine", "CPU s a machine, without starts", "again s", "model bytes",
    "site bytes a machine",
)  # fmt: skip
MANY, WRITES = 100_000, 300
INNOVATIONS = ("--preset", "innovations")
BOUNDS = {"all s": 600, "CPU s a machine": 60, "again s": 10}


@click.command()
@click.option("--machines", default=200, show_default=True)
@click.option("--only", help="innovations, default, kills, drift, ray or large.")
def main(machines: int, only: str | None) -> None:
    """Measure, and print each part."""
    parts = {
        "innovations": lambda folder: rounded(cost(folder, machines, INNOVATIONS)),
        "default": lambda folder: rounded(cost(folder, machines, ())),
        "kills": lambda folder: rounded(kills(folder, min(machines, SOME))),
        "drift": lambda folder: rounded(drift(folder, machines)),
        "ray": lambda folder: rounded(on_ray(folder, min(machines, SOME))),
        "large": lambda folder: rounded(large(folder)),
    }
    in_turn("fleet", parts, lambda name: not only or only == name, samples=SAMPLES, bounds=BOUNDS)
    save_results("fleet", kept("fleet") | {"table": table(kept("fleet"))})


def table(figures: dict[str, Any]) -> list[dict[str, Any]]:
    """The costs of both detectors side by side."""
    words = {"innovations": "--preset innovations", "default": "the default"}
    return [
        {"detector": words[part], **{key: figures[part][key] for key in SHOWN}} for part in words if part in figures
    ]


def make(folder: Path, machines: int, further: bool = False) -> Path:
    """The recordings; with `further` what devices record later, too."""
    for name in ("recordings", "records", "later"):
        (folder / name).mkdir()
    Parallel(n_jobs=-1)(delayed(_make)(folder, seed, further) for seed in range(machines))
    return folder / "recordings"


def named(seed: int) -> str:
    """A machine."""
    return f"line-{seed:03}"


def _make(folder: Path, seed: int, further: bool) -> None:
    plant = replace(simulate(3 * SAMPLES, seed=1000 + seed, faults=()).recording, labels=None)
    values = plant.values.copy()
    if seed % SHIFTED == 0:
        rng = np.random.default_rng(seed)
        columns = rng.choice(plant.n_sensors, rng.integers(1, 4), replace=False)
        by = rng.choice((-1, 1), len(columns)) * rng.uniform(1.5, 2.5, len(columns))
        values[SAMPLES + SAMPLES // 2 :, columns] += (by * values[:SAMPLES].std(0)[columns]).astype(np.float32)
    moved = replace(plant, values=values)
    for i, name in enumerate(("recordings", "records", "later")[: 3 if further else 1]):
        save(moved.slice(i * SAMPLES, (i + 1) * SAMPLES), folder / name / f"{named(seed)}.csv")


def edgekd(*words: str | Path) -> list[str]:
    """The command line of `edgekd fleet`."""
    return [sys.executable, "-m", "edgekd.cli", "fleet", *map(str, words)]


def timed(*words: str | Path) -> dict[str, float]:
    """Run it; seconds of wall clock, and of a core with all processes that it began."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    subprocess.run(edgekd(*words), check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"s": time.monotonic() - began, "cpu_s": cpu_s}


def cost(folder: Path, machines: int, options: tuple[str, ...]) -> dict[str, Any]:
    """All machines, then again with nothing changed."""
    recordings, site = make(folder, machines), folder / "site"
    load_before = os.getloadavg()[0]
    first = timed("distill", recordings, "-o", site, *options)
    again = timed("distill", recordings, "-o", site, *options)
    made = json.loads((site / "run.json").read_text())["machines"]
    files = [path for path in site.rglob("*") if path.is_file()]
    return {
        "machines": machines,
        "load before": load_before,
        "all s": first["s"],
        "CPU s a machine": first["cpu_s"] / machines,
        "CPU s a machine, without starts": statistics.median(one["cpu_s"] for one in made.values()),
        "again s": again["s"],
        "model bytes": statistics.median(path.stat().st_size for path in site.rglob("student.onnx")),
        "site bytes a machine": sum(path.stat().st_size for path in files if "machines" in path.parts) / machines,
        "site.json bytes a machine": (site / "site.json").stat().st_size / machines,
    }


def contents(site: Path) -> dict[str, str]:
    """Digests of all files but that of times."""
    return {
        str(path.relative_to(site)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(site.rglob("*"))
        if path.is_file() and path.name != "run.json"
    }


def kills(folder: Path, machines: int) -> dict[str, Any]:
    """Killed at random moments, after up to four machines, with all its processes, then run to its end: the files
    beside those of a calm run."""
    recordings = make(folder, machines)
    timed("distill", recordings, "-o", folder / "calm", *INNOVATIONS)
    chance, alive = random.Random(0), []
    for _ in range(KILLS):
        process = subprocess.Popen(
            edgekd("distill", recordings, "-o", folder / "killed", *INNOVATIONS), start_new_session=True,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        if (more := chance.randrange(5)) > 0:  # sometimes before it has made any
            _until(folder / "killed", (alive or [0])[-1] + more)
        time.sleep(chance.uniform(0, 3))
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        alive.append(len(list((folder / "killed").rglob("student.onnx"))))
    timed("distill", recordings, "-o", folder / "killed", *INNOVATIONS)
    same = contents(folder / "killed") == contents(folder / "calm")
    return {"machines": machines, "kills": KILLS, "made by then": alive, "same files": same}


def drift(folder: Path, machines: int) -> dict[str, Any]:
    """Who is named, and what those that are made anew are worth later."""
    recordings, site, records = make(folder, machines, further=True), folder / "site", folder / "records"
    timed("distill", recordings, "-o", site, *INNOVATIONS)
    shutil.copytree(site, folder / "before")
    took = timed("drift", site, "--from", records)
    found = json.loads((site / "drift.json").read_text())
    moved = {named(seed) for seed in range(0, machines, SHIFTED)}
    anew = timed("distill", recordings, "-o", site, *INNOVATIONS, "--changed", "--from", records)
    names = sorted(moved & found["moved"].keys())
    before, after = (
        [_alarms_a_day(where / "machines" / name / "student.onnx", folder / "later" / f"{name}.csv") for name in names]
        for where in (folder / "before", site)
    )
    return {
        "machines": machines,
        "moved": len(moved),
        "named of them": len(names),
        "named of the others": len(found["moved"].keys() - moved),
        "to be mended": len(found["mend"]),
        "drift s": took["s"],
        "drift CPU s a machine": took["cpu_s"] / machines,
        "anew s": anew["s"],
        "time in alarm before": float(np.mean([share for share, _ in before])),
        "time in alarm after": float(np.mean([share for share, _ in after])),
        "alarms a day after": float(np.mean([alarms for _, alarms in after])),
        "better afterwards": sum(late[0] < early[0] for early, late in zip(before, after)),
    }


def _alarms_a_day(model: Path, later: Path) -> tuple[float, float]:
    """Share of verdicts in alarm, and alarms a day."""
    recording = load(later, **reading_for(model, {}))
    found = score_detector(Detector.load(model), recording)
    days = len(recording) * recording.period_s / 86400
    return float((found.scores > found.threshold).mean()), len(alarms_told(found, found.threshold)) / days


def on_ray(folder: Path, machines: int) -> dict[str, Any]:
    """A head and two nodes on loopback, one of them killed in the middle: the files beside those of one computer."""
    sys.path.insert(0, str(ROOT / "tests" / "fleet"))
    from ray_cluster import PORT, cluster

    recordings = make(folder, machines)
    timed("distill", recordings, "-o", folder / "local", *INNOVATIONS)
    with cluster(2, str(ROOT)) as (environment, nodes):
        site = folder / "site"
        began = time.monotonic()
        process = subprocess.Popen(
            edgekd("distill", recordings, "-o", site, *INNOVATIONS, "--on", f"127.0.0.1:{PORT}"), env=environment
        )
        killer = threading.Thread(target=lambda: _until(site, machines // 2) and nodes[0].kill())
        killer.start()
        code = process.wait()
        killer.join()
    return {
        "machines": machines,
        "exit code": code,
        "s": time.monotonic() - began,
        "same files": contents(site) == contents(folder / "local"),
    }


def large(folder: Path) -> dict[str, Any]:
    """The list of 100,000 machines: what the one process that writes it does alone."""
    recordings = make(folder, 1)
    timed("distill", recordings, "-o", folder / "site", *INNOVATIONS)
    site = Site(folder / "site")
    entry, made = site.machines[named(0)], site.last["machines"][named(0)]
    files = {path.name: path.read_bytes() for path in site.folder_of(named(0)).iterdir()}
    site.machines = {f"line-{i:06}": entry for i in range(MANY)}
    site.last = {**site.last, "machines": dict.fromkeys(site.machines, made)}
    clock = time.monotonic
    began = clock()
    site.save()
    saved = clock()
    again = Site(site.folder)
    loaded = clock()
    again.last = site.last
    text = page(rows_of(again), again)
    shown = clock()
    for i in range(WRITES):
        site.put(site.folder_of(f"line-{i}"), files)
    put = clock()
    content = b"0" * 2**26
    hashing = clock()
    hashlib.sha256(content).digest()
    hashed = clock()
    return {
        "machines": MANY,
        "list written s": saved - began,
        "list read s": loaded - saved,
        "list MB": (site.folder / "site.json").stat().st_size / 1e6,
        "report s": shown - loaded,
        "report MB": len(text) / 1e6,
        "machines written a second": WRITES / (put - shown),
        "recordings digested MB a second": len(content) / 1e6 / (hashed - hashing),
        "recording bytes": (recordings / f"{named(0)}.csv").stat().st_size,
    }


def _until(site: Path, made: int) -> bool:
    while sum(1 for _ in _models(site)) < made:
        time.sleep(0.2)
    return True


def _models(site: Path) -> Iterator[Path]:
    return site.rglob("student.onnx")


if __name__ == "__main__":
    main()
