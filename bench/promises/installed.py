"""What the device install weighs, how long it takes to its first score, and how much memory it needs.

    python -m bench.promises.installed

The project's wheel with its `onnx` extra and with its `tflite` extra, each in a fresh environment, and LiteRT once more
without the packages that its wheel names and never imports here (an extra cannot leave them out). Then `edgekd-run`
over a recording of 25 sensors with the files of preset `edge`. Weights are untrained, which costs the same. Downloads
from the package index.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click
import numpy as np

from bench.files.speed import recording, untrained
from bench.promises.wheel import build_wheel, environment, run
from bench.results import save, table
from edgekd.compare.fresh import ONE_THREAD
from edgekd.data import save as save_recording
from edgekd.export import export

SENSORS = 25
STARTS = 5
BOUND_MB = {"onnx": 70.0, "tflite": 60.0}
PROTOCOL = (
    f"cold start: edgekd-run from its start to its first score, median of {STARTS} starts, files cached; peak: resident"
    " memory of edgekd-run over 3,000 samples; MB are 1,000,000 bytes; installed: all files in site-packages, pip and"
    " Python itself left out"
)
# what `edgekd-run` does, and then its own peak: the kernel counts a parent's memory into what it tells of children
COMMAND = """
import atexit, pathlib, sys
def tell():
    lines = pathlib.Path("/proc/self/status").read_text().splitlines()
    kib = next(line for line in lines if line.startswith("VmHWM")).split()[1]
    pathlib.Path(sys.argv.pop()).write_text(str(1024 * int(kib)))
atexit.register(tell)
from edgekd.runtime.cli import cli
cli.main(sys.argv[1:-1], standalone_mode=False)
"""


def packages(python: Path) -> dict[str, float]:
    """MB of each distribution that is installed, by name."""
    program = (
        "import json, os\nfrom importlib.metadata import distributions\n"
        "print(json.dumps({d.name: sum(os.path.getsize(f.locate()) for f in d.files or () if f.locate().is_file())"
        " for d in distributions()}))"
    )
    sizes = json.loads(run(str(python), "-I", "-c", program))
    return {name: size / 1e6 for name, size in sorted(sizes.items(), key=lambda item: -item[1])}


def first_score(python: Path, model: Path, csv: Path) -> float:
    """Seconds from the start of the command to its first score."""
    command = [str(python.with_name("edgekd-run")), "--model", str(model), "--csv", str(csv), "--scores", "--quiet"]
    began = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ | ONE_THREAD) as process:
        assert process.stdout is not None
        first = process.stdout.readline()
        seconds = time.perf_counter() - began
        process.stdout.read()
    if process.returncode or json.loads(first)["event"] != "score":
        raise click.ClickException(f"{model.name}: edgekd-run gave no score")
    return seconds


def peak_mb(python: Path, model: Path, csv: Path, folder: Path) -> float:
    """Peak resident memory of `edgekd-run` over the recording."""
    note = folder / "peak"
    arguments = ["--model", str(model), "--csv", str(csv), "--quiet", str(note)]
    run(str(python), "-I", "-c", COMMAND, *arguments)
    return int(note.read_text()) / 1e6


def measure(install: str, python: Path, files: list[Path], csv: Path, folder: Path) -> Iterator[dict[str, Any]]:
    """A row for each file in one environment."""
    sizes = packages(python)
    for model in files:
        starts = [first_score(python, model, csv) for _ in range(STARTS + 1)][1:]
        bound = BOUND_MB[model.suffix.removeprefix(".")]
        peak = max(peak_mb(python, model, csv, folder) for _ in range(3))
        yield {
            "install": install, "installed MB": sum(sizes.values()), "packages": len(sizes), "file": model.name,
            "file bytes": model.stat().st_size, "cold start s": float(np.median(starts)), "slowest s": max(starts),
            "peak MB": peak, "bound MB": bound, "holds": peak <= bound,
            "largest": ", ".join(f"{name} {mb:.1f}" for name, mb in list(sizes.items())[:4]),
        }  # fmt: skip


@click.command()
def main() -> None:
    """Install, measure, print and save."""
    rows: list[dict[str, Any]] = []
    with TemporaryDirectory() as temporary:
        folder = Path(temporary)
        checkpoint, _ = untrained(SENSORS, "edge")
        csv = folder / "recording.csv"
        save_recording(replace(recording(SENSORS), labels=None), csv)
        files: dict[str, list[Path]] = {}
        for kind in ("onnx", "tflite"):
            files[kind] = [folder / f"edge-float.{kind}", folder / f"edge-int8.{kind}"]
            for path, int8 in zip(files[kind], (None, "default")):
                export(checkpoint, path, format=kind, int8=int8, force=True, steps=100)
        wheel = str(build_wheel(folder))
        litert = run(sys.executable, "-c", "from importlib.metadata import version; print(version('ai-edge-litert'))")
        installs = {
            "edgekd[onnx]": ("onnx", [[f"{wheel}[onnx]"]]),
            "edgekd[tflite]": ("tflite", [[f"{wheel}[tflite]"]]),
            "edgekd, then --no-deps ai-edge-litert": (
                "tflite", [[wheel], ["--no-deps", f"ai-edge-litert=={litert.strip()}"]],
            ),
        }  # fmt: skip
        for install, (kind, arguments) in installs.items():
            python = environment(folder / f"env{len(rows)}", *arguments)
            rows += measure(install, python, files[kind], csv, folder)
            print(table(rows[-2:]), flush=True)
    save("installed", rows, protocol=PROTOCOL, sensors=SENSORS)
    missed = [row for row in rows if not row["holds"]]
    if missed:
        raise click.ClickException(f"peak memory above its bound: {', '.join(row['file'] for row in missed)}")


if __name__ == "__main__":
    main()
