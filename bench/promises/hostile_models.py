"""5,000 mutated files, half of them with digests that are right again, through the real commands.

    python -m bench.promises.hostile_models

Bit flips, truncations, resized tensors, evil manifests, external data, evil subgraphs, duplicated fields, huge sizes,
strides of nothing, numbers that are none (`bench.promises.hostile`) of six exported files, ONNX and TFLite, float and
int8, through `edgekd-run` as if this machine had never seen them; of a checkpoint through `edgekd inspect`, a state
through `edgekd-run --state`, an outbox through `edgekd-gateway run`. Each is run in a process of its own, forked from
one that has loaded the command: exit code, words, events, memory and processor time are looked at, and so is whether
anybody opens the file that external data point to. Weights are untrained, which changes nothing here.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from bench.promises.hostile import Mutant

TIMEOUT_S = 120
MORE_S, MORE_BYTES = 2.0, 100e6  # than the worst good file of its kind takes
MODELS, CHECKPOINTS, STATES, OUTBOXES = "models", "checkpoints", "states", "outboxes"
SHARES = {MODELS: 2, CHECKPOINTS: 1, STATES: 1, OUTBOXES: 1}
OUTCOMES = {
    0: "runs within the self-test's tolerance",
    1: "self-test failed",
    2: "engine refused to go on",
    3: "refused",
}
CODES = {MODELS: set(OUTCOMES), CHECKPOINTS: {0, 3}, STATES: {0, 2}, OUTBOXES: {0}}  # 2: it is no state file any more
GATEWAY = """exec = "true"
quiet = true
outbox = "{here}/outbox"
[[stream]]
model = "{model}"
csv = "{csv}"
"""
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


def run_one(family: str, path: Path, folder: Path) -> dict[str, Any]:
    """A command over one file; its peak memory is that of the larger of its processes."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err, tempfile.TemporaryDirectory() as scratch:
        command, arguments = command_for(family, path, folder, Path(scratch))
        began = time.perf_counter()
        if (pid := os.fork()) == 0:
            signal.alarm(TIMEOUT_S)
            os.environ["XDG_STATE_HOME"] = scratch
            for number, file in ((1, out), (2, err)):
                os.dup2(file.fileno(), number)
            sys.argv = arguments
            code = 99
            try:
                command()
                code = 0
            except SystemExit as ended:
                code = ended.code if isinstance(ended.code, int) else 0
            except BaseException:
                traceback.print_exc()
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
        _, status, usage = os.wait4(pid, 0)
        err.seek(0)
        out.seek(0)
        lines = out.read().splitlines()
        return {
            "events": family == CHECKPOINTS or all(line.startswith(b'{"event": ') for line in lines),
            "printable": all(line.decode(errors="replace").isprintable() for line in lines),
            "code": os.waitstatus_to_exitcode(status),
            "words": err.read().decode(errors="replace"),
            "peak_bytes": 1024 * usage.ru_maxrss,
            "seconds": usage.ru_utime + usage.ru_stime,
            "wall_s": time.perf_counter() - began,
        }


def command_for(family: str, path: Path, folder: Path, scratch: Path) -> tuple[Callable[[], None], list[str]]:
    """The command and its arguments, with what it writes to put into the scratch folder."""
    csv, model = folder / "x.csv", folder / MODELS / "base-lta-float.onnx"
    if family == CHECKPOINTS:
        from edgekd.cli import main

        return main, ["edgekd", "inspect", str(path)]
    from edgekd.runtime.cli import main as run

    if family == MODELS:  # no state folder in which it is known
        return run, ["edgekd-run", "--model", str(path), "--csv", str(csv), "--quiet"]
    shutil.copytree(folder / "known", scratch / "edgekd")
    if family == STATES:
        shutil.copy(path, scratch / "state")
        return run, ["edgekd-run", "--model", str(model), "--csv", str(csv), "--quiet", "--state", f"{scratch}/state"]
    from edgekd.runtime.gateway.cli import main as serve

    shutil.copytree(path, scratch / "outbox")
    (scratch / "gateway.toml").write_text(GATEWAY.format(here=scratch, model=model, csv=csv))
    return serve, ["edgekd-gateway", "run", f"{scratch}/gateway.toml"]


