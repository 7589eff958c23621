"""Does the device read what training read, for every way in which a logger may write?

    python -m bench.promises.same_reading FOLDER [--work DIR]

FOLDER holds one recording in many layouts and `expected.json`, which says of each file the options that a user has to
give (`args`), whether it is refused (`refuse`), and whether its values are `base.csv`'s (`values`). Each file is
distilled (linear), exported and run with `edgekd-run --csv`; then it is run with the model of `base.csv` and its own
layout (`edgekd look --layout`). Score lines have to be equal to those of `base.csv`, sample by sample.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from click.testing import CliRunner

from bench.results import save

TOLERANCE = 1e-6  # relative: the same numbers, in columns that may have another order


def edgekd(*arguments: str | Path) -> str:
    """Run a command of the workstation in this process; raises RuntimeError with its last words."""
    from edgekd.cli import cli

    done = CliRunner().invoke(cli, [str(argument) for argument in arguments])
    if done.exit_code:
        raise RuntimeError(f"edgekd {arguments[0]}: {done.exception or done.output[-300:]}")
    return done.output


def scores(model: Path, file: Path, *options: str | Path) -> list[tuple[int, float]]:
    """Sample and score of each verdict of the device."""
    command = [sys.executable, "-m", "edgekd.runtime.cli", "--model", model, "--csv", file, "--scores", *options]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=120)
    if done.returncode:
        raise RuntimeError(f"edgekd-run: {done.stderr.strip().splitlines()[-1]}")
    events = map(json.loads, done.stdout.splitlines())
    return [(event["sample"], event["score"]) for event in events if event["event"] == "score"]


def equal(found: list[tuple[int, float]], want: list[tuple[int, float]]) -> bool:
    """Whether two runs say the same."""
    if [sample for sample, _ in found] != [sample for sample, _ in want]:
        return False
    return bool(np.allclose([score for _, score in found], [score for _, score in want], rtol=TOLERANCE, atol=1e-9))


def model_of(file: Path, args: list[str], work: Path) -> Path:
    """A detector trained on one file."""
    work.mkdir(parents=True, exist_ok=True)
    student, model = work / "student.pt", work / "student.onnx"
    edgekd("distill", file, "-o", student, "--method", "linear", *args)
    edgekd("export", student, "-o", model, "--force")
    return model


def judged(name: str, expect: dict[str, Any], folder: Path, work: Path, base: Path, want: list[Any]) -> dict[str, str]:
    """What became of one file, by its own model and by the base's: "equal", or what was not."""
    file, args, found = folder / name, expect.get("args", []), {}
    named = (expect.get("sensors") or [])[: len(NAMES)] == list(NAMES)  # else the base's model has other sensors
    alike = expect.get("values") == "same" and expect.get("samples") == 600 and expect.get("entities", 1) == 1
    alike = alike and expect.get("sensors") in (None, list(NAMES))
    for way in ("own model", "base model") if named else ("own model",):
        try:
            if way == "own model":
                model = model_of(file, args, work / name)
                got = scores(model, file)
            else:
                layout = work / name / "layout.toml"
                layout.unlink(missing_ok=True)
                edgekd("look", file, "--layout", layout, *args)
                got = scores(base, file, "--layout", layout)
        except (RuntimeError, subprocess.TimeoutExpired) as error:
            found[way] = str(error)[:200]
            continue
        if equal(got, want):
            found[way] = "equal"
        else:
            found[way] = f"{len(got)} scores, {'not ' if alike else 'as told not '}equal to the base's {len(want)}"
    return found


NAMES = ("temp_c", "pressure_bar", "speed_rpm")


def main() -> None:
    """Run every file, print what is not equal, keep the counts."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--only", metavar="NAME", nargs="*", help="Names of files, instead of all.")
    given = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    expected = json.loads((given.folder / "expected.json").read_text())
    counts: dict[str, Counter[str]] = {"own model": Counter(), "base model": Counter()}
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        base = model_of(given.folder / "base.csv", [], work / "base")
        want = scores(base, given.folder / "base.csv")
        for name, expect in expected.items():
            if "refuse" in expect or (given.only and name not in given.only):
                continue
            for way, words in judged(name, expect, given.folder, work, base, want).items():
                counts[way]["equal" if words == "equal" else "other" if "as told" in words else "wrong"] += 1
                if words != "equal":
                    print(f"{name}, {way}: {words}", flush=True)
    print(json.dumps(counts))
    if not given.only:
        save("same_reading", {way: dict(count) for way, count in counts.items()}, files=len(expected))


if __name__ == "__main__":
    main()
