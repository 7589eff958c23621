"""Days in minutes: does `edgekd-run` grow, and what does it cost while nothing happens?

    python -m bench.promises.soak [--day-hours 24] [--week-hours 168] [--week-hz 100]

One simulated day at 100 Hz through `edgekd-run` with the file of preset `edge`, one simulated week with an engine that
computes next to nothing, each as fast as it goes; then the processor time of a run that waits for a silent serial line.
The samples are lines in a named pipe, which is a file to `edgekd-run`: what it does not take, it is not sent. State is
saved every second and every score is told. Weights are untrained, which costs the same.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import statistics
import subprocess
import sys
import time
import tty
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click
import numpy as np

from bench.results import save, table

RATE_HZ = 100
SENSORS = 8
LINES = 20_000  # written over and over; a period of 200 s is nothing to a detector's memory
WARM_UP = 0.1  # of a run, of a day some 860,000 samples: caches, arenas of the allocator, the first saves
RSS_SAMPLES = 200
BOUND_MIB = 1.0
IDLE_S = 60.0
IDLE_BOUND = 0.01
PROTOCOL = (
    "edgekd-run as a process of its own, --scores to /dev/null, --state saved every second; RSS: VmRSS read"
    f" {RSS_SAMPLES} times; drift: median of the last tenth less median of the tenth after the warm-up, which is the"
    " first tenth; idle: time on a processor of all its threads over a minute on an open, silent pty, after its start"
)
RUN = [sys.executable, "-m", "edgekd.runtime.cli"]
# the command with an engine that gives fresh arrays, as engines do, and computes nothing
STUB = """
import numpy as np
from edgekd.runtime import detector, selftest
class Stub:
    name = "stub"
    def __init__(self, manifest):
        self.shapes = [(s.shape, s.dtype) for s in manifest.state]
        self.n = len(manifest.sensors)
    def run(self, feeds):
        score = feeds["samples"][-1, 0]
        return [score, np.zeros(self.n, np.float32), *(np.zeros(*shape) for shape in self.shapes)]
