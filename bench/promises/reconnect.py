"""An adapter that is pulled out and comes back, again and again: how soon does `edgekd-run` score, and what?

    python -m bench.promises.reconnect [--times 200]

A pty pair is the adapter, a symlink its name. Each time it goes in the middle of a line, and comes back as another
device under the same name: at once, after a while without the name, or with the name pointing nowhere.
"""

from __future__ import annotations

import json
import os
import queue
import random
import select
import signal
import subprocess
import threading
import time
import tty
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO, Any

import click
import numpy as np

from bench.promises.soak import RUN, lines
from bench.results import save
from edgekd.runtime.guard import admit

SENSORS = 8
BOUND_S = 1.0
PATIENCE_S = 60.0  # only a hang takes this long
PROTOCOL = (
    "edgekd-run --serial on a symlink to a pty, --scores, --record; from the moment when the name leads to a device"
    " again to the arrival of the next score here, over a pipe; lines are written as soon as input_back is told"
)


def reopened(model: Path, folder: Path, times: int, seed: int = 0) -> dict[str, Any]:
    """Unplug and replug so often; the seconds until a score, and whether every sample was a line that was sent."""
    manifest, _ = admit(model, try_first=False)
    hop, n = manifest.hop, len(manifest.sensors)
    rows = iter(lines(n, (2 + manifest.warmup_samples // hop + 3 * times) * hop + 10 * times, seed).splitlines(True))
    fate = random.Random(seed)
    link = folder / "tty"
    command = [*RUN, "--model", str(model), "--serial", str(link), "--scores", "--record", str(folder / "r.csv")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout and process.stderr
    events: queue.Queue[tuple[float, dict[str, Any]]] = queue.Queue()
    threading.Thread(target=_listen, args=(process.stdout, events), daemon=True).start()
    words: list[str] = []
    threading.Thread(target=lambda: words.extend(process.stderr), daemon=True).start()  # type: ignore[arg-type]
    sent: list[bytes] = []
    took_s: list[float] = []

    def send(count: int) -> None:
        part = [next(rows) for _ in range(count)]
        sent.extend(part)
        _write(master, b"".join(part))

    try:
        master = _plug(link)
        _next(events, "input_open")
        send(1 + manifest.warmup_samples + hop)
        _next(events, "score")
        for i in range(times):
            send(fate.randrange(2 * hop))
            torn = next(rows)
            _write(master, torn[: fate.randrange(1, len(torn) - 1)])
            os.close(master)
            _next(events, "input_lost")
            if i % 3 == 1:
                link.unlink()
            time.sleep(fate.uniform(0.0, 0.6) if i % 3 else 0.0)
            back = time.monotonic()
            master = _plug(link)
            _next(events, "input_back")
            while not events.empty():
                events.get()
            _write(master, next(rows)[5:])  # reading begins somewhere in the middle of a line
            send(hop)
            took_s.append(_next(events, "score") - back)
        process.send_signal(signal.SIGTERM)
        code = process.wait(PATIENCE_S)
        os.close(master)
    finally:
        process.kill()
        process.wait()
    known = {np.array(line.split(b","), np.float64).astype(np.float32).tobytes() for line in sent}
    record = np.genfromtxt(folder / "r.csv", np.float32, delimiter=",", skip_header=1, usecols=range(1, n + 1))
    return {
        "times": times, "exit code": code, "traceback": any("Traceback" in word for word in words),
        "samples": len(record), "samples that are no line that was sent": sum(r.tobytes() not in known for r in record),
        "median s": round(float(np.median(took_s)), 3), "p95 s": round(float(np.quantile(took_s, 0.95)), 3),
        "largest s": round(max(took_s), 3), "bound s": BOUND_S,
        "over the bound": sum(seconds > BOUND_S for seconds in took_s),
    }  # fmt: skip


def _plug(link: Path) -> int:
    """A new device under this name; the end that we hold."""
    master, slave = os.openpty()
    tty.setraw(slave)
    temporary = link.with_suffix(".new")
    temporary.symlink_to(os.ttyname(slave))
    temporary.replace(link)
    os.close(slave)
    return master


def _write(master: int, data: bytes) -> None:
    while data:
        if not select.select([], [master], [], PATIENCE_S)[1]:
            raise click.ClickException("edgekd-run no longer reads the port")
        data = data[os.write(master, data[:256]) :]  # a pty takes less than a page at once


def _listen(stream: IO[str], events: queue.Queue[tuple[float, dict[str, Any]]]) -> None:
    for line in stream:
        events.put((time.monotonic(), json.loads(line)))


def _next(events: queue.Queue[tuple[float, dict[str, Any]]], kind: str) -> float:
    """When the next event of this kind came."""
    while True:
        try:
            at, event = events.get(timeout=PATIENCE_S)
        except queue.Empty:
            raise click.ClickException(f"no {kind} from edgekd-run within {PATIENCE_S:g} s") from None
        if event["event"] == kind:
            return at


@click.command()
@click.option("--times", default=200, show_default=True, help="How often the adapter is pulled out.")
def main(times: int) -> None:
    """Measure, print and save."""
    from bench.files.speed import untrained
    from edgekd.export import export

    with TemporaryDirectory() as temporary:
        folder = Path(temporary)
        model = export(untrained(SENSORS, "edge")[0], folder / "edge.onnx", steps=200).path
        found = reopened(model, folder, times)
    print(json.dumps(found, indent=1))
    holds = not (found["exit code"] or found["traceback"] or found["samples that are no line that was sent"])
    save("reconnect", {**found, "holds": holds and not found["over the bound"]}, protocol=PROTOCOL, sensors=SENSORS)


if __name__ == "__main__":
    main()
