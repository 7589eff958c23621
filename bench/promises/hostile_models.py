"""2,000 mutated model files, half of them with a digest that is right again, through the real `edgekd-run`.

    python -m bench.promises.hostile_models

Bit flips, truncations, resized tensors, evil manifests, external data, evil subgraphs, duplicated fields, huge sizes
(`bench.promises.hostile`) of six exported files, ONNX and TFLite, float and int8. Each is run as a process of its own
over a short recording, as if this machine had never seen it: exit code, words, events, memory and time are looked at,
and so is whether anybody opens the file that external data point to. Weights are untrained, which changes nothing here.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

TIMEOUT_S = 120.0
OUTCOMES = {
    0: "runs within the self-test's tolerance",
    1: "self-test failed",
    2: "engine refused to go on",
    3: "refused",
}
IN_ACCESS, IN_OPEN, IN_NONBLOCK = 0x1, 0x20, 0o4000


class Watch:
    """Counts how often a file is opened, by anybody (inotify)."""

    def __init__(self, path: Path) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        self._descriptor = libc.inotify_init1(IN_NONBLOCK)
        added = libc.inotify_add_watch(self._descriptor, os.fsencode(path), IN_OPEN | IN_ACCESS)
        if self._descriptor < 0 or added < 0:
            raise OSError(ctypes.get_errno(), "inotify does not work here")

    def count(self) -> int:
        """Events since the last call."""
        try:
            return len(os.read(self._descriptor, 65536)) // struct.calcsize("iIII")
        except BlockingIOError:
            return 0


def run_one(model: Path, csv: Path) -> dict[str, Any]:
    """`edgekd-run` over a recording; its peak memory is that of the larger of its processes."""
    command = [sys.executable, "-m", "edgekd.runtime.cli", "--model", str(model), "--csv", str(csv), "--quiet"]
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err, fresh_state() as state:
        began = time.perf_counter()
        process = subprocess.Popen(command, stdout=out, stderr=err, env={**os.environ, "XDG_STATE_HOME": state})
        late = threading.Timer(TIMEOUT_S, process.kill)
        late.start()
        _, status, usage = os.wait4(process.pid, 0)
        late.cancel()
        process.returncode = os.waitstatus_to_exitcode(status)
        err.seek(0)
        out.seek(0)
        return {
            "events": all(line.startswith(b'{"event": ') for line in out),
            "code": process.returncode,
            "words": err.read().decode(errors="replace"),
            "peak_bytes": 1024 * usage.ru_maxrss,
            "seconds": time.perf_counter() - began,
        }


@contextmanager
def fresh_state() -> Iterator[str]:
    """A state directory in which no model is known."""
    with tempfile.TemporaryDirectory() as folder:
        yield folder


def run_all(folder: Path, share: int, of: int) -> None:
    """Every `of`-th file of a folder, one JSON line each. In a light process: its memory is counted into what it
    starts."""
    tried = folder / f"tried-{share}"
    tried.write_bytes(b"x")
    watch = Watch(tried)
    tried.read_bytes()
    assert watch.count() > 0, "the watch does not see what is opened"
    watch = Watch(folder / "canary" / "secret")
    for path in sorted((folder / "models").iterdir())[share::of]:
        print(json.dumps({"file": path.name, **run_one(path, folder / "x.csv"), "opened": watch.count()}), flush=True)


def base_files() -> dict[str, bytes]:
    """Exported files of several kinds."""
    from dataclasses import replace

    import numpy as np
    import torch

    from edgekd.checkpoint import Checkpoint, package
    from edgekd.data import Recording
    from edgekd.export.candidate import Workshop
    from edgekd.methods.lta import PRESETS
    from edgekd.methods.lta.distill import prepared
    from edgekd.methods.regression.config import PRESETS as REGRESSION
    from edgekd.methods.regression.series_train import prepared as prepared_series

    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    values = np.cumsum(rng.normal(size=(900, 3)), axis=0) * 0.1 + rng.normal(size=(900, 3))
    recording = Recording(values.astype(np.float32), ("s0", "s1", "s2"), 60.0, source="noise")

    def student(step: Any, method: str) -> Checkpoint:
        return package(step, recording, method=method, role="student", preset="edge", seed=0, histories={})

    edge = student(prepared(recording, replace(PRESETS["edge"], lengths=(4, 8, 16), channels=2)), "lta")
    config = replace(REGRESSION["signature"], lengths=(4, 8, 16), student="our-S3")
    regression = student(prepared_series(recording, config), "regression")
    files = {}
    for name, checkpoint in (("lta", edge), ("regression", regression)):
        for format in ("onnx", "tflite"):
            workshop = Workshop(checkpoint, format, steps=50)
            files[f"{name}-float.{format}"] = workshop.float.content
            int8 = workshop.int8(workshop.schemes["static"])
            if int8 is not None:
                files[f"{name}-int8.{format}"] = int8.content
    return files


def published_file() -> bytes:
    """The published student in int8: the largest file that is meant for a device."""
    from bench.files.speed import untrained
    from edgekd.export.candidate import Workshop

    checkpoint, _ = untrained(8, "paper")
    workshop = Workshop(checkpoint, "onnx", steps=20)
    int8 = workshop.int8(workshop.schemes["static"])
    assert int8 is not None
    return int8.content


def walk_ms(data: bytes) -> float:
    """Median milliseconds to read and check a file's bytes, before an engine sees them."""
    from edgekd.runtime.guard import admit

    times = []
    for _ in range(15):
        began = time.perf_counter()
        admit(data, try_first=False)
        times.append(time.perf_counter() - began)
    return 1e3 * sorted(times)[len(times) // 2]


def collect(worker: subprocess.Popen[str], rows: list[dict[str, Any]]) -> None:
    """What a worker tells, as it comes."""
    assert worker.stdout is not None
    rows.extend(json.loads(line) for line in worker.stdout)


def measure(files: int, jobs: int, seed: int, folder: Path) -> dict[str, Any]:
    """The figures; raises AssertionError naming the first file for which a promise does not hold."""
    from bench.promises.hostile import mutants, still_whole

    (folder / "models").mkdir()
    (folder / "canary").mkdir()
    canary = folder / "canary" / "secret"
    canary.write_bytes(bytes(4096))
    (folder / "x.csv").write_text("s0,s1,s2\n" + "".join(f"{i % 7},{i % 5},{i % 3}\n" for i in range(200)))
    bases = base_files()
    still_whole(bases)
    about = {}
    for name, data in bases.items():
        (folder / "models" / f"base-{name}").write_bytes(data)
    for mutant in mutants(bases, files, str(canary), seed):
        about[mutant.name] = mutant
        (folder / "models" / mutant.name).write_bytes(mutant.data)
    workers = [
        subprocess.Popen(
            [sys.executable, "-m", "bench.promises.hostile_models", "--share", str(i), str(jobs), str(folder)],
            stdout=subprocess.PIPE,
            text=True,
        )
        for i in range(jobs)
    ]
    rows: list[dict[str, Any]] = []
    threads = [threading.Thread(target=collect, args=(worker, rows)) for worker in workers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    good = [row for row in rows if row["file"].startswith("base-")]
    assert [row["code"] for row in good] == [0] * len(bases), good
    base_bytes = max(row["peak_bytes"] for row in good)
    outcomes: Counter[str] = Counter()
    kinds: dict[str, Counter[str]] = {}
    broken = []
    for row in rows:
        mutant = about.get(row["file"])
        if mutant is None:
            continue
        lines = row["words"].splitlines()
        allowed = OUTCOMES if mutant.redigested else {3: OUTCOMES[3]}
        one_line = row["code"] == 0 or (len(lines) == 1 and lines[0].isprintable())
        if row["code"] not in allowed or not one_line or row["opened"] or not row["events"]:
            broken.append({"kind": mutant.kind, "redigested": mutant.redigested, **row})
        side = "redigested" if mutant.redigested else "undigested"
        outcome = OUTCOMES.get(row["code"], f"exit {row['code']}")
        outcomes[f"{side}: {outcome}"] += 1
        kinds.setdefault(mutant.kind, Counter())[f"{side}: {outcome}"] += 1
    child_died = [row["words"].strip() for row in rows if " dies of " in row["words"] or " hangs " in row["words"]]
    return {
        "files": len(rows) - len(good),
        "outcomes": dict(sorted(outcomes.items())),
        "promises_broken": broken,
        "engine_died_in_the_child": child_died,
        "opened_the_file_of_external_data": sum(row["opened"] for row in rows),
        "peak_mb": {
            "good files": base_bytes / 1e6,
            "mutated files": max(row["peak_bytes"] for row in rows) / 1e6,
        },
        "longest_s": max(row["seconds"] for row in rows),
        "kinds": {kind: dict(sorted(found.items())) for kind, found in sorted(kinds.items())},
    }


@click.command()
@click.option("--files", default=2000, show_default=True)
@click.option("--jobs", default=2, show_default=True)
@click.option("--seed", default=0, show_default=True)
@click.option("--share", nargs=2, type=int, hidden=True)
@click.argument("folder", required=False)
def main(files: int, jobs: int, seed: int, share: tuple[int, int] | None, folder: str | None) -> None:
    """Measure and save."""
    if share is not None:
        assert folder is not None
        run_all(Path(folder), *share)
        return
    from bench.results import save

    with tempfile.TemporaryDirectory() as work:
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
        figures = measure(files, jobs, seed, Path(work))
    published = published_file()
    figures["walk"] = {"published student, int8, bytes": len(published), "ms": walk_ms(published)}
    save("hostile_models", figures, seed=seed)
    print(json.dumps({key: value for key, value in figures.items() if key != "kinds"}, indent=1))
    sys.exit(1 if figures["promises_broken"] else 0)


if __name__ == "__main__":
    main()
