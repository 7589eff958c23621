"""Many streams in one gateway: memory, delay of a score, and that each scores as it does in a process of its own.

    python -m bench.promises.streams [--seconds 60] [--streams 50]

50 streams of 25 sensors over TCP, at 1 Hz and at 10 Hz, each sample sent at its own time; then again at 10 Hz while
one stream floods (10,000 lines a second), one hangs, one sends garbage and the model of one fails at every step. A
delay is from the line's writing to the arrival of the score on standard output. The default detector is distilled for
it once, for a short recording: what it costs does not depend on what it has learned.
"""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
import time
from collections import defaultdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click
import numpy as np

from bench.results import WORK, kept, save, table

sys.path.insert(0, str(Path(__file__).parents[2] / "tests"))
from device import COMMAND as RUN
from device import eventually, write_csv
from failing_models import looking_model
from gateway_device import COMMAND

SENSORS = 25
PRESETS = {"default": (), "innovations": ("--preset", "innovations")}
BOUND_MB, BOUND_P99_MS = 120.0, 50.0
ALONE = 10
"""Gateways of one stream whose memory is measured, side by side."""
FLOOD_HZ = 10_000
WARM_UP = 140
"""Samples that are sent at once before the others: less than that has no score."""
HOP = 10
"""Of both detectors: each stream is as far in it as chance has it, as machines that know nothing of each other are."""
PROTOCOL = (
    "50 streams, 25 sensors, TCP on loopback, every score told on standard output; the feeder runs on the same machine;"
    " mb: PSS of the one process at the end; alone_mb: mean PSS of 10 gateways of one stream each, side by side, times"
    " 50; late_p99_ms: how late the feeder itself woke, which is the machine's; equal: streams whose scores are, byte"
    " for byte, those of edgekd-run on the same samples"
)


def trained(name: str) -> tuple[Path, np.ndarray]:
    """The exported detector of a preset, and samples for it, float32 (T, 25)."""
    folder = WORK / "streams"
    folder.mkdir(parents=True, exist_ok=True)
    normal, student, model = folder / "normal.csv", folder / f"{name}.pt", folder / f"{name}.onnx"
    steps: dict[Path, tuple[object, ...]] = {
        normal: ("simulate", normal, "--samples", 6000, "--fault-free", "--sensors", SENSORS, "--period-s", 1),
        model: ("export", student, "-o", model),
    }
    if not model.exists() and not student.exists():
        steps = {
            normal: steps[normal],
            student: ("distill", normal, "-o", student, *PRESETS[name]),
            model: steps[model],
        }
    for path, command in steps.items():
        if not path.exists():
            subprocess.run([sys.executable, "-m", "edgekd.cli", *map(str, command)], check=True)
    return model, np.genfromtxt(normal, np.float32, delimiter=",", skip_header=1, usecols=range(1, SENSORS + 1))


def names_of(model: Path) -> tuple[str, ...]:
    """Of its sensors."""
    from edgekd.runtime import Detector

    return Detector.load(model, check=False, probe=False).manifest.names


class Peer:
    """The server of one stream."""

    def __init__(self, header: bytes) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self._header = header
        self.connection: socket.socket | None = None
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            connection, _ = self._listener.accept()
            connection.sendall(self._header)
            self.connection = connection


class Fed:
    """A gateway whose scores are timed as they arrive."""

    def __init__(self, file: Path) -> None:
        self.scores: dict[str, dict[int, bytes]] = defaultdict(dict)
        self.arrived: dict[tuple[str, int], float] = {}
        self.events: list[dict[str, Any]] = []
        quiet = subprocess.DEVNULL
        self.process = subprocess.Popen([*COMMAND, "run", str(file)], stdout=subprocess.PIPE, stderr=quiet)
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self.process.stdout
        for line in self.process.stdout:
            now, event = time.perf_counter(), json.loads(line)
            if event["event"] == "score":
                name = event.get("stream", "")
                self.arrived[name, event["sample"]] = now
                self.scores[name][event["sample"]] = event["score"]
            else:
                self.events.append(event)

    @property
    def mb(self) -> float:
        """Its share of memory (PSS)."""
        text = Path(f"/proc/{self.process.pid}/smaps_rollup").read_text()
        return next(int(line.split()[1]) for line in text.splitlines() if line.startswith("Pss:")) * 1024 / 1e6

    @property
    def cpu_s(self) -> float:
        """Of all its threads so far."""
        tasks = Path(f"/proc/{self.process.pid}/task").glob("*/schedstat")
        return sum(int(task.read_text().split()[0]) for task in tasks) / 1e9

    def end(self) -> None:
        """It, and wait."""
        self.process.terminate()
        self.process.wait(10.0)


