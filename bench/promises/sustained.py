"""Ten thousand lines a second on a serial port, for minutes: does `edgekd-run` keep up, and what if it does not?

    python -m bench.promises.sustained [--seconds 600] [--rate 10000] [--sensors 25]

A process of its own writes lines to a pty by the clock. Every line must come out as a sample, be dropped and
counted, or still wait at the end; how far the detector is behind is asked of its source once a second, and told by the
arrival of each score.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
import tty
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO, Any

import click
import numpy as np

from bench.promises.soak import lines
from bench.results import save
from edgekd.export.embed import embed
from edgekd.runtime.guard import admit

PATIENCE_S = 60.0
WARM_UP = 0.1  # of the time: the writer's start, the first steps, the allocator's arenas
PROTOCOL = (
    "a writer process sends lines to a pty by the clock, a hundredth of a second's worth at once; edgekd-run --serial"
    " --scores with the file of preset edge (untrained weights cost the same); lag: how long ago the oldest sample came"
    " that the detector has not seen, asked of it each second; to a score: from when its last line was written to"
    " its arrival in this process, if nothing was dropped"
)
# the command, which answers each byte on its standard input with what its source says of itself
WATCHED = """
import json, os, sys, threading
from edgekd.runtime import assembly
connection, answers = assembly.connection, int(sys.argv.pop(1))
def watched(*parts):
    source = connection(*parts)
    def answer():
        while os.read(0, 1):
            found = {"lag": source.lag_s, "backlog": source.backlog, "dropped": source.dropped}
            os.write(answers, json.dumps(found).encode() + b"\\n")
    threading.Thread(target=answer, daemon=True).start()
    return source
assembly.connection = watched
from edgekd.runtime.cli import main
main()
"""
WRITER = """
import os, sys, time
fd, rate, seconds, path = int(sys.argv[1]), float(sys.argv[2]), float(sys.argv[3]), sys.argv[4]
rows = open(path, "rb").read().splitlines(keepends=True)
total, sent, began, latest, log = int(rate * seconds), 0, time.monotonic(), 0.0, []
while sent < total:
    due = min(total, int(rate * (time.monotonic() - began)) + 1)
    latest = max(latest, (due - sent) / rate)
    due = min(due, sent + int(rate / 100))
    data = b"".join(rows[i % len(rows)] for i in range(sent, due))
    while data:
        data = data[os.write(fd, data[:2048]):]
    sent = due
    log.append((sent, time.monotonic()))
    time.sleep(max(0.0, began + (sent + rate / 100) / rate - time.monotonic()))
print(sent, latest, time.monotonic() - began)
for line in log:
    print(*line)
