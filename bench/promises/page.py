"""What the gateway's page costs detection: delay of a score, processor, memory, disk.

    python -m bench.promises.page                     # four hours: an hour of each condition
    python -m bench.promises.page --minutes 2
    chrt -f 10 python -m bench.promises.page    # beside other work, which then takes no time from either gateway

50 sensors at 100 Hz, a score for each sample. Two gateways, with a page and without, are fed five seconds at a time in
an order that is drawn anew, so that what else the machine does meets both: nobody looks, or ten viewers ask for what
ten browsers would, from a process that yields to others, as they would sit elsewhere. A delay is from the line's
writing to the score's arrival. The gateway without a page runs as two conditions: what lies between them is noise.
"""

from __future__ import annotations

import contextlib
import http.client
import itertools
import json
import os
import random
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import urlencode

import click
import numpy as np

from bench.results import save
from edgekd.runtime.gateway.disk_writer import DiskWriter
from edgekd.runtime.gateway.page.history import TIERS, History, Interval

sys.path.insert(0, str(Path(__file__).parents[2] / "tests"))
from gateway_device import Gateway
from step_models import step_file, step_samples

SENSORS, RATE_HZ, VIEWERS = 50, 100, 10
BLOCK_S = 5.0
POLL_S = 2.0
"""As the page does."""
CONDITIONS = {"none": False, "none again": False, "page": True, f"{VIEWERS} viewers": True}
"""Name -> whether the gateway is the one with a page."""
SAMPLE = re.compile(rb'"score", "sample": (\d+)')


class Fed(Gateway):
    """A gateway whose scores are timed as they arrive."""

    def __init__(self, *arguments: object) -> None:
        self.arrived: dict[int, float] = {}
        super().__init__(*arguments, stdin=subprocess.PIPE)
        self.samples = 0

    def _read_events(self, stream: Any) -> None:
        for line in stream.buffer:
            if found := SAMPLE.search(line):
                self.arrived[int(found[1])] = time.perf_counter()

    def feed(self, lines: Iterator[bytes], seconds: float) -> list[float]:
        """Samples at their rate for so long; the delay of each score in seconds."""
        assert self.process.stdin
        pipe, first, written = self.process.stdin.buffer, self.samples, {}
        due = time.perf_counter()
        for _ in range(round(seconds * RATE_HZ)):
            due += 1 / RATE_HZ
            time.sleep(max(0.0, due - time.perf_counter()))
            written[self.samples] = time.perf_counter()
            pipe.write(next(lines))
            pipe.flush()
            self.samples += 1
        time.sleep(0.5)
        return [self.arrived[i] - written[i] for i in range(first, self.samples) if i in self.arrived]

    @property
    def cpu_s(self) -> float:
        """Of all its threads so far."""
        tasks = Path(f"/proc/{self.process.pid}/task").glob("*/schedstat")
        return sum(int(task.read_text().split()[0]) for task in tasks) / 1e9

    @property
    def rss_mib(self) -> float:
        """What it holds in memory."""
        return int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1]) * 4096 / 2**20

    @property
    def written_bytes(self) -> int:
        """To disks, so far."""
        return int(re.findall(r"^write_bytes: (\d+)", Path(f"/proc/{self.process.pid}/io").read_text(), re.M)[0])


def view(port: int, looking: Any, count: Any) -> None:
    """Ten viewers, while they are to look."""
    os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
    os.nice(10)
    for i in range(VIEWERS):
        threading.Thread(target=_viewer, args=(port, looking, count, i), daemon=True).start()
    threading.Event().wait()


def _viewer(port: int, looking: Any, count: Any, i: int) -> None:
    token = re.findall(r'name="token" content="(\w+)"', _get(port, "/", "").decode())[0]
    size = 0
    for turn in itertools.count():
        looking.wait()
        time.sleep(POLL_S * (i + 1) / VIEWERS if turn == 0 else POLL_S)
        told = json.loads(_get(port, "/api/stream", token, stream="stream"))
        now, fresh = told["now"], turn % 150 == 0
        span = {"stream": "stream", "from": now - 21_600 if fresh else now - 10, "to": now + 1}
        if fresh:  # as it is opened, and every five minutes
            size = json.loads(_get(port, "/api/curves", token, **span))["size"]
            _get(port, "/api/alarms", token, **span), _get(port, "/api/events", token, **span)
        elif turn % max(1, round(size / 2 / POLL_S)) == 0:
            _get(port, "/api/curves", token, **span, size=size, sensor="s0")
        with count.get_lock():
            count.value += 1


def _get(port: int, path: str, token: str, **query: Any) -> bytes:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    with contextlib.closing(connection):
        connection.request("GET", f"{path}?{urlencode(query)}", headers={"Authorization": f"Bearer {token}"})
        answer = connection.getresponse()
        body = answer.read()
        if answer.status != 200:
            raise click.ClickException(f"the page answers {answer.status} to {path}: {body[:200]!r}")
        return body