def measure(folder: Path, model: Path, samples: np.ndarray, streams: int, hz: float, seconds: float, evil: bool) -> Any:
    """Feed so many streams for so long; what it cost."""
    header = ",".join(names_of(model)).encode() + b"\n"
    names = [f"s{i}" for i in range(streams)]
    bad = dict(zip(("floods", "silent", "garbage", "fails"), names)) if evil else {}
    peers = {name: Peer(b"s0,s1,s2\n" if name == bad.get("fails") else header) for name in names}
    count = WARM_UP + round(seconds * hz) + HOP
    rows = {name: samples[(60 * i) % (len(samples) - count) :][:count] for i, name in enumerate(names)}
    text = {name: [",".join(map(str, row)).encode() + b"\n" for row in rows[name]] for name in names}
    models = dict.fromkeys(names, model)
    if evil:
        models[bad["fails"]] = looking_model(folder / "fails.onnx")
        text[bad["fails"]] = [b"1000,1.5,2.5\n"] * count
        fate = np.random.default_rng(0)
        text[bad["garbage"]] = [fate.bytes(400) for _ in range(count)]
        text[bad["silent"]] = [b""] * count
    file = folder / "gateway.toml"
    file.write_text('heartbeat = "0s"\n' + "".join(
        f'[[stream]]\nname = "{name}"\nmodel = "{models[name]}"\ntcp = "{peers[name].address}"\n'
        f"scores = {json.dumps(name not in bad.values())}\n"
        for name in names
    ))  # fmt: skip
    fed = Fed(file)
    eventually(lambda: all(peer.connection for peer in peers.values()), "the connections", 60.0)
    time.sleep(1.0)
    if evil:
        flood = b"".join(text[bad["floods"]])
        threading.Thread(
            target=_flood, args=(peers[bad["floods"]], flood, len(text[bad["floods"]])), daemon=True
        ).start()
        text[bad["floods"]] = [b""] * count
    cpu = fed.cpu_s
    sent, late = _send(peers, text, hz)
    cores = (fed.cpu_s - cpu) / seconds
    good = [name for name in names if name not in bad.values()]
    alone = {name: _scores_alone(folder / f"{name}-{count}.csv", model, rows[name]) for name in good}
    eventually(lambda: all(len(fed.scores[name]) >= len(alone[name]) for name in good), "all scores", 30.0)
    delays = [
        at - sent[name, sample] for (name, sample), at in fed.arrived.items() if (name, sample) in sent and name in good
    ]
    figures = {
        "hz": hz, "mb": round(fed.mb, 1), "cores": round(cores, 3), "scores": len(delays),
        **{f"p{q}_ms": round(float(np.percentile(delays, q)) * 1e3, 2) for q in (50, 99)},
        "largest_ms": round(max(delays) * 1e3, 1), "late_p99_ms": round(float(np.percentile(late, 99)) * 1e3, 2),
        "equal": sum(fed.scores[name] == alone[name] for name in good),
        "of": len(good), "lost": sorted({e["stream"] for e in fed.events if e["event"] == "stream_lost"}),
    }  # fmt: skip
    fed.end()
    return figures


