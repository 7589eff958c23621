"""Several streams in one process: each gives the scores that it gives alone, and none notices what befalls another."""

from __future__ import annotations

import json
import re
import signal
import socket
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.request import Request, urlopen

import numpy as np
import pytest
from broker import Broker, Consumer, needs_broker
from device import events_of, eventually, write_csv
from failing_models import looking_model
from gateway_device import COMMAND, Gateway, run, run_file
from step_models import step_file, step_manifest, step_samples

from edgekd.runtime import Detector
from edgekd.runtime.sources import InputEvent
from edgekd.runtime.state import StateFile

N = 3
Parts = dict[str, tuple[Path, Path]]


def table(**keys: object) -> str:
    """A `[[stream]]` of a gateway's file."""
    return "".join(
        ["[[stream]]\n", *(f"{key.replace('_', '-')} = {json.dumps(keys[key], default=str)}\n" for key in keys)]
    )


class Many(Gateway):
    """A gateway that runs a file, which is written anew with `write`."""

    def __init__(self, file: Path, *tables: str) -> None:
        self.file = file
        self.write(*tables)
        super().__init__()

    def write(self, *tables: str) -> None:
        """What the file says from now on."""
        new = self.file.with_suffix(".new")
        new.write_text("\n".join(tables))
        new.replace(self.file)

    def command(self, *arguments: object) -> list[str]:
        return [*COMMAND, "run", str(self.file)]

    def of(self, name: str, kind: str) -> list[dict[str, Any]]:
        """The events of a kind that one stream has told so far."""
        return [event for event in list(self.events) if event.get("stream") == name and event["event"] == kind]

    def wait_until(self, name: str, sample: int) -> None:
        """Until this stream has told the score of a sample."""
        eventually(lambda: any(event["sample"] == sample for event in self.of(name, "score")), f"{name}, {sample}")


class Peer:
    """A TCP server that says what it is told to, to whoever is connected."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self._connected: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            self._connected.append(self._listener.accept()[0])

    def say(self, data: bytes) -> None:
        eventually(lambda: bool(self._connected), "a connection")
        self._connected[-1].sendall(data)


def lines(samples: np.ndarray) -> bytes:
    return b"".join(",".join(map(str, row)).encode() + b"\n" for row in samples)


def scores(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The scores among events, without what names their stream."""
    return [
        {key: event[key] for key in event if key not in ("stream", "id")}
        for event in events
        if event["event"] == "score"
    ]


def seen(state: Path, model: Path) -> int:
    """Samples that a saved state has seen."""
    saved = StateFile(state, Detector.load(model, check=False, probe=False).manifest.digests.file).load()
    return int(saved.arrays["seen"]) if saved else 0


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Parts:
    """Name -> model and recording; two of three share a model."""
    folder = tmp_path_factory.mktemp("streams")
    one, other = (
        step_file(folder / "one.onnx", N, 4, threshold=0.15),
        step_file(folder / "two.onnx", N, 2, seed=1, threshold=0.2),
    )
    found = {}
    for i, (name, model) in enumerate({"a": one, "b": other, "c": one}.items()):
        found[name] = model, write_csv(folder / f"{name}.csv", step_samples(N, 160, seed=i))
    return found


def test_three_streams_score_as_each_does_alone(parts: Parts, tmp_path: Path) -> None:
    file = tmp_path / "g.toml"
    file.write_text("".join(table(name=name, model=m, csv=c, scores=True) for name, (m, c) in parts.items()))
    found = run_file(file)
    assert found.returncode == 0, found.stderr
    events = events_of(found.stdout)
    for name, (model, recording) in parts.items():
        alone = run("--model", model, "--csv", recording, "--scores")
        assert "stream" not in alone.stdout
        mine = [event for event in events if event["stream"] == name]
        assert scores(mine) == scores(events_of(alone.stdout)) != []
        assert [e["event"] for e in mine] == [e["event"] for e in events_of(alone.stdout)]


