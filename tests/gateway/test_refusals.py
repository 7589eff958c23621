"""Brokers that refuse, are old, or say nothing: an alarm arrives or stays, and why is said."""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from broker import Broker, Consumer, eventually, needs_broker
from device import write_csv
from gateway_device import Gateway, run
from step_models import step_file, step_samples
from test_mqtt import Sender, ids

from edgekd.runtime.gateway.mqtt import publish
from edgekd.runtime.gateway.mqtt.connection import Secrets, parse_url
from edgekd.runtime.gateway.mqtt.publish import Publisher

pytest.importorskip("paho.mqtt.client")
CONNECTED, UNKNOWN_VERSION = b"\x20\x02\0\0", b"\x20\x02\0\1"
CONNECTED_5, REFUSED_5 = b"\x20\x03\0\0\0", 0x87


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model that finds many anomalies, and a recording."""
    step_file(tmp_path / "m.onnx", 3, 4, threshold=0.15)
    write_csv(tmp_path / "x.csv", step_samples(3, 240))
    return tmp_path


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was refused in this process is tried again soon."""
    monkeypatch.setattr(publish, "FIRST_WAIT_S", 0.1)
    monkeypatch.setattr(publish, "LONGEST_WAIT_S", 0.2)


class Fake:
    """A broker of a few lines. answer: what it says to a packet (type, body), given its connection's number."""

    def __init__(self, answer: Callable[[int, int, bytes], bytes]) -> None:
        self._answer = answer
        self.count = 0
        self.versions: list[int] = []
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = self._server.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def __enter__(self) -> Fake:
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):
            self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._server.accept()
                self.count += 1
                threading.Thread(target=self._talk, args=(connection, self.count), daemon=True).start()

    def _talk(self, connection: socket.socket, number: int) -> None:
        with contextlib.suppress(OSError, IndexError), connection, connection.makefile("rb") as file:
            while kind := file.read(1)[0]:
                size, shift = 0, 0
                while True:
                    byte = file.read(1)[0]
                    size, shift = size | (byte & 127) << shift, shift + 7
                    if byte < 128:
                        break
                body = file.read(size)
                if kind == 0x10:
                    self.versions.append(body[6])
                said = self._answer(number, kind, body)
                if said is None:
                    return
                connection.sendall(said)


def message_id(body: bytes) -> bytes:
    """Of a PUBLISH with QoS 1."""
    at = 2 + int.from_bytes(body[:2])
    return body[at : at + 2]


def acls(folder: Path, *lines: str) -> Path:
    path = folder / "acl"
    path.write_text("\n".join(lines) + "\n")
    path.chmod(0o600)
    return path


@needs_broker
def test_what_the_brokers_rules_do_not_let_through_stays_and_comes_when_they_do(folder: Path) -> None:
    rules = ["topic readwrite #", "user u1", "topic read #"]
    with Broker(folder, "allow_anonymous true", f"acl_file {acls(folder, *rules)}") as broker:
        to = ("--publish", f"mqtt://u1@127.0.0.1:{broker.port}/alerts", "--state", folder / "state")
        with Consumer(broker.port) as consumer:
            with Gateway("--model", folder / "m.onnx", "--csv", folder / "x.csv", *to) as device:
                assert device.end() == 0 and "are kept for the next start" in device.words
            told = [event["reason"] for event in device.events if event["event"] == "sink_waiting"]
            assert consumer.events() == [] and len(told) == 1 and "the broker refuses events" in told[0]
            assert sum(event["event"] == "status_refused" for event in device.events) == 1
            broker.stop()
            acls(folder, *rules[:2], "topic readwrite #")
            broker.start()
            assert run("--model", folder / "m.onnx", "--csv", folder / "x.csv", *to).returncode == 0
            wanted = {(e["event"], e["sample"]) for e in device.events if "anomaly" in e["event"]}
            eventually(lambda: wanted <= {(e["event"], e.get("sample")) for e in consumer.events()}, "all alarms")
    assert len(wanted) > 5


def test_an_event_that_is_refused_holds_up_no_other_and_is_sent_again(tmp_path: Path) -> None:
    got: list[int] = []

    def answer(_: int, kind: int, body: bytes) -> bytes:
        if kind == 0x10:
            return CONNECTED_5
        if kind & 0xF0 != 0x30:
            return b""
        poison = b'"id": 3,' in body and got.count(3) < 4
        if b'"test"' in body:
            got.append(json.loads(body[body.index(b"{") :])["id"])
        return b"\x40\x03" + message_id(body) + (b"\x97" if poison else b"\0")

    with Fake(answer) as broker, Sender(tmp_path / "s", f"mqtt://127.0.0.1:{broker.port}/alerts") as out:
        out.put(50)
        assert "Quota exceeded" in out.wait_for("sink_waiting")["reason"]
        out.wait_for("sink_back")
        eventually(lambda: out.outbox.depth == 0, "that all is delivered")
        assert set(got) == set(range(1, 51)) and Counter(got) == {**dict.fromkeys(range(1, 51), 1), 3: 5}
        assert len(out.reasons()) == 1 and broker.versions == [5]