def load_commands(family: str) -> None:
    """What every run of them loads, but for the engine: once."""
    if family == CHECKPOINTS:
        import edgekd.checkpoint
        import edgekd.cli
        import edgekd.commands.inspect
    else:
        import edgekd.runtime.assembly
        import edgekd.runtime.detector
        import edgekd.runtime.loop
        import edgekd.runtime.sources.csv_file
        import edgekd.runtime.watchers.state_keeper
    if family == OUTBOXES:
        import edgekd.runtime.gateway.cli
        import edgekd.runtime.gateway.service
        import edgekd.runtime.gateway.sinks.exec  # noqa: F401


def run_all(folder: Path, family: str, share: int, of: int) -> None:
    """Every `of`-th file of a kind, one JSON line each. In a light process: its memory counts in what it forks."""
    tried = folder / f"tried-{family}-{share}"
    tried.write_bytes(b"x")
    watch = Watch(tried)
    tried.read_bytes()
    assert watch.count() > 0, "the watch does not see what is opened"
    watch = Watch(folder / "canary" / "secret")
    load_commands(family)
    for path in sorted((folder / family).iterdir())[share::of]:
        print(json.dumps({"file": path.name, **run_one(family, path, folder), "opened": watch.count()}), flush=True)


def base_files() -> tuple[dict[str, bytes], bytes]:
    """Exported files of several kinds, and a checkpoint."""
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
    with tempfile.TemporaryDirectory() as folder:
        edge.save(path := Path(folder) / "student.pt")
        return files, path.read_bytes()


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


def prepare(folder: Path, files: int, seed: int) -> dict[str, dict[str, Mutant]]:
    """All files on disk, those that are good as `base-`; the mutants of each kind by name."""
    from bench.promises.hostile import mutants, other_mutants, still_whole

    for name in (*SHARES, "canary"):
        (folder / name).mkdir()
    canary = folder / "canary" / "secret"
    canary.write_bytes(bytes(4096))
    (folder / "x.csv").write_text("s0,s1,s2\n" + "".join(f"{i % 7},{i % 5},{i % 3}\n" for i in range(200)))
    models, checkpoint = base_files()
    still_whole(models)
    bases: dict[str, dict[str, Any]] = {MODELS: models, CHECKPOINTS: {"checkpoint.pt": checkpoint}}
    for name, data in models.items():
        (folder / MODELS / f"base-{name}").write_bytes(data)
    bases[STATES], bases[OUTBOXES] = left_behind(folder)
    found: dict[str, dict[str, Mutant]] = {}
    for family, share in SHARES.items():
        count = files * share // sum(SHARES.values())
        made = mutants(models, count, str(canary), seed) if family == MODELS else None
        found[family] = {one.name: one for one in made or other_mutants(bases[family], count, seed)}
        for name, data in bases[family].items():
            put(folder / family / f"base-{name}", data)
        for mutant in found[family].values():
            put(folder / family / mutant.name, mutant.data)
    return found