def test_what_befalls_one_stream_changes_no_score_of_another(parts: Parts, tmp_path: Path) -> None:
    (model, recording), failing = parts["a"], looking_model(tmp_path / "fails.onnx")
    alone = scores(events_of(run("--model", model, "--csv", recording, "--scores").stdout))
    peers = {name: Peer() for name in ("good", "floods", "garbage", "fails", "silent")}
    models = {name: failing if name == "fails" else model for name in peers}
    tables = [
        table(name=name, model=models[name], tcp=peer.address, scores=name == "good") for name, peer in peers.items()
    ]
    tables.append(table(name="absent", model=tmp_path / "nowhere.onnx", tcp="127.0.0.1:1"))
    with Many(tmp_path / "g.toml", *tables) as gateway:
        samples = lines(np.loadtxt(recording, np.float32, delimiter=",", skiprows=1)).splitlines(keepends=True)
        flood = lines(step_samples(N, 5000))
        fate = np.random.default_rng(0)
        for peer in peers.values():
            peer.say(b"s0,s1,s2\n")
        for i, line in enumerate(samples):
            if i % 40 == 0:
                peers["floods"].say(flood)
                peers["garbage"].say(fate.bytes(5000))
            peers["fails"].say(b"1000,1.5,2.5\n")
            peers["good"].say(line)
        eventually(lambda: len(gateway.of("good", "score")) == len(alone), "all scores")
        assert scores(gateway.of("good", "score")) == alone
        eventually(lambda: bool(gateway.of("fails", "stream_lost")), "the model's end")
        (lost,) = gateway.of("fails", "stream_lost")
        assert "failed" in lost["reason"] and lost["again_s"] > 0
        assert "nowhere.onnx" in gateway.of("absent", "stream_lost")[0]["reason"]
        eventually(lambda: bool(gateway.of("garbage", "bad_lines")), "what is told of garbage")
        assert not any(gateway.of(name, "stream_lost") for name in ("good", "floods", "garbage", "silent"))
        eventually(lambda: len(gateway.of("fails", "input_open")) == 2, "another beginning")
        assert gateway.end(signal.SIGTERM) == 0


def test_streams_come_and_go_with_the_file(parts: Parts, tmp_path: Path) -> None:
    model, peers = parts["a"][0], {name: Peer() for name in ("one", "two")}
    row = lines(step_samples(N, 4))

    def of(name: str, **more: object) -> str:
        return table(name=name, model=model, tcp=peers[name].address, scores=True, state=tmp_path / name, **more)

    def score(name: str) -> dict[str, Any]:
        peers[name].say(row)
        return gateway.wait_for(lambda event: event["event"] == "score" and event.get("stream", "one") == name)

    with Many(tmp_path / "g.toml", of("one")) as gateway:
        gateway.wait_for("input_open")
        peers["one"].say(b"s0,s1,s2\n")
        assert "stream" not in score("one")
        gateway.write(of("one"), of("two"))
        assert gateway.wait_for("config_read")["added"] == ["two"]
        peers["two"].say(b"s0,s1,s2\n")
        assert [score("two")["sample"], score("one")["sample"]] == [3, 7]
        gateway.write(of("one"), "[[stream]]")
        gateway.process.send_signal(signal.SIGHUP)  # else it is looked at in a second
        assert "model is missing" in gateway.wait_for("config_refused")["reason"]
        assert score("two")["sample"] == 7
        gateway.write(of("one"), of("two", threshold=0.5))
        gateway.process.send_signal(signal.SIGHUP)
        assert gateway.wait_for("config_read")["changed"] == ["two"]
        assert gateway.wait_for("resumed")["stream"] == "two"
        gateway.write(of("one"))
        gateway.process.send_signal(signal.SIGHUP)
        assert gateway.wait_for("config_read")["removed"] == ["two"]
        assert score("one")["sample"] == 11
        assert gateway.end(signal.SIGTERM) == 0


def test_two_streams_go_on_after_a_kill(parts: Parts, tmp_path: Path) -> None:
    files = {name: tmp_path / f"{name}.csv" for name in ("a", "b")}
    for file in files.values():
        file.write_text("s0,s1,s2\n")
    common = {"follow": True, "scores": True, "state_every": 0.1}
    tables = [
        table(name=name, model=parts[name][0], csv=file, state=tmp_path / name, **common)
        for name, file in files.items()
    ]
    told: dict[str, dict[int, Any]] = {name: {} for name in files}
    rows = {name: parts[name][1].read_text().splitlines()[1:] for name in files}
    for half in range(2):
        with Many(tmp_path / "g.toml", *tables) as gateway:
            for _ in files:
                gateway.wait_for("input_open")
            for name, file in files.items():
                with file.open("a") as opened:
                    opened.write("\n".join(rows[name][80 * half : 80 * (half + 1)]) + "\n")
            for name in files:
                gateway.wait_until(name, 80 * half + 79)
                told[name] |= {event["sample"]: event["score"] for event in gateway.of(name, "score")}
            for name in files:
                eventually(lambda: seen(tmp_path / name, parts[name][0]) == 80 * (half + 1), "a state")  # noqa: B023
            gateway.process.kill()
    for name, (model, recording) in parts.items():
        if name in told:
            alone = events_of(run("--model", model, "--csv", recording, "--scores").stdout, "score")
            assert told[name] == {event["sample"]: event["score"] for event in alone}