detector.load_engine = lambda model, manifest, *more: Stub(manifest)
detector.check_self_test = lambda *_: None
from edgekd.runtime.cli import main
main()
"""
STUBBED = [sys.executable, "-c", STUB]


def lines(sensors: int, count: int = LINES, seed: int = 0) -> bytes:
    """CSV rows of correlated noise with a jump now and then, so that anomalies come and go."""
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(count, 2)) @ rng.normal(size=(2, sensors)) + 0.3 * rng.normal(size=(count, sensors))
    values += 8.0 * (np.arange(count) % (count // 10) < 50)[:, None]  # (count, sensors)
    return b"".join(",".join(f"{value:.4f}" for value in row).encode() + b"\n" for row in values)


def soak(
    command: Sequence[str], model: Path, data: bytes, samples: int, folder: Path, warm_up: float = WARM_UP,
    rate_hz: int = RATE_HZ,
) -> dict[str, Any]:  # fmt: skip
    """Feed a run so many samples, `data` over and over, state saved every second; its memory and speed."""
    pipe = folder / "samples.csv"
    os.mkfifo(pipe)
    arguments = ["--model", model, "--csv", pipe, "--scores", "--state", folder / "state", "--state-every", 1]
    process = subprocess.Popen([*command, *map(str, arguments)], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    rss: list[float] = []
    began = time.monotonic()
    try:
        with pipe.open("wb", buffering=0) as file:
            for block in _blocks(data, samples):
                file.write(block)
                rss.append(_rss_mib(process.pid))
        _, words = process.communicate(timeout=120)
    finally:
        process.kill()
        process.wait()
    took_s = time.monotonic() - began
    told = re.search(r"(\d+) samples, (\d+) verdicts, (\d+) anomalies", words.decode())
    if process.returncode != 0 or told is None:
        raise click.ClickException(f"edgekd-run ended with {process.returncode}: {words.decode()[-500:]}")
    warm, tenth = round(warm_up * len(rss)), len(rss) // 10
    begin, end = statistics.median(rss[warm : warm + tenth]), statistics.median(rss[-tenth:])
    return {
        "hours": round(int(told[1]) / rate_hz / 3600, 2), "Hz": rate_hz, "samples": int(told[1]),
        "verdicts": int(told[2]), "anomalies": int(told[3]),
        "took s": round(took_s, 1), "µs a sample": round(1e6 * took_s / int(told[1]), 1),
        "RSS MiB": round(begin, 2), "drift MiB": round(end - begin, 3), "largest MiB": round(max(rss[warm:]), 2),
        "bound MiB": BOUND_MIB, "course MiB": [round(value, 2) for value in rss[:: max(1, len(rss) // 20)]],
    }  # fmt: skip


def idle(model: Path, folder: Path, seconds: float) -> float:
    """The share of a core that a run takes while it waits for a serial line that is open and silent."""
    master, slave = os.openpty()
    tty.setraw(slave)
    arguments = ["--model", str(model), "--serial", os.ttyname(slave), "--state", str(folder / "idle-state")]
    process = subprocess.Popen([*RUN, *arguments], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    try:
        assert process.stdout
        if b"input_open" not in process.stdout.readline():
            raise click.ClickException("edgekd-run did not open the port")
        time.sleep(1.0)
        before, began = _cpu_s(process.pid), time.monotonic()
        time.sleep(seconds)
        share = (_cpu_s(process.pid) - before) / (time.monotonic() - began)
        process.send_signal(signal.SIGTERM)
        process.wait(60)
        return share
    finally:
        process.kill()
        process.wait()
        process.stdout.close()  # type: ignore[union-attr]
        for end in (master, slave):
            os.close(end)


def _blocks(data: bytes, samples: int) -> Iterator[bytes]:
    """`data` over and over up to so many lines, in RSS_SAMPLES pieces of whole lines."""
    rows = data.splitlines(keepends=True)
    at = 0
    for i in range(RSS_SAMPLES):
        until = samples * (i + 1) // RSS_SAMPLES
        while at < until:
            start = at % len(rows)
            part = rows[start : start + until - at]
            at += len(part)
            yield b"".join(part)


def _rss_mib(pid: int) -> float:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def _cpu_s(pid: int) -> float:
    """Time on a processor of all threads, in the kernel's nanoseconds rather than ticks."""
    return sum(int(task.read_text().split()[0]) for task in Path(f"/proc/{pid}/task").glob("*/schedstat")) / 1e9


def _student(folder: Path) -> Path:
    """A file of preset `edge`."""
    from bench.files.speed import untrained
    from edgekd.export import export

    return export(untrained(SENSORS, "edge")[0], folder / "edge.onnx", steps=200).path


@click.command()
@click.option("--day-hours", default=24.0, show_default=True, help="Simulated hours with the real engine.")
@click.option("--week-hours", default=168.0, show_default=True, help="Simulated hours with the stub.")
@click.option("--week-hz", default=RATE_HZ, show_default=True, help="Its samples a second.")
@click.option("--idle-s", default=IDLE_S, show_default=True, help="Seconds to wait for a silent line.")
def main(day_hours: float, week_hours: float, week_hz: int, idle_s: float) -> None:
    """Measure, print and save."""
    rows = []
    with TemporaryDirectory() as temporary, contextlib.suppress(KeyboardInterrupt):
        folder = Path(temporary)
        model, data = _student(folder), lines(SENSORS)
        runs = (("onnxruntime", RUN, day_hours, RATE_HZ), ("stub", STUBBED, week_hours, week_hz))
        for engine, command, hours, rate_hz in runs:
            (folder / engine).mkdir()
            samples = round(hours * 3600 * rate_hz)
            found = soak(command, model, data, samples, folder / engine, rate_hz=rate_hz)
            rows.append({"engine": engine, **found})
            print(table([{key: value for key, value in rows[-1].items() if key != "course MiB"}]), flush=True)
        share = idle(model, folder, idle_s)
        print(f"idle: {100 * share:.2f} % of a core")
        holds = share < IDLE_BOUND and all(row["drift MiB"] < BOUND_MIB for row in rows)
        figures = {"runs": rows, "idle": {"seconds": idle_s, "share of a core": share, "bound": IDLE_BOUND}}
        save("soak", {**figures, "holds": holds}, protocol=PROTOCOL, sensors=SENSORS)


if __name__ == "__main__":
    main()
