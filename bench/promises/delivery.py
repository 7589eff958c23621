"""Does every event arrive, and what does it cost: kills, a broker that is away, and the time that detection takes.

    python -m bench.promises.delivery                   # about a quarter of an hour; needs a mosquitto broker
    python -m bench.promises.delivery --only latency

The tests of the same names are the short forms; this runs their code for longer and keeps the figures.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
import numpy as np

from bench.results import in_turn
from edgekd.runtime.cli import SWITCH_S
from edgekd.runtime.detector import Detector
from edgekd.runtime.episodes import Episodes
from edgekd.runtime.gateway.config import read_config
from edgekd.runtime.gateway.disk_writer import DiskWriter
from edgekd.runtime.gateway.options import GatewayOptions
from edgekd.runtime.gateway.outlets import deliver
from edgekd.runtime.gateway.sinks.fan_out import FanOut
from edgekd.runtime.loop import Loop
from edgekd.runtime.sinks import JsonLines
from edgekd.runtime.sources import Items, Row

sys.path.insert(0, str(Path(__file__).parents[2] / "tests"))
sys.path.insert(0, str(Path(__file__).parents[2] / "tests" / "gateway"))
from broker import Broker, Consumer, Network, eventually, free_port
from device import Device
from gateway_device import Gateway, gateway_toml
from step_models import step_file, step_samples
from test_delivery import killed_run

SENSORS, PERIOD_S, THRESHOLD = 25, 0.01, 1.4
BLOCKS, BLOCK = 6, 500  # 5 s of each condition in turn: what else the machine does meets all of them


@click.command()
@click.option(
    "--only",
    type=click.Choice(["kills", "kills with a command", "outage", "disturbed", "latency"]),
    multiple=True,
    help="Not all of it.",
)
@click.option("--kills", "count", default=200, show_default=True, help="How often a run is killed.")
@click.option("--minutes", default=3.0, show_default=True, help="How long the broker is away.")
def main(only: tuple[str, ...], count: int, minutes: float) -> None:
    """Measure and keep the figures."""
    parts: dict[str, Callable[[Path], dict[str, Any]]] = {
        "kills": lambda folder: killed_run(folder, 50_000, count, seed=2),
        "kills with a command": lambda folder: killed_run(folder, 5_000, count, seed=3, command=True),
        "outage": lambda folder: outage(folder, 60 * minutes),
        "disturbed": disturbed,
        "latency": latency,
    }
    in_turn("delivery", parts, lambda name: not only or name in only)


def outage(folder: Path, seconds: float) -> dict[str, Any]:
    """A live run whose broker is away, and which is killed once meanwhile: when and in what order does all arrive?"""
    step_file(folder / "m.onnx", 3, 1, threshold=0.15)
    rows = [",".join(map(str, row)) + "\n" for row in step_samples(3, 100_000)]
    at = 0

    def feed(device: Device, seconds: float) -> None:
        nonlocal at
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            assert device.process.stdin
            device.process.stdin.write(rows[at % len(rows)])  # type: ignore[arg-type]
            device.process.stdin.flush()
            at += 1
            time.sleep(0.02)

    with Broker(folder) as broker, Consumer(broker.port, client_id="c", clean_session=False) as consumer:
        url = f"mqtt://127.0.0.1:{broker.port}/alerts"
        run = ("--model", folder / "m.onnx", "--stdin", "--state", folder / "state", "--scores", "--publish", url)
        with Gateway(*run, stdin=subprocess.PIPE) as device:
            feed(device, 5)
            broker.stop()
            feed(device, seconds / 2)
            device.process.kill()
        with Gateway(*run, stdin=subprocess.PIPE) as again:
            feed(again, seconds / 2)
            waiting = len(consumer.messages)
            broker.start()
            returned = time.monotonic()
            feed(again, 2)
            everything = {(event["event"], event["sample"]) for event in again.events if "sample" in event}
            eventually(lambda: everything <= {(e["event"], e.get("sample")) for e in consumer.events()}, "all", 120)
            took_s = time.monotonic() - returned
            again.end(15)
        came = consumer.events()
        sequence = list(dict.fromkeys(event["seq"] for event in came))
        of_samples = ("score", "anomaly", "anomaly_end")
        first = {(event["event"], event["sample"]) for event in device.events if event["event"] in of_samples}
        stream = next(event["id"] for event in came).partition("-")[0]
        lost = first - {(e["event"], e["sample"]) for e in came if e["id"].startswith(f"{stream}-") and "sample" in e}
    assert sequence == sorted(sequence), "out of order"
    return {
        "broker_away_s": seconds,
        "samples": at,
        "had_come_before": waiting,
        "delivered": len(came),
        "delivered_after_return_s": round(took_s, 2),
        "lost_by_the_kill": len(lost),
        "gaps": len(range(sequence[0], sequence[-1] + 1)) - len(sequence),
        "dropped": sum(event["count"] for event in again.events if event["event"] == "outbox_dropped"),
    }


def disturbed(folder: Path) -> dict[str, Any]:
    """A live run with both sinks, whose broker is disturbed for a while: does every alarm arrive?

    The checker has what was told on standard output, what a client of its own was sent, and what the command wrote.
    """
    found = {}
    for name, disturb in DISTURBED.items():
        place = folder / name.replace(" ", "-")
        place.mkdir()
        found[name] = _disturbed(place, name == "queue of five, consumer away", disturb)
        click.echo(f"{name}: {found[name]}")
    return found


def _disturbed(folder: Path, full: bool, disturb: Callable[[Broker, Path], None]) -> dict[str, Any]:
    """full: the broker keeps five messages for a consumer that is away, and drops others; so alarms need receipts."""
    step_file(folder / "m.onnx", 3, 1, threshold=0.15, period_s=0.01)
    rules, executed = folder / "acl", folder / "executed"
    _let_write(rules, True)
    settings = ("allow_anonymous true", f"acl_file {rules}", f"max_queued_messages {5 if full else 100_000}")
    with Broker(folder, *settings) as broker:
        run = ["--model", folder / "m.onnx", "--stdin", "--state", folder / "state", "--cooldown", "0s"]
        run += ["--publish", f"mqtt://u1@127.0.0.1:{broker.port}/alerts", "--exec", f"tee -a {executed}"]
        run += ["--receipts", "received"] if full else []
        session = {"client_id": "checker", "clean_session": False}
        with Consumer(broker.port, "alerts", **session) as checker:
            if full:
                checker.__exit__()
            with _Told(*run, stdin=subprocess.PIPE) as device:
                stop = threading.Event()
                feeder = threading.Thread(target=_feed, args=(device, stop), daemon=True)
                feeder.start()
                disturb(broker, rules)
                stop.set()
                feeder.join()
                took_s, got = _wait_for_all(device, broker, checker, session if full else {})
                eventually(lambda: _ids(device.events) <= _ids(_lines(executed)), "that the command has all", 120)
                device.end(signal.SIGTERM)
    told, ran = _alarms(device.events), _alarms(_lines(executed))
    contents: dict[str, set[str]] = {}
    for event in [*told, *got, *ran]:
        said = {key: value for key, value in event.items() if key not in ("seq", "boot")}
        contents.setdefault(event["id"], set()).add(json.dumps(said, sort_keys=True))
    return {
        "alarms": len(told),
        "lost_by_mqtt": len(_ids(told) - _ids(got)),
        "lost_by_exec": len(_ids(told) - _ids(ran)),
        "sent_again": len(got) - len(_ids(got)),
        "ids_of_two_alarms": sum(len(said) > 1 for said in contents.values()),
        "all_there_after_s": round(took_s, 2),
        "said": sorted({event["reason"] for event in device.events if event["event"] == "sink_waiting"}),
    }


def _wait_for_all(
    device: Device, broker: Broker, checker: Consumer, session: dict[str, Any]
) -> tuple[float, list[dict[str, Any]]]:
    """Until every alarm that was told has come; how long that took, and what came. session: confirm each, in it."""
    well, confirmed = time.monotonic(), 0
    consumer = Consumer(broker.port, "alerts", **session) if session else checker
    with contextlib.ExitStack() as stack:
        if session:
            stack.enter_context(consumer)

        def all_came() -> bool:
            nonlocal confirmed
            events = consumer.events()
            for event in events[confirmed:] if session else ():
                consumer.publish("received", event["id"])
            confirmed = len(events)
            return _ids(device.events) <= _ids(events)

        eventually(all_came, "that all has come", 300)
    return time.monotonic() - well, _alarms(consumer.events())


class _Told(Gateway):
    """A gateway whose events keep their ids."""

    def event_of(self, line: str) -> dict[str, Any]:
        return json.loads(line)


def _feed(device: Device, stop: threading.Event) -> None:
    """A hundred samples a second."""
    assert device.process.stdin
    for row in itertools.cycle(step_samples(3, 20_000)):
        if stop.wait(0.01):
            return
        device.process.stdin.write(",".join(map(str, row)) + "\n")  # type: ignore[arg-type]
        device.process.stdin.flush()


def _alarms(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [event for event in events if event["event"] in ("anomaly", "anomaly_end")]


def _ids(events: list[dict[str, Any]]) -> set[str]:
    return {event["id"] for event in _alarms(events)}


def _lines(path: Path) -> list[dict[str, Any]]:
    text = path.read_text() if path.exists() else ""
    return [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]


def _let_write(rules: Path, write: bool) -> None:
    rules.write_text(f"topic readwrite #\nuser u1\ntopic read{'write' if write else ''} #\n")
    rules.chmod(0o600)


def _denies(broker: Broker, rules: Path) -> None:
    for write in (False, True):
        _let_write(rules, write)
        broker.signal(signal.SIGHUP)  # it reads its rules again
        time.sleep(15)


def _restarts(broker: Broker, _: Path) -> None:
    for _second in range(20):
        time.sleep(1)
        broker.stop()
        broker.start()


def _freezes(broker: Broker, _: Path) -> None:
    for frozen_s in (2, 5, 10, 45):  # the last is longer than a connection is believed in
        broker.signal(signal.SIGSTOP)
        time.sleep(frozen_s)
        broker.signal(signal.SIGCONT)
        time.sleep(2)


DISTURBED: dict[str, Callable[[Broker, Path], None]] = {
    "rules deny publishing": _denies,
    "restarts each second": _restarts,
    "frozen": _freezes,
    "queue of five, consumer away": lambda broker, rules: time.sleep(20),
}


def latency(folder: Path) -> dict[str, Any]:
    """Time of a sample in the loop's thread, without a broker and with one in each of its moods, 5 s each in turn.

    Twice: with alarms alone, an event in every tenth sample or so, and with every score, an event a sample and more.
    """
    step_file(folder / "m.onnx", SENSORS, 1, threshold=THRESHOLD, period_s=PERIOD_S)
    detector = Detector.load(folder / "m.onnx")
    rows = step_samples(SENSORS, BLOCK * BLOCKS)
    sys.setswitchinterval(SWITCH_S)
    figures: dict[str, Any] = {"samples": BLOCK * BLOCKS, "sensors": SENSORS, "rate_hz": 1 / PERIOD_S}
    with Broker(folder) as broker, Consumer(broker.port, "nothing"):
        network = Network(broker.port)
        network.stalled = True
        to = {"none": 0, "none again": 0, "up": broker.port, "down": free_port(), "stalled": network.port}
        for load in ("alarms", "scores"):
            took: dict[str, list[tuple[float, float]]] = {name: [] for name in to}
            events = 0
            for block in range(BLOCKS):
                for name, port in to.items():
                    url = f"mqtt://127.0.0.1:{port}/alerts" if port else None
                    options = _options(folder, f"{load} {name}", url)
                    times, told = _timed(detector, options, rows[block * BLOCK :][:BLOCK], load == "scores")
                    took[name] += times
                    events += told
            figures[load] = {"events_per_sample": round(events / (len(to) * BLOCK * BLOCKS), 3)} | _figures(took)
        network.close()
    return figures


def _figures(took: dict[str, list[tuple[float, float]]]) -> dict[str, Any]:
    """took: condition -> seconds of each update and of each whole sample."""
    found: dict[str, Any] = {}
    for name, times in took.items():
        for what, values in zip(("update", "sample"), np.array(times).T * 1e6):
            quantiles = {f"p{q}": round(float(np.percentile(values, q)), 1) for q in (50, 99)}
            found.setdefault(name, {})[f"{what}_us"] = quantiles
    base = found["none"]["update_us"]["p99"]
    found["update_p99_ratio"] = {name: round(found[name]["update_us"]["p99"] / base, 3) for name in took}
    return found


_nowhere = Path(os.devnull).open("w")  # noqa: SIM115 - as long as this runs


class _Paced:
    """Samples at the model's rate, as a sensor sends them."""

    live = True
    name = "paced"

    def __init__(self, samples: np.ndarray, reader: Any) -> None:
        self.rows = reader
        self._samples = samples

    def seek(self, sample: int) -> None:
        raise NotImplementedError

    def wait(self, seconds: float) -> None:
        raise NotImplementedError

    def __iter__(self) -> Iterator[Items]:
        due = time.monotonic()
        for values in self._samples:
            due += PERIOD_S
            time.sleep(max(0.0, due - time.monotonic()))
            yield [Row(values)]