@pytest.mark.parametrize("old", [UNKNOWN_VERSION, b"", CONNECTED])
def test_a_broker_without_mqtt_5_is_spoken_to_as_it_speaks(tmp_path: Path, old: bytes) -> None:
    """It says so, or hangs up every time, or has not looked at the version."""

    def answer(number: int, kind: int, body: bytes) -> bytes | None:
        if kind == 0x10:
            return CONNECTED if body[6] == 4 else old or None
        return b"\x40\x02" + message_id(body) if kind & 0xF0 == 0x30 else b""

    with Fake(answer) as broker, Sender(tmp_path / "s", f"mqtt://127.0.0.1:{broker.port}/alerts") as out:
        out.put(3)
        eventually(lambda: out.outbox.depth == 0, "delivery")
        assert all("version" not in reason for reason in out.reasons())
        assert broker.versions[-1] == (5 if old == CONNECTED else 4)


@pytest.mark.parametrize("five", [True, False])
def test_a_subscription_that_is_refused_is_said_once_and_asked_for_again(folder: Path, five: bool) -> None:
    def answer(number: int, kind: int, body: bytes) -> bytes:
        code = 0 if number > 2 else REFUSED_5 if five else 0x80
        if kind == 0x10:
            return CONNECTED_5 if five else CONNECTED
        if kind != 0x82:
            return b""
        return b"\x90" + bytes([3 + five]) + body[:2] + (b"\0" if five else b"") + bytes([code])

    with (
        Fake(answer) as broker,
        Gateway("--model", folder / "m.onnx", "--mqtt", f"mqtt://127.0.0.1:{broker.port}/x") as device,
    ):
        assert "does not allow the subscription" in device.wait_for("input_waiting")["reason"]
        device.wait_for("input_open")
        assert [event["event"] for event in device.events] == ["input_waiting", "input_open"]


@needs_broker
def test_two_gateways_that_publish_to_one_topic_do_not_throw_each_other_out(folder: Path) -> None:
    with Broker(folder) as broker, Consumer(broker.port) as consumer:
        to = ("--model", folder / "m.onnx", "--stdin", "--publish", f"mqtt://127.0.0.1:{broker.port}/alerts")
        rows = "\n".join((folder / "x.csv").read_text().splitlines()[1:]) + "\n"
        devices = [Gateway(*to, "--state", folder / name, stdin=subprocess.PIPE) for name in ("one", "two")]
        with devices[0], devices[1]:
            for device in devices:
                assert device.process.stdin
                device.process.stdin.write(rows)  # type: ignore[arg-type]
                device.process.stdin.flush()

            def all_came() -> bool:
                told = [{e["sample"] for e in device.events if e["event"] == "anomaly"} for device in devices]
                came = [event for event in consumer.events() if event["event"] == "anomaly"]
                return len(told[0]) > 4 and len(came) == len(told[0]) + len(told[1]) and told[0] == told[1]

            eventually(all_came, "all alarms of both")
            time.sleep(1.0)
            assert not [e for device in devices for e in device.events if e["event"] == "sink_waiting"]


@needs_broker
def test_two_gateways_that_read_one_topic_with_one_model_do_not_throw_each_other_out(folder: Path) -> None:
    with Broker(folder) as broker, Consumer(broker.port) as consumer:
        url = f"mqtt://127.0.0.1:{broker.port}"
        keys = ("--model", folder / "m.onnx", "--mqtt", f"{url}/plant", "--control", f"{url}/control", "--scores")
        with Gateway(*keys, "--state", folder / "one") as one, Gateway(*keys, "--state", folder / "two") as two:
            kinds = lambda: [{event["event"] for event in device.events} for device in (one, two)]  # noqa: E731
            eventually(lambda: all({"input_open", "control_open"} <= found for found in kinds()), "all subscriptions")
            time.sleep(1.0)
            for row in (folder / "x.csv").read_text().splitlines()[1:]:
                consumer.publish("plant", row)
            eventually(lambda: len(one.scores()) == len(two.scores()) == 60, "all scores")
            assert not any({"input_lost", "control_waiting"} & found for found in kinds())


