"""How long does a recording take to be read, and how much memory?

    python -m bench.promises.reading [--rows 1500000] [--against FOLDER]

A CSV of so many rows, a time in ISO 8601 and 11 sensors, is read in a process of its own: processor time, and peak
memory beyond that of the imports, over that of the float32 values. `--against` names a checkout of another version,
which reads the same file in turn.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import click
import numpy as np

SENSORS = 11
BLOCK = 10_000
RUNS = 2
MEMORY_BOUND = 3.0
READ = """
import json, sys, time
from edgekd.data import load
def peak(): return 1024 * next(int(line.split()[1]) for line in open('/proc/self/status') if line.startswith('VmHWM'))
before, begin = peak(), time.process_time()
values = load(sys.argv[1]).values
print(json.dumps({"seconds": time.process_time() - begin, "memory": (peak() - before) / values.nbytes}))
"""


def write(path: Path, rows: int) -> None:
    """A plant's recording, one row a second."""
    values = (50 + np.random.default_rng(0).normal(0, 5, (rows, SENSORS))).round(3)
    times = np.datetime_as_string(np.datetime64("2025-01-01") + np.arange(rows) * np.timedelta64(1, "s"))
    with path.open("w") as file:
        file.write(",".join(["time", *(f"s{i}" for i in range(SENSORS))]) + "\n")
        for at in range(0, rows, BLOCK):
            block = zip(times[at : at + BLOCK], values[at : at + BLOCK].tolist())
            file.write("".join(f"{time},{','.join(map(str, row))}\n" for time, row in block))


def measured(checkout: Path, file: Path) -> dict[str, float]:
    """Seconds of the processor, and memory in sizes of the values, of one reading."""
    command = [sys.executable, "-c", READ, str(file)]
    environment = {**os.environ, "PYTHONPATH": str(checkout), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=checkout, env=environment)
    found: dict[str, float] = json.loads(done.stdout)
    return found


@click.command()
@click.option("--rows", default=1_500_000, show_default=True)
@click.option("--against", type=click.Path(exists=True, file_okay=False, path_type=Path), help="Another checkout.")
def main(rows: int, against: Path | None) -> None:
    """Write a recording, read it, and print what that took."""
    here = Path(__file__).parents[2]
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "recording.csv"
        write(file, rows)
        runs = [(measured(here, file), measured(against, file) if against else None) for _ in range(RUNS)]
    mine = min(own["seconds"] for own, _ in runs)
    memory = max(own["memory"] for own, _ in runs)
    click.echo(
        f"{rows:,} rows × {SENSORS + 1}: {mine:.1f} s, memory {memory:.2f} × the values (bound {MEMORY_BOUND:g})"
    )
    if against:
        theirs = min(other["seconds"] for _, other in runs if other)
        click.echo(f"the other version: {theirs:.1f} s; ratio {mine / theirs:.2f} (bound 1)")
    raise SystemExit(memory > MEMORY_BOUND)


if __name__ == "__main__":
    main()
