"""A million steps with the oldest and the newest version of each engine: does memory stay, are the scores the same?

    python -m bench.promises.engine_versions [--steps 1000000]

Each in an environment of its own with what setup.cfg's extras allow, and the one engine for 32-bit ARM beside them;
downloads from the package index. The detector is the smallest (Mahalanobis distance of eight sensors) as an ONNX and a
TFLite file: what is looked at is the engine, step by step through `Detector`, in one process without a pause.
"""

from __future__ import annotations

import json
import re
from configparser import ConfigParser
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click
import numpy as np

from bench.promises.wheel import REPOSITORY, environment, run
from bench.results import save, table

SENSORS = 8
ROWS = 20_000  # fed over and over
WARM_UP = 0.1
BOUND_MIB = 1.0
TOLERANCE = 1e-4  # of the score's own scale: engines sum float32 in other orders
PROTOCOL = (
    "RSS: VmRSS read 200 times; drift: median of the last tenth less median of the tenth after the first, which is"
    " warm-up; worst difference: of every thousandth score from that of the first row, relative"
)
PROGRAM = """
import json, os, sys, time
import numpy as np
from edgekd.runtime import Detector
model, samples, steps = sys.argv[1], np.load(sys.argv[2]), int(sys.argv[3])
detector = Detector.load(model, probe=False)
hop = detector.manifest.hop
hops = len(samples) // hop
rss, scores, began = [], [], time.perf_counter()
for step in range(steps):
    at = step % hops * hop
    (verdict,) = detector.update_block(samples[at : at + hop]) or (None,)
    if step % 1000 == 999:
        scores.append(verdict.score)
    if step % (steps // 200) == 0:
        with open("/proc/self/statm") as file:
            rss.append(int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20)
took_s = time.perf_counter() - began
resets = len(detector.state_resets())
print(json.dumps({"engine": detector.engine.name, "took_s": took_s, "rss": rss, "scores": scores, "resets": resets}))
"""


def versions() -> list[tuple[str, str, list[str]]]:
    """Which, kind of file and what pip is to install, for each row."""
    extras = ConfigParser()
    extras.read(REPOSITORY / "setup.cfg")
    rows = []
    for kind in ("onnx", "tflite"):
        lines = extras["options.extras_require"][kind].splitlines()
        wanted = next(line.partition(";")[0].strip() for line in lines if ">=" in line)
        name, floor = re.match(r"([\w-]+)>=([\d.]+)", wanted).groups()  # type: ignore[union-attr]
        # from before NumPy 2, and said so in no metadata
        rows.append(("lowest", kind, [f"{name}=={floor}", *(["numpy<2"] if kind == "onnx" else [])]))
        rows.append(("newest", kind, ["--upgrade", wanted]))
    return [*rows, ("32-bit ARM's", "tflite", ["tflite-runtime==2.14.0", "numpy<2"])]


def models(folder: Path) -> np.ndarray:
    """Both files, in a folder, and samples to feed them with: float32 (ROWS, SENSORS)."""
    from dataclasses import replace

    from edgekd.checkpoint import package
    from edgekd.data import Recording
    from edgekd.export import export
    from edgekd.methods.linear.config import PRESETS
    from edgekd.methods.linear.fit import fit_linear

    rng = np.random.default_rng(0)
    values = rng.normal(size=(ROWS, 2)) @ rng.normal(size=(2, SENSORS)) + 0.3 * rng.normal(size=(ROWS, SENSORS))
    recording = Recording(values.astype(np.float32), tuple(f"s{i}" for i in range(SENSORS)), 1.0, source="noise")
    step = fit_linear(recording, replace(PRESETS["mahalanobis"], hop=1), 0)
    checkpoint = package(step, recording, method="linear", role="student", preset="mahalanobis", seed=0, histories={})
    for kind in ("onnx", "tflite"):
        target = {"target": "tflite-runtime"} if kind == "tflite" else {}
        export(checkpoint, folder / f"model.{kind}", format=kind, steps=50, **target)
    return recording.values


def measure(python: Path, model: Path, samples: Path, steps: int) -> dict[str, Any]:
    """What a million steps do in one environment."""
    told = json.loads(
        run(str(python), "-c", PROGRAM, str(model), str(samples), str(steps), env={"PYTHONPATH": str(REPOSITORY)})
    )
    rss = told.pop("rss")
    warm, tenth = round(WARM_UP * len(rss)), len(rss) // 10
    begin, end = np.median(rss[warm : warm + tenth]), np.median(rss[-tenth:])
    return {**told, "begin": float(begin), "drift": float(end - begin), "largest": max(rss[warm:])}


@click.command()
@click.option("--steps", default=1_000_000, show_default=True, help="Of each engine.")
def main(steps: int) -> None:
    """Install, measure, print and save."""
    rows: list[dict[str, Any]] = []
    with TemporaryDirectory() as temporary:
        folder = Path(temporary)
        np.save(folder / "samples.npy", models(folder))
        reference: np.ndarray | None = None
        for i, (which, kind, installs) in enumerate(versions()):
            python = environment(folder / f"env{i}", [*installs, "click"])
            found = measure(python, folder / f"model.{kind}", folder / "samples.npy", steps)
            scores = np.array(found["scores"])
            reference = scores if reference is None else reference
            worst = float((np.abs(scores - reference) / np.maximum(np.abs(reference), 1e-6)).max())
            rows.append({
                "engine": found["engine"], "which": which, "file": kind, "steps": steps, "resets": found["resets"],
                "µs a step": round(1e6 * found["took_s"] / steps, 1), "RSS MiB": round(found["begin"], 2),
                "drift MiB": round(found["drift"], 3), "largest MiB": round(found["largest"], 2),
                "bound MiB": BOUND_MIB, "worst difference": worst,
                "holds": found["drift"] <= BOUND_MIB and worst <= TOLERANCE and not found["resets"],
            })  # fmt: skip
            print(table(rows[-1:]), flush=True)
    save("engine_versions", rows, protocol=PROTOCOL, sensors=SENSORS, tolerance=TOLERANCE)
    missed = [row["engine"] for row in rows if not row["holds"]]
    if missed:
        raise click.ClickException(f"out of bounds: {', '.join(missed)}")


if __name__ == "__main__":
    main()
