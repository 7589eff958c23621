"""What `edgekd-run --csv` costs a sample, and how much of that the run of an earlier checkout did.

    chrt -f 5 python -m bench.promises.chunks --before CHECKOUT [--data DIR]

Real-time priority keeps other work of the machine out of the figures. The recording is SMD 1-2 (38 sensors), four times
over, plain and with a time column, whole and with one bad line in a hundred; without --data a simulated plant. Both
runs read the same model files, in turn, and must say the same, byte by byte, every score included.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click

from bench.results import rounded, save, table
from edgekd.data import Recording, load
from edgekd.distillation import distill
from edgekd.export import export
from edgekd.simulation.simulate import simulate

TREE = Path(__file__).parents[2]
SMD = "smd/machine-1-2.npz"
PRESETS = {"mahalanobis": "linear", "ensemble": "linear", "innovations": "linear", "signature": "regression"}
TIMES, SHORT, ROUNDS, BAD, STEPS = 4, 2_000, 2, 0.01, 50
BOUND = 0.5
PROTOCOL = (
    f"user and system time of edgekd-run --csv, least of {ROUNDS} in turn; a sample: the long file less its first"
    f" {SHORT} rows, so without the start of the process; ratio: now / before; bad lines: text or nothing in a cell, a"
    " cell too few or too many, a time again or from long before, an empty line, bytes that are no UTF-8"
)


def written(recording: Recording, path: Path, timed: bool, times: int = 1, bad: float = 0.0) -> Path:
    """The recording as a CSV, so many times over, with a share of bad lines."""
    fate, began, at = random.Random(0), datetime(2025, 3, 3), 0
    names = ("time", *recording.sensors) if timed else recording.sensors
    with path.open("wb") as file:
        file.write(",".join(names).encode() + b"\n")
        for values in [row for _ in range(times) for row in recording.values]:
            at += 1
            cells = [str(value).encode() for value in values]
            cells = [str(began + timedelta(minutes=at)).encode(), *cells] if timed else cells
            file.write(b",".join(_damaged(cells, timed, fate) if fate.random() < bad else cells) + b"\n")
    return path


def _damaged(cells: list[bytes], timed: bool, fate: random.Random) -> list[bytes]:
    i = fate.randrange(len(cells))
    kinds = [cells[:i], [*cells, b"1.0"], [b""]]
    kinds += [[*cells[:i], what, *cells[i + 1 :]] for what in (b"off", b"", b"\xff1")]
    if timed:
        kinds += [[when, *cells[1:]] for when in (b"2025-03-03 00:00:00", b"2025-03-03 00:05:00")]
    return fate.choice(kinds)


def run(tree: Path, model: Path, csv: Path, *more: str) -> tuple[float, bytes]:
    """Seconds of CPU, and what was said."""
    environment = os.environ | {"PYTHONPATH": str(tree), "OMP_NUM_THREADS": "1", "XDG_STATE_HOME": str(csv.parent)}
    command = [sys.executable, "-m", "edgekd.runtime.cli", "--model", model.name, "--csv", csv.name, *more]
    with subprocess.Popen(command, cwd=csv.parent, env=environment, stdout=-1, stderr=subprocess.STDOUT) as process:
        assert process.stdout is not None
        said = process.stdout.read()
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise click.ClickException(f"{tree.name}: {said.decode(errors='replace')[-300:]}")
    return used.ru_utime + used.ru_stime, said


def measure(model: Path, short: Path, long: Path, rows: int, before: Path) -> dict[str, Any]:
    """One row of the table."""
    best: dict[tuple[Path, Path], float] = {}
    for _ in range(ROUNDS):
        for tree in (before, TREE):
            for csv in (short, long):
                best[tree, csv] = min(run(tree, model, csv)[0], best.get((tree, csv), 1e9))
    us = {tree: 1e6 * (best[tree, long] - best[tree, short]) / (rows - SHORT) for tree in (before, TREE)}
    ratio = us[TREE] / us[before]
    equal = run(before, model, long, "--scores")[1] == run(TREE, model, long, "--scores")[1]
    return {
        "before, µs a sample": us[before], "now, µs a sample": us[TREE], "ratio": ratio,
        "ratio of the whole process": best[TREE, long] / best[before, long], "equal": equal,
        "bound": BOUND, "holds": equal and ratio <= BOUND,
    }  # fmt: skip


@click.command()
@click.option("--before", type=click.Path(exists=True, file_okay=False, path_type=Path), required=True)
@click.option("--data", type=click.Path(path_type=Path), envvar="EDGEKD_DATA", help="Data folder.")
def main(before: Path, data: Path | None) -> None:
    """Measure, print and save."""
    train, test = (load(str(data / SMD), part) for part in ("train", "test")) if data else _simulated()
    rows: list[dict[str, Any]] = []
    for timed in (False, True):
        with TemporaryDirectory() as temporary:
            folder = Path(temporary)
            known = load(str(written(train, folder / "train.csv", timed)))
            short = written(test.slice(0, SHORT), folder / "short.csv", timed)
            files = {bad: written(test, folder / f"{bad}.csv", timed, TIMES, bad) for bad in (0.0, BAD)}
            teacher = folder / "ensemble.pt"
            for preset, method in PRESETS.items():
                how = {"teacher": teacher, "settings": {"updates": STEPS}} if method == "regression" else {}
                made = distill(known, folder / f"{preset}.pt", method=method, preset=preset, **how)
                model = export(made, folder / f"{preset}.onnx", steps=STEPS).path
                for bad, long in files.items():
                    about = {"preset": preset, "time column": timed, "bad lines": bad}
                    rows.append(about | measure(model, short, long, TIMES * len(test.values), before.resolve()))
                    print(table(rows[-1:]), flush=True)
    save("chunks", rounded(rows), protocol=PROTOCOL)
    missed = [row for row in rows if not row["holds"]]
    if missed:
        raise click.ClickException("; ".join(f"{row['preset']}: {row['ratio']:.2f}, {row['equal']}" for row in missed))


def _simulated() -> tuple[Recording, Recording]:
    plant = [simulate(24_000, 38, seed=seed, faults=()).recording for seed in (1, 2)]
    return plant[0], replace(plant[1], labels=None)


if __name__ == "__main__":
    main()