def _timed(
    detector: Detector, options: GatewayOptions, samples: np.ndarray, scores: bool
) -> tuple[list[tuple[float, float]], int]:
    """Seconds of `Detector.update` and of all that the loop does with a sample, for each of them; events told."""
    from edgekd.runtime.sources.row_reader import RowReader

    stream, writer, clock = detector.stream(), DiskWriter(), time.perf_counter
    fan_out = FanOut(JsonLines(_nowhere), writer, lambda words: None)  # the events themselves are of no interest here
    deliver(options, fan_out, writer, patient=False)
    told = [0]

    def emit(event: Any) -> None:
        told[0] += 1
        fan_out.emit(event)

    source, say = _Paced(samples, RowReader(detector.manifest, {})), lambda words: None
    loop = Loop(source, stream, Episodes(), emit, say, scores)
    loop.watchers = [fan_out]
    update, whole = stream.update, loop._sample
    times: list[tuple[float, float]] = []
    updated = [0.0]

    def timed_update(values: Any) -> Any:
        began = clock()
        verdict = update(values)
        updated[0] = clock() - began
        return verdict

    def timed_sample(row: Row) -> None:
        began = clock()
        whole(row)
        times.append((updated[0], clock() - began))

    stream.update, loop._sample = timed_update, timed_sample  # type: ignore[method-assign]
    loop.run()
    fan_out.close(lambda: True)
    writer.flush(1.0)
    return times, told[0]


def _options(folder: Path, name: str, url: str | None) -> GatewayOptions:
    to = ("--publish", url) if url else ()
    file = folder / "gateway.toml"
    file.write_text(gateway_toml("--model", folder / "m.onnx", "--stdin", "--outbox", folder / f"outbox {name}", *to))
    return read_config(str(file))


if __name__ == "__main__":
    main()