@needs_broker
def test_two_machines_with_one_name_are_told_of_each_other_and_lose_nothing(tmp_path: Path) -> None:
    """A card was cloned."""
    with Broker(tmp_path) as broker, Consumer(broker.port) as consumer:
        url, same = f"mqtt://127.0.0.1:{broker.port}/alerts", Secrets(client_id="line-7")
        with Sender(tmp_path / "one", url, same) as one, Sender(tmp_path / "two", url, same) as two:
            for _ in range(20):
                one.put(1)
                two.put(1)
                time.sleep(0.02)
            for out in (one, two):
                assert "another client calls itself line-7-out" in out.wait_for("sink_waiting")["reason"]
            eventually(lambda: one.outbox.depth == two.outbox.depth == 0, "delivery")
        came = Counter(event["id"] for event in consumer.events())
        assert came.keys() == set(range(1, 21)) and min(came.values()) >= 2


def test_the_name_of_a_publisher_is_its_own_and_outlives_a_restart(tmp_path: Path) -> None:
    address = parse_url("mqtt://h/alerts", "publish")

    def name(place: str, given: str | None = None) -> str:
        made: Any = Publisher(address, Secrets(client_id=given), None, None, place=place)  # type: ignore[arg-type]
        return made._connection._client_id

    assert name("/var/a") == name("/var/a") != name("/var/b") and name("/var/a", "mine") == "mine-out"


@needs_broker
def test_with_receipts_an_alarm_stays_until_a_consumer_has_confirmed_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publish, "RECEIPT_S", 0.3)
    with Broker(tmp_path) as broker, Consumer(broker.port, "alerts") as consumer:
        url = f"mqtt://127.0.0.1:{broker.port}/alerts"
        with Sender(tmp_path / "s", url, receipts="got/it") as out:
            out.put(5)
            out.outbox.append({"event": "score", "id": "s"})
            eventually(lambda: Counter(e["id"] for e in consumer.events())[1] >= 3, "that it is sent again")
            assert "no receipt on got/it" in out.reasons() and Counter(e["id"] for e in consumer.events())["s"] == 1
            consumer.publish("got/it", "2\n3")
            consumer.publish("got/it", json.dumps(consumer.events()[3]))
            eventually(lambda: out.delivered == 4, "three receipts, and the score")
            assert out.outbox.depth == 6  # what came in between is kept with the first
        consumer.messages.clear()
        with Sender(tmp_path / "s", url, receipts="got/it") as out:
            eventually(lambda: {1, 5} <= set(ids(consumer)), "that the rest is sent after a restart")
            consumer.publish("got/it", "\n".join(["1", "2", "3", "4", "5", "unknown", "{"]))
            eventually(lambda: out.outbox.depth == 0, "that all are confirmed")


@needs_broker
def test_what_a_full_queue_has_swallowed_comes_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The broker takes every event, and drops most of them: the consumer is away, and its queue is short."""
    monkeypatch.setattr(publish, "RECEIPT_S", 0.3)
    monkeypatch.setattr(publish, "LONGEST_RECEIPT_S", 0.6)
    with Broker(tmp_path, "max_queued_messages 5", "allow_anonymous true") as broker:
        url = f"mqtt://127.0.0.1:{broker.port}/alerts"
        with Consumer(broker.port, "alerts", client_id="c", clean_session=False):
            pass
        with Sender(tmp_path / "s", url, receipts="got") as out:
            out.put(60)
            eventually(lambda: "no receipt on got" in out.reasons(), "that none is confirmed")
            with Consumer(broker.port, "alerts", client_id="c", clean_session=False) as consumer:
                sent = 0

                def confirm() -> bool:
                    nonlocal sent
                    events = consumer.events()
                    for event in events[sent:]:
                        consumer.publish("got", str(event["id"]))
                    sent = len(events)
                    return out.outbox.depth == 0

                eventually(confirm, "every receipt")
                assert set(ids(consumer)) == set(range(1, 61))


@needs_broker
def test_a_heartbeat_counts_and_is_the_retained_status(folder: Path) -> None:
    with Broker(folder) as broker:
        to = ("--publish", f"mqtt://127.0.0.1:{broker.port}/alerts", "--heartbeat", "1s", "--outbox", folder / "outbox")
        with Gateway("--model", folder / "m.onnx", "--stdin", *to, stdin=subprocess.PIPE) as device:
            assert device.process.stdin
            device.process.stdin.write("0,0,0\n" * 60 + "9,9,9\n" * 60)  # type: ignore[arg-type]
            device.process.stdin.flush()
            beat = device.wait_for(lambda e: e["event"] == "heartbeat" and e["samples"] == 120 and not e["waiting"])
            assert beat["verdicts"] == 30 and beat["anomalies"] >= 1 and beat["dropped"] == 0
            assert beat["delivered"]["mqtt"] >= beat["anomalies"]
            with Consumer(broker.port, "alerts/status") as late:
                eventually(lambda: len(late.messages) >= 2, "the retained status, and the next")
                for _, payload in late.messages:
                    assert json.loads(payload)["status"] == "online" and json.loads(payload)["time"]
                assert json.loads(late.messages[-1][1])["samples"] == 120
        assert not [e for e in device.events if e["event"] == "heartbeat" and e["left_out"]]