@needs_broker
def test_each_name_in_a_topic_is_a_stream_of_its_own(parts: Parts, tmp_path: Path) -> None:
    model, recording = parts["a"]
    rows = recording.read_text().splitlines()[1:]
    alone = scores(events_of(run("--model", model, "--csv", recording, "--scores").stdout))
    with Broker(tmp_path) as broker, Consumer(broker.port, "nothing") as plant:
        url = f"mqtt://127.0.0.1:{broker.port}/site/+/all"
        each = table(model=model, mqtt=url, each=True, most=2, scores=True, state=str(tmp_path / "{}.state"))
        with Many(tmp_path / "g.toml", each) as gateway:
            gateway.wait_for("input_open")
            for i, row in enumerate(rows):
                for name in ("p1", "p2", "p3", "../x")[: 2 if i else 4]:
                    plant.publish(f"site/{name}/all", row)
            assert gateway.wait_for("stream_left_out")["topic"] == "site/p3/all"
            for name in ("p1", "p2"):
                gateway.wait_until(name, len(rows) - 1)
                assert scores(gateway.of(name, "score")) == alone
            assert not gateway.of("p3", "score")
            gateway.write(each.replace("most = 2", "most = 3"))
            gateway.process.send_signal(signal.SIGHUP)
            assert sorted(gateway.wait_for("config_read")["removed"]) == ["p1", "p2"]
            gateway.wait_for("input_open")
            plant.publish("site/p2/all", rows[0])
            assert gateway.wait_for("resumed")["sample"] == len(rows)
            assert gateway.end(signal.SIGTERM) == 0
    assert sorted(path.name for path in tmp_path.glob("*.state")) == ["p1.state", "p2.state"]


@needs_broker
def test_all_share_one_broker_one_outbox_one_page_and_one_scrape(parts: Parts, tmp_path: Path) -> None:
    peers = {name: Peer() for name in ("a", "b")}
    tables = [
        table(name=name, model=parts[name][0], tcp=peer.address, state=tmp_path / name, threshold=1e-9)
        for name, peer in peers.items()
    ]
    with Broker(tmp_path) as broker, Consumer(broker.port) as consumer:
        shared = {"publish": f"mqtt://127.0.0.1:{broker.port}/alerts", "control": "control", "heartbeat": "1s"}
        shared |= {"outbox": str(tmp_path / "outbox"), "history": str(tmp_path / "history")}
        top = "".join(f"{key} = {json.dumps(value)}\n" for key, value in shared.items())
        with Many(tmp_path / "g.toml", f'{top}page = ":0"\nmetrics = ":0"\n', *tables) as gateway:
            for name, peer in peers.items():
                eventually(lambda: bool(gateway.of(name, "input_open")), "the input")  # noqa: B023
                peer.say(b"s0,s1,s2\n" + lines(step_samples(N, 40)))
            eventually(
                lambda: {e["stream"] for e in consumer.events() if e["event"] == "anomaly"} == {*peers}, "alarms"
            )
            beat = gateway.wait_for(lambda event: event["event"] == "heartbeat" and event["samples"] == 80)
            assert beat["streams"] == 2 and "stream" not in beat
            scrape = urlopen(address_in(gateway.words, "metrics are at")).read().decode()
            for name in peers:
                assert f'edgekd_samples_total{{stream="{name}"}} 40.0' in scrape
            assert scrape.count("# TYPE edgekd_samples_total") == scrape.count("\nedgekd_outbox_events ") == 1
            page = address_in(gateway.words, "the page is at")
            token = re.findall(r'name="token" content="(\w+)"', urlopen(page).read().decode())[0]
            listed = urlopen(Request(f"{page}/api/streams", headers={"Authorization": f"Bearer {token}"}))
            assert [stream["stream"] for stream in json.load(listed)["streams"]] == ["a", "b"]
            eventually(lambda: any(e["event"] == "control_open" for e in gateway.events), "control")
            consumer.publish("control/b/mute", "1h")
            assert gateway.wait_for("mute_begin")["stream"] == "b"
            consumer.publish("control/mute", "2h")
            assert {gateway.wait_for("mute_begin")["stream"] for _ in peers} == {*peers}
            assert gateway.end(signal.SIGTERM) == 0


def test_of_a_flood_in_a_shared_subscription_that_streams_messages_alone_go() -> None:
    pytest.importorskip("paho.mqtt.client")
    from edgekd.runtime.gateway.mqtt.connection import Secrets, parse_url
    from edgekd.runtime.gateway.mqtt.subscribe import Message, MqttMessages

    part = SimpleNamespace(start=lambda: None, stop=lambda seconds: None)
    subscription: Any = SimpleNamespace(part=lambda topic, source: part)
    address = parse_url("mqtt://b/site/a/all", "mqtt")
    source = MqttMessages(address, Secrets(), step_manifest(N, 1), {}, subscription=subscription)
    for _ in range(3000):
        source.put(Message("site/a/all", b"1,2,3", ""), most_bytes=100_000)
    items = [item for _, found in zip(range(9), source) for item in found]
    gaps = [item for item in items if isinstance(item, InputEvent)]
    assert sum(item.rewarm for item in gaps) == len(gaps) and sum(item.told for item in gaps) == 1
    assert (source.dropped or 0) + len(items) - len(gaps) == 3000 and source.dropped


def address_in(words: str, before: str) -> str:
    return re.findall(rf"{before} (\S+)", words)[0]
