"""How many lines of ours a device loads: what somebody would have to read who wants to know what it runs.

    python -m bench.promises.loaded_lines [--before=CHECKOUT]

CHECKOUT is one of 0.1.0; without it the figures of 0.1.0 stay those of the last run.
"""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click

from bench.promises.pretend_port import Port
from bench.results import kept, save, table

TREE = Path(__file__).parents[2]
OLD = TREE / "tests" / "compat" / "0.1.0"
MODEL, RECORDING = OLD / "student.onnx", OLD / "recording.csv"
LIBRARY, CSV, SERIAL = "the library's Detector", "edgekd-run --csv", "edgekd-run --serial"
RUNTIME, LOOP = "runtime without gateway", "class Loop"
BOUNDS = {LIBRARY: 2700, CSV: 4600, SERIAL: 5000, RUNTIME: 6500, LOOP: 160}
PROTOCOL = (
    "physical lines of the package's modules in sys.modules when the process ends; the Detector has loaded an ONNX file"
    " and given scores, --csv has read a file, --serial has given one score from a pty; a model that was never tried on"
    " this machine, the child process that tries it left out"
)
# what a process does is followed by what it has loaded, in a file that the last argument names
LOADED = """
import atexit, json, pathlib, sys
def tell():
    ours = [module for name, module in sys.modules.items() if name.split(".")[0] == "edgekd"]
    pathlib.Path(sys.argv[-1]).write_text(json.dumps([file for module in ours if (file := module.__file__)]))
atexit.register(tell)
"""
RUN = LOADED + "from edgekd.runtime.cli import cli\ncli.main(sys.argv[1:-1], standalone_mode=False)\n"
DETECT = (
    LOADED
    + """
from edgekd.runtime import Detector
import csv
detector = Detector.load(sys.argv[1])
with open(sys.argv[2]) as file:
    verdicts = [detector.update([float(row[name]) for name in detector.manifest.names]) for row in csv.DictReader(file)]
assert any(verdicts)
"""
)


def lines(path: Path) -> int:
    """Physical lines."""
    return len(path.read_text().splitlines())


def detector(tree: Path = TREE) -> dict[str, int]:
    """Lines of each module that `Detector` loads, by its name, the largest first."""
    return _loaded(tree, DETECT, MODEL, RECORDING)


def csv_run(tree: Path = TREE) -> dict[str, int]:
    """The same of `edgekd-run --csv`."""
    return _loaded(tree, RUN, "--model", MODEL, "--csv", RECORDING, "--quiet")


def serial_run(tree: Path = TREE) -> dict[str, int]:
    """The same of `edgekd-run --serial`."""
    with TemporaryDirectory() as folder, Port(Path(folder) / "port") as port:
        arguments = ("--model", MODEL, "--serial", port.link, "--scores", "--quiet")
        return _loaded(tree, RUN, *arguments, until=lambda process: _feed(process, port))


def runtime(tree: Path = TREE) -> dict[str, int]:
    """Lines of each module of runtime/ outside gateway/."""
    folder = tree / "runtime"
    return _counted(tree, [path for path in folder.rglob("*.py") if folder / "gateway" not in path.parents])


def loop(tree: Path = TREE) -> int:
    """Lines of class Loop."""
    module = ast.parse((tree / "runtime" / "loop.py").read_text())
    (found,) = (node for node in module.body if isinstance(node, ast.ClassDef) and node.name == "Loop")
    return (found.end_lineno or 0) - found.lineno + 1


def _loaded(
    tree: Path, program: str, *arguments: object, until: Callable[[subprocess.Popen[str]], None] | None = None
) -> dict[str, int]:
    """What a process has loaded at its end; `until` says when a run that has none is to be stopped."""
    with TemporaryDirectory() as folder:
        note = Path(folder) / "loaded"
        command = [sys.executable, "-c", program, *map(str, arguments), str(note)]
        environment = os.environ | {"XDG_STATE_HOME": folder, "OMP_NUM_THREADS": "1"}
        with subprocess.Popen(command, cwd=tree, env=environment, stdout=subprocess.PIPE, text=True) as process:
            if until is not None:
                until(process)
                process.terminate()
            process.communicate()
        if process.returncode:
            raise click.ClickException(f"{tree.name}: {' '.join(map(str, arguments))} ended with {process.returncode}")
        return _counted(tree, [Path(file) for file in json.loads(note.read_text())])


def _feed(process: subprocess.Popen[str], port: Port) -> None:
    """Samples until there is a score."""
    assert process.stdout is not None
    while json.loads(process.stdout.readline())["event"] != "input_open":
        pass
    with RECORDING.open("rb") as file:
        for line in file.readlines()[:200]:
            port.write(line)
    while json.loads(process.stdout.readline())["event"] != "score":
        pass


def _counted(tree: Path, files: list[Path]) -> dict[str, int]:
    """Lines of each file by its name in the tree, the largest first."""
    counts = {file.resolve().relative_to(tree.resolve()).as_posix(): lines(file) for file in files}
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def measure(tree: Path) -> dict[str, Any]:
    """Lines, and of what they are, for each of the bounds."""
    found = {LIBRARY: detector(tree), CSV: csv_run(tree), SERIAL: serial_run(tree), RUNTIME: runtime(tree)}
    told: dict[str, Any] = {
        name: {"lines": sum(counts.values()), "modules": len(counts), "of": counts} for name, counts in found.items()
    }
    return {**told, LOOP: {"lines": loop(tree)}}


@click.command()
@click.option("--before", type=click.Path(exists=True, file_okay=False, path_type=Path), help="A checkout of 0.1.0.")
def main(before: Path | None) -> None:
    """Count, print and save."""
    figures = {"0.1.0": measure(before) if before else kept("loaded_lines")["0.1.0"], "now": measure(TREE)}
    rows: list[dict[str, Any]] = []
    for name, bound in BOUNDS.items():
        then, now = (figures[when][name]["lines"] for when in ("0.1.0", "now"))
        rows.append({"lines of": name, "0.1.0": then, "now": now, "bound": bound, "holds": now <= bound})
    print(table(rows))
    save("loaded_lines", {"rows": rows, **figures}, protocol=PROTOCOL)
    missed = [row["lines of"] for row in rows if not row["holds"]]
    if missed:
        raise click.ClickException(f"more lines than the bound: {', '.join(missed)}")


if __name__ == "__main__":
    main()