def left_behind(folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """The state and the outbox of real runs; from now on the model is known in `known`."""
    model, csv = folder / MODELS / "base-lta-float.onnx", folder / "x.csv"
    work = folder / "work"
    work.mkdir()
    environment = {**os.environ, "XDG_STATE_HOME": str(work)}
    text = GATEWAY.format(here=work, model=model, csv=csv)
    text = 'exec-retry = "1h"\n' + text.replace('"true"', '"false"') + f'state = "{work}/state"\nthreshold = 0.0\n'
    (work / "gateway.toml").write_text(text.replace("[[stream]]", "[[stream]]\nscores = true"))
    command = [sys.executable, "-m", "edgekd.runtime.gateway.cli", "run", f"{work}/gateway.toml"]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(10.0)
    process.terminate()
    process.wait(30.0)
    shutil.copytree(work / "edgekd", folder / "known")
    outbox = {path.name: path.read_bytes() for path in (work / "outbox").iterdir() if path.is_file()}
    assert any(name.endswith(".events") for name in outbox), "the gateway has left no events"
    return {"state": (work / "state").read_bytes()}, {"outbox": outbox}


def put(path: Path, data: Any) -> None:
    """A file, or a folder of files."""
    if isinstance(data, dict):
        path.mkdir()
        for name, content in data.items():
            (path / name).write_bytes(content)
    else:
        path.write_bytes(data)


def run_family(folder: Path, family: str, jobs: int) -> list[dict[str, Any]]:
    """What has become of every file of a kind, by so many workers at once."""
    command = [sys.executable, "-m", "bench.promises.hostile_models", str(folder), "--share", family]
    workers = [subprocess.Popen([*command, str(i), str(jobs)], stdout=subprocess.PIPE, text=True) for i in range(jobs)]
    rows: list[dict[str, Any]] = []

    def collect(worker: subprocess.Popen[str]) -> None:
        assert worker.stdout is not None
        rows.extend(json.loads(line) for line in worker.stdout)

    threads = [threading.Thread(target=collect, args=(worker,)) for worker in workers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return rows


def judged(family: str, rows: list[dict[str, Any]], about: dict[str, Mutant]) -> dict[str, Any]:
    """The figures of one kind, and what breaks a promise."""
    good = [row for row in rows if row["file"].startswith("base-")]
    assert good and not any(row["code"] for row in good), good
    bad = [row for row in rows if row["file"] in about]
    assert len(bad) == len(about), f"{family}: {len(about) - len(bad)} files are missing"
    most_s = max(row["seconds"] for row in good) + MORE_S
    most_bytes = max(row["peak_bytes"] for row in good) + MORE_BYTES
    outcomes: Counter[str] = Counter()
    kinds: dict[str, Counter[str]] = {}
    broken = []
    for row in bad:
        mutant, lines = about[row["file"]], row["words"].splitlines()
        allowed = {3} if family == MODELS and not mutant.redigested else CODES[family]
        said = all(line.isprintable() for line in lines) and (row["code"] == 0 or len(lines) == 1)
        small = row["seconds"] <= most_s and row["peak_bytes"] <= most_bytes
        tidy = row["events"] and row["printable"] and not row["opened"]
        if not (row["code"] in allowed and said and small and tidy):
            broken.append({"kind": mutant.kind, "redigested": mutant.redigested, **row})
        side = "redigested" if mutant.redigested else "undigested"
        outcome = OUTCOMES.get(row["code"], f"exit {row['code']}") if family == MODELS else f"exit {row['code']}"
        outcomes[f"{side}: {outcome}"] += 1
        kinds.setdefault(mutant.kind, Counter())[f"{side}: {outcome}"] += 1
    return {
        "files": len(bad),
        "outcomes": dict(sorted(outcomes.items())),
        "promises_broken": broken,
        "engine_died_in_the_child": [row["words"] for row in bad if " dies of " in row["words"]],
        "opened_the_file_of_external_data": sum(row["opened"] for row in rows),
        "peak_mb": {
            "good files": max(row["peak_bytes"] for row in good) / 1e6,
            "mutated files": max(row["peak_bytes"] for row in bad) / 1e6,
        },
        "processor_s": {
            "good files": max(row["seconds"] for row in good), "mutated files": max(row["seconds"] for row in bad),
        },
        "kinds": {kind: dict(sorted(found.items())) for kind, found in sorted(kinds.items())},
    }  # fmt: skip


@click.command()
@click.option("--files", default=5000, show_default=True)
@click.option("--jobs", default=2, show_default=True)
@click.option("--seed", default=0, show_default=True)
@click.option("--only", type=click.Choice(list(SHARES)), help="One kind; of the others the last figures stay.")
@click.option("--share", nargs=3, type=(str, int, int), hidden=True)
@click.argument("folder", required=False)
def main(
    files: int, jobs: int, seed: int, only: str | None, share: tuple[str, int, int] | None, folder: str | None
) -> None:
    """Measure and save."""
    if share is not None:
        assert folder is not None
        run_all(Path(folder), *share)
        return
    from bench.results import kept, save

    with tempfile.TemporaryDirectory() as work:
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
        about = prepare(Path(work), files, seed)
        figures: dict[str, Any] = kept("hostile_models") if only else {}
        for family in [only] if only else SHARES:
            figures[family] = judged(family, run_family(Path(work), family, jobs), about[family])
    broken = sum(len(figures[family]["promises_broken"]) for family in SHARES)
    published = published_file()
    figures["walk"] = {"published student, int8, bytes": len(published), "ms": walk_ms(published)}
    save("hostile_models", figures, seed=seed)
    told = {family: {key: value for key, value in figures[family].items() if key != "kinds"} for family in SHARES}
    print(json.dumps(told, indent=1))
    sys.exit(1 if broken else 0)


if __name__ == "__main__":
    main()
