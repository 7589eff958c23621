"""Step times side by side in one run, one thread each: the figures for device cost.

    python -m bench.files.speed

Published student (w = 100, hop 50) and preset `edge` at n = 8, 25, 38, 55: torch teacher window, ONNX float and int8
step, and the runtime's `Detector.update` around the int8 graph. Weights are untrained, which costs the same; parity of
what was timed (torch against both files, 200 closed-loop steps) stands in the same row.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click
import numpy as np
import torch

from bench.results import kept, save, table
from edgekd.checkpoint import Checkpoint, package
from edgekd.data import Recording
from edgekd.export import export
from edgekd.methods.lta import PRESETS, LTAStep
from edgekd.methods.lta.distill import prepared
from edgekd.runtime import Detector
from edgekd.runtime.engines import Stream

ROUNDS = 60
PARITY_STEPS = 200
SAMPLES = 3000
SENSORS = (8, 25, 38, 55)


def recording(n: int, samples: int = SAMPLES) -> Recording:
    """Correlated noise: what is in it costs the same."""
    rng = np.random.default_rng(0)
    drivers = np.cumsum(rng.normal(size=(samples, 4)), axis=0) * 0.05
    values = drivers @ rng.normal(size=(4, n)) + rng.normal(size=(samples, n))
    return Recording(values.astype(np.float32), tuple(f"s{i}" for i in range(n)), 60.0, source="noise")


def untrained(n: int, preset: str, **settings: Any) -> tuple[Checkpoint, LTAStep]:
    """A student with fitted scaling and random weights, and its teacher; the published one at w = 100 and 200 if not
    told otherwise."""
    torch.manual_seed(0)
    data = recording(n)
    published = {"window": 100, "teacher_window": 200} if preset == "paper" else {}
    config = replace(PRESETS[preset], **(published | settings))
    student = prepared(data, config)
    checkpoint = package(student, data, method="lta", role="student", preset=preset, seed=0, histories={})
    return checkpoint, prepared(data, config.teacher()).eval()


def in_turn(
    calls: dict[str, Callable[[], Any]], rounds: int, clock: Callable[[], float] = time.perf_counter
) -> dict[str, np.ndarray]:
    """Seconds of each call in every round, so that a slow moment of the machine hits all of them.

    In a new order each round: whoever follows the teacher finds the caches empty. A busy machine interrupts long calls
    and lets short ones through: calls of very different length are compared by `time.process_time`.
    """
    rng = np.random.default_rng(0)
    times: dict[str, list[float]] = {name: [] for name in calls}
    for round_ in range(rounds + 3):
        for name in rng.permutation(list(calls)):
            call = calls[name]
            started = clock()
            call()
            if round_ >= 3:
                times[name].append(clock() - started)
    return {name: np.array(values) for name, values in times.items()}


def in_hops(n: int, hop: int) -> np.ndarray:
    """The samples that are timed, (hops, hop, n)."""
    samples = recording(n).values
    return samples[: len(samples) // hop * hop].reshape(-1, hop, n)


def bare(detector: Detector, blocks: np.ndarray) -> Callable[[], None]:
    """The session alone over hops (k, hop, n), its state handed back."""
    turn = itertools.cycle(blocks)
    names = [spec.name for spec in detector.manifest.state]
    given = {"samples": np.empty_like(blocks[0]), "valid": np.ones(blocks.shape[-1], np.float32)}
    feeds = Stream(detector.manifest.cold_state() | given)

    def run() -> None:
        feeds["samples"][:] = next(turn)
        found = detector.engine.run(feeds)
        feeds.update(zip(names, found[len(detector.manifest.outputs) :]))

    return run


def whole(detector: Detector, blocks: np.ndarray, by_block: bool) -> Callable[[], None]:
    """The same through the runtime, one hop a call: sample by sample, or as a block."""
    turn = itertools.cycle(blocks)
    stream = detector.stream()

    def run() -> None:
        if by_block:
            stream.update_block(next(turn))
            return
        for sample in next(turn):
            stream.update(sample)

    return run


def measure(n: int, preset: str, folder: Path) -> dict[str, Any]:
    """One row."""
    checkpoint, teacher = untrained(n, preset)
    done = {
        int8: export(
            checkpoint, folder / f"{int8}.onnx", int8="default" if int8 else None, force=True, steps=PARITY_STEPS
        )
        for int8 in (False, True)
    }
    float_, int8 = (Detector.load(done[key].path) for key in (False, True))
    hop = int8.manifest.hop
    blocks = in_hops(n, hop)
    window = torch.rand(1, teacher.geometry.steps, 3, teacher.m, teacher.m)

    @torch.inference_mode()
    def teacher_window() -> None:
        teacher.network(window)

    times = in_turn(
        {
            "teacher": teacher_window,
            "float": bare(float_, blocks),
            "int8": bare(int8, blocks),
            "by_sample": whole(int8, blocks, by_block=False),
            "by_block": whole(int8, blocks, by_block=True),
        },
        ROUNDS,
    )
    us = {name: float(np.median(values) * 1e6) for name, values in times.items()}

    def ratio(a: str, b: str) -> float:
        return float(np.median(times[a] / times[b]))

    return {
        "preset": preset, "n": n, "hop": hop,
        "teacher us": us["teacher"], "float us": us["float"], "int8 us": us["int8"],
        "int8 / teacher": ratio("int8", "teacher"), "float / int8": ratio("float", "int8"),
        "int8 / float bytes": done[True].file_bytes / done[False].file_bytes,
        "us a sample": us["int8"] / hop, "update by sample / run": ratio("by_sample", "int8"),
        "update by block / run": ratio("by_block", "int8"),
        "own us a hop, by sample": float(np.median(times["by_sample"] - times["int8"]) * 1e6),
        "own us a hop, by block": float(np.median(times["by_block"] - times["int8"]) * 1e6),
        "float error": done[False].parity.max_score_error, "int8 Spearman": done[True].parity.rank_correlation,
    }  # fmt: skip


@click.command()
@click.option("--sensors", type=int, multiple=True, default=SENSORS)
@click.option("--preset", "presets", multiple=True, default=("paper", "edge"))
def main(sensors: tuple[int, ...], presets: tuple[str, ...]) -> None:
    """Measure, print and save."""
    torch.set_num_threads(1)
    measured = []
    for preset in presets:
        for n in sensors:
            with TemporaryDirectory() as folder:
                measured.append(measure(n, preset, Path(folder)))
            print(table(measured[-1:]), flush=True)
    # rows that were not measured again stay as they were
    both = {(row["preset"], row["n"]): row for row in [*kept("speed"), *measured]}
    rows = [both[key] for key in sorted(both, key=lambda key: (key[0] != "paper", key[1]))]
    save("speed", rows, protocol=f"medians of {ROUNDS} rounds in turn, ratios taken round by round, one thread")


if __name__ == "__main__":
    main()