def _send(
    peers: dict[str, Peer], text: dict[str, list[bytes]], hz: float
) -> tuple[dict[tuple[str, int], float], list[float]]:
    """Every line at its time, the streams one after the other within a period; when each was written, and how late."""
    sent, late, names = {}, [], list(peers)
    fate = np.random.default_rng(0)
    ahead = dict(zip(names, map(int, WARM_UP + fate.integers(HOP, size=len(names)))))
    for name in names:
        _write(peers[name], b"".join(text[name][: ahead[name]]))
    time.sleep(5.0)
    began = time.perf_counter()
    for turn in range(len(text[names[0]]) - WARM_UP - HOP):
        for j, name in enumerate(names):
            due, i = began + (turn + j / len(names)) / hz, ahead[name] + turn
            time.sleep(max(0.0, due - time.perf_counter()))
            sent[name, i] = time.perf_counter()
            late.append(sent[name, i] - due)
            _write(peers[name], text[name][i])
    for name in names:  # all of what `edgekd-run` is asked about
        _write(peers[name], b"".join(text[name][ahead[name] + turn + 1 :]))
    return sent, late


def _write(peer: Peer, data: bytes) -> None:
    try:
        if peer.connection and data:
            peer.connection.sendall(data)
    except OSError:  # it was lost, and comes again
        pass


def _flood(peer: Peer, data: bytes, count: int) -> None:
    while True:
        began = time.perf_counter()
        _write(peer, data)
        time.sleep(max(0.0, began + count / FLOOD_HZ - time.perf_counter()))


def _scores_alone(recording: Path, model: Path, rows: np.ndarray) -> dict[int, Any]:
    """What `edgekd-run` says to the same samples; asked once for each recording."""
    told = recording.with_suffix(".scores")
    if not told.exists():
        write_csv(recording, rows)
        header, text = ",".join(names_of(model)), recording.read_text()
        recording.write_text(header + "\n" + text.partition("\n")[2])
        command = [*RUN, "--model", str(model), "--csv", str(recording), "--scores", "--quiet"]
        told.write_bytes(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)
    events = map(json.loads, told.read_bytes().splitlines())
    return {event["sample"]: event["score"] for event in events if event["event"] == "score"}


def alone_mb(folder: Path, model: Path) -> float:
    """Mean share of memory of gateways of one stream, side by side."""
    header = ",".join(names_of(model)).encode() + b"\n"
    peers, gateways = [Peer(header) for _ in range(ALONE)], []
    for i, peer in enumerate(peers):
        file = folder / f"alone-{i}.toml"
        file.write_text(f'[[stream]]\nmodel = "{model}"\ntcp = "{peer.address}"\n')
        gateways.append(Fed(file))
    eventually(lambda: all(peer.connection for peer in peers), "the connections", 60.0)
    time.sleep(5.0)
    found = [gateway.mb for gateway in gateways]
    for gateway in gateways:
        gateway.end()
    return float(np.mean(found))


@click.command()
@click.option("--seconds", default=60.0)
@click.option("--streams", default=50)
@click.option("--preset", multiple=True, type=click.Choice(list(PRESETS)), default=list(PRESETS))
def main(seconds: float, streams: int, preset: tuple[str, ...]) -> None:
    """Measure, print and save."""
    known = kept("streams").get("rows", [])
    for name in preset:
        rows = []
        model, samples = trained(name)
        with TemporaryDirectory() as folder:
            alone = alone_mb(Path(folder), model)
            for what, hz, evil in (("calm", 1.0, False), ("calm", 10.0, False), ("four are bad", 10.0, True)):
                found = measure(Path(folder), model, samples, streams, hz, seconds, evil)
                holds = found["mb"] <= BOUND_MB and found["equal"] == found["of"] and found["p99_ms"] <= BOUND_P99_MS
                told = {
                    "detector": name,
                    "streams": what,
                    **found,
                    "alone_mb": round(alone * streams, 1),
                    "holds": holds,
                }
                rows.append(told)
                print(told, flush=True)
        known = [row for row in known if row["detector"] != name] + rows
    print(table(known))
    save("streams", {"rows": known}, protocol=PROTOCOL, bounds={"mb": BOUND_MB, "p99_ms": BOUND_P99_MS})


if __name__ == "__main__":
    main()