def cost(folder: Path, minutes: float) -> dict[str, Any]:
    """Delays in each condition, and what the processes take."""
    model = step_file(folder / "m.onnx", SENSORS, 1, threshold=44.0, period_s=1 / RATE_HZ)
    text = [",".join(f"{value:.4f}" for value in row).encode() + b"\n" for row in step_samples(SENSORS, 20_000)]
    delays: dict[str, list[float]] = {name: [] for name in CONDITIONS}
    took = {name: [0.0, 0.0, 0.0] for name in CONDITIONS}  # processor, wall, bytes
    memory = []
    common = ("--model", model, "--stdin", "--scores")
    with (
        Fed(*common, "--state", folder / "without") as without,
        Fed(*common, "--state", folder / "with", "--page", ":0") as paged,
        _viewers(paged) as (looking, count),
    ):
        sources = {gateway: itertools.cycle(text) for gateway in (without, paged)}
        order = random.Random(0)
        for _ in range(max(1, round(minutes * 60 / BLOCK_S))):
            for name in order.sample(list(CONDITIONS), len(CONDITIONS)):
                page = CONDITIONS[name]
                gateway = paged if page else without
                (looking.set if "viewers" in name else looking.clear)()
                cpu, wall, written = gateway.cpu_s, time.monotonic(), gateway.written_bytes
                delays[name] += gateway.feed(sources[gateway], BLOCK_S)
                spent = gateway.cpu_s - cpu, time.monotonic() - wall, gateway.written_bytes - written
                took[name] = [a + b for a, b in zip(took[name], spent)]
            memory.append(paged.rss_mib)
        asked = count.value
    return {"requests": asked, **_figures(delays, took, memory)}


@contextlib.contextmanager
def _viewers(gateway: Fed) -> Iterator[tuple[Any, Any]]:
    told: Callable[[], Any] = lambda: re.search(r"the page is at \S+:(\d+)", gateway.words)  # noqa: E731
    while not (found := told()):
        time.sleep(0.1)
    context = get_context("spawn")
    looking, count = context.Event(), context.Value("q", 0)
    process = context.Process(target=view, args=(int(found[1]), looking, count), daemon=True)
    process.start()
    try:
        yield looking, count
    finally:
        process.kill()
        process.join()


def _figures(delays: dict[str, list[float]], took: dict[str, list[float]], memory: list[float]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    plain = float(np.percentile([*delays["none"], *delays["none again"]], 99)) * 1e3
    for name, seconds in delays.items():
        p50, p99 = (round(float(np.percentile(seconds, q)) * 1e3, 3) for q in (50, 99))
        cpu_s, wall_s, written = took[name]
        found[name] = {"scores": len(seconds), "p50_ms": p50, "p99_ms": p99, "cores": round(cpu_s / wall_s, 4)}
        found[name]["written_mb_a_day"] = round(written / wall_s * 86_400 / 1e6)
    tenth = max(1, len(memory) // 10)
    course = [round(float(np.median(part)), 2) for part in np.array_split(memory, min(10, len(memory)))]
    return {
        **found,
        "p99_ratio": {name: round(found[name]["p99_ms"] / plain, 3) for name in delays},
        "page_cores": round(found["page"]["cores"] - (found["none"]["cores"] + found["none again"]["cores"]) / 2, 4),
        "rss_mib": course,
        "rss_drift_mib": round(float(np.median(memory[-tenth:]) - np.median(memory[tenth : 2 * tenth or None])), 2),
    }


def month(folder: Path) -> dict[str, Any]:
    """Size of the file once a month is full: every tier as long as it gets, and half as much again."""
    rng, writer = np.random.default_rng(0), DiskWriter()
    names = tuple(f"sensor_number_{i}" for i in range(SENSORS))
    history = History(str(folder / "history"), writer, lambda *_: None)
    for size, kept in TIERS.items():

        def fill(db: Any, size: int = size, kept: int = kept) -> None:
            for i in range(kept * 3 // 2):
                low, high, mean, share = rng.normal(size=(4, SENSORS)).astype(np.float32)
                told = Interval("stream", i * size, names, 500, 50, 0, 1.5, 2.5, None, low, high, mean, share)
                history._write_interval(db, size, told)

        writer.submit(lambda fill=fill: history._attempt(fill))  # type: ignore[misc]
    writer.flush()
    return {"sensors": SENSORS, "intervals": sum(TIERS.values()), "mb": round(_size(folder) / 1e6, 1)}


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.glob("history*"))


@click.command()
@click.option("--minutes", default=60.0, show_default=True, help="Of each condition.")
def main(minutes: float) -> None:
    """Measure, print and save."""
    with TemporaryDirectory() as temporary:
        figures = {"month": month(Path(temporary)), "minutes": minutes}
    with TemporaryDirectory() as temporary:
        figures |= cost(Path(temporary), minutes)
    for name, found in figures.items():
        print(f"{name}: {found}")
    save("page", figures, protocol=" ".join((__doc__ or "").split()), rate_hz=RATE_HZ, sensors=SENSORS)


if __name__ == "__main__":
    main()