"""


def sustained(model: Path, folder: Path, rate: float, seconds: float) -> dict[str, Any]:
    """Feed a run so fast for so long; what became of the lines, and how late the scores were."""
    manifest, _ = admit(model, try_first=False)
    (folder / "lines").write_bytes(lines(len(manifest.sensors)))
    master, slave = os.openpty()
    tty.setraw(slave)
    answers, answering = os.pipe()
    command = [sys.executable, "-c", WATCHED, str(answering), "--model", str(model), "--serial", os.ttyname(slave)]
    process = subprocess.Popen(
        [*command, "--scores"], pass_fds=[answering], text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    os.close(slave)
    os.close(answering)
    assert process.stdin and process.stdout and process.stderr
    told: list[tuple[float, int]] = []  # arrival of each score, its sample
    opened = threading.Event()
    words: list[str] = []
    source = os.fdopen(answers)

    def ask() -> dict[str, Any]:
        """What the source says of itself."""
        os.write(process.stdin.fileno(), b"?")  # type: ignore[union-attr]
        return json.loads(source.readline())

    threading.Thread(target=_listen, args=(process.stdout, told, opened), daemon=True).start()
    threading.Thread(target=lambda: words.extend(process.stderr), daemon=True).start()  # type: ignore[arg-type]
    try:
        if not opened.wait(PATIENCE_S):
            raise click.ClickException(f"edgekd-run did not open the port: {''.join(words)[-500:]}")
        pace = [sys.executable, "-c", WRITER, str(master), str(rate), str(seconds), str(folder / "lines")]
        writer = subprocess.Popen(pace, pass_fds=[master], stdout=subprocess.PIPE, text=True)
        output: list[str] = []
        assert writer.stdout
        reading = threading.Thread(target=lambda: output.extend(writer.stdout), daemon=True)  # type: ignore[arg-type]
        reading.start()
        course = []
        while reading.is_alive():
            reading.join(1.0)
            course.append({**ask(), "rss_mib": _rss_mib(process.pid)})
        summary, *log = output
        sent, late_s, wrote_s = map(float, summary.split())
        end = time.monotonic() + PATIENCE_S
        while (last := ask())["backlog"] or last["lag"]:
            if time.monotonic() > end:
                raise click.ClickException(f"the backlog is not worked off: {last}")
            time.sleep(0.1)
        process.send_signal(signal.SIGTERM)
        process.wait(PATIENCE_S)
    finally:
        process.kill()
        process.wait()
        os.close(master)
        source.close()
    samples = int(re.search(r"(\d+) samples,", "".join(words))[1])  # type: ignore[index]
    dropped = last["dropped"]
    warm = course[round(WARM_UP * len(course)) :]
    lag, rss = [at["lag"] for at in warm], [at["rss_mib"] for at in warm]
    delay = _delays(told, log) if not dropped else []
    return {
        "lines a second": round(sent / wrote_s), "seconds": round(wrote_s, 1), "lines": int(sent), "samples": samples,
        "dropped": dropped, "unaccounted": int(sent) - 1 - samples - dropped,
        "lag p50 s": _quantile(lag, 0.5), "lag p99 s": _quantile(lag, 0.99), "largest lag s": _quantile(lag, 1.0),
        "largest backlog": max(at["backlog"] for at in course),
        "to a score p50 s": _quantile(delay, 0.5), "to a score p99 s": _quantile(delay, 0.99),
        "largest to a score s": _quantile(delay, 1.0), "writer's own largest delay s": round(late_s, 4),
        "RSS growth MiB": round(rss[-1] - rss[0], 2) if rss else None,
    }  # fmt: skip


def _delays(told: list[tuple[float, int]], log: list[str]) -> list[float]:
    """Seconds from when its newest line was written to the arrival of each score."""
    written = np.array([line.split() for line in log], np.float64)  # (writes, 2) lines so far, when
    arrived, samples = np.array(told, np.float64).T
    # sample s is line s + 1, counted from 0: the first line after the port was opened is dropped
    return (arrived - written[np.searchsorted(written[:, 0], samples + 2), 1]).tolist()


def _listen(stream: IO[str], told: list[tuple[float, int]], opened: threading.Event) -> None:
    for text in stream:
        event = json.loads(text)
        if event["event"] == "score":
            told.append((time.monotonic(), event["sample"]))
        elif event["event"] == "input_open":
            opened.set()


def _rss_mib(pid: int) -> float:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def _quantile(values: list[float], q: float) -> float | None:
    return round(float(np.quantile(values, q)), 4) if values else None


@click.command()
@click.option("--seconds", default=600.0, show_default=True)
@click.option("--rate", default=10_000.0, show_default=True, help="Lines a second.")
@click.option("--sensors", default=25, show_default=True)
def main(seconds: float, rate: float, sensors: int) -> None:
    """Measure, print and save."""
    from bench.files.speed import untrained
    from edgekd.export import export

    with TemporaryDirectory() as temporary:
        folder = Path(temporary)
        path = export(untrained(sensors, "edge")[0], folder / "edge.onnx", steps=200).path
        manifest, content = admit(path, try_first=False)
        path.write_bytes(embed(content, replace(manifest, period_s=1 / rate, max_hold_s=100 / rate)))
        load = os.getloadavg()[0]  # who else is at work: what outruns a busy machine need not outrun a quiet one
        found = {**sustained(path, folder, rate, seconds), "load average before": round(load, 1)}
    print(json.dumps(found, indent=1))
    save(
        "sustained", {**found, "holds": found["unaccounted"] == 0}, protocol=PROTOCOL, sensors=sensors, hop=manifest.hop
    )


if __name__ == "__main__":
    main()
