"""Brokers that take less than most: what they do not take is told, and events arrive all the same."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
from broker import Broker, Consumer, eventually, needs_broker
from test_check import found
from test_mqtt import Sender, ids
from test_refusals import CONNECTED, UNKNOWN_VERSION, Fake, message_id

from edgekd.runtime.gateway.mqtt import connection, publish
from edgekd.runtime.gateway.shorten import shorten

pytest.importorskip("paho.mqtt.client")
RECEIVE_MAXIMUM, PACKET_SIZE = 0x21, 0x27  # properties of a CONNACK


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """What failed in this process is tried again soon."""
    for module in (connection, publish):
        monkeypatch.setattr(module, "FIRST_WAIT_S", 0.05)
        monkeypatch.setattr(module, "LONGEST_WAIT_S", 0.1)
    monkeypatch.setattr(connection, "TICK_S", 0.05)


def connected(*properties: bytes) -> bytes:
    """A CONNACK of MQTT 5."""
    told = b"".join(properties)
    return b"\x20" + bytes([3 + len(told)]) + b"\0\0" + bytes([len(told)]) + told


def lacking(out: Sender) -> list[str]:
    return [fields["reason"] for kind, fields in list(out.told) if kind == "broker_lacks"]


def test_an_event_is_shortened_where_it_is_longest_and_keeps_its_name() -> None:
    event = {"event": "anomaly", "sample": 7, "score": 41.25, "sensors": [f"s{i}" for i in range(500)], "id": "a-7"}
    text = json.dumps(event | {"reason": "x" * 900, "more": {"a": "y" * 900}}).encode()
    short = json.loads(shorten(text, 400))
    assert len(shorten(text, 400)) <= 400 and short["shortened"] is True and "more" not in short
    assert short["sensors"] == event["sensors"][: len(short["sensors"])] and 10 < len(short["sensors"]) < 80
    assert {key: short[key] for key in ("event", "sample", "score", "id")} == {
        key: event[key] for key in ("event", "sample", "score", "id")
    }
    assert shorten(text, len(text)) == text
    assert json.loads(shorten(text, 10)) == {"event": "anomaly", "sample": 7, "id": "a-7", "shortened": True}


@needs_broker
@pytest.mark.parametrize("limit", ["max_packet_size 600", "message_size_limit 600"])
def test_an_event_that_is_too_large_is_shortened_told_once_and_holds_up_none(tmp_path: Path, limit: str) -> None:
    """The first is stated by the broker, which cuts off who does not keep to it; the second only refuses."""
    with (
        Broker(tmp_path, "allow_anonymous true", limit) as broker,
        Consumer(broker.port) as consumer,
        Sender(tmp_path / "s", f"mqtt://127.0.0.1:{broker.port}/alerts") as out,
    ):
        for _ in range(30):
            out.put(1)
            out.count += 1
            out.outbox.append({"event": "test", "sensors": ["pump"] * 3000, "id": out.count})
        eventually(lambda: out.outbox.depth == 0, "that all is delivered")
        assert sorted(ids(consumer)) == list(range(1, 61))
        large = [event for event in consumer.events() if "sensors" in event]
        assert len(large) == 30 and all(e["shortened"] and 10 < len(e["sensors"]) < 60 for e in large)
        told = [fields["seq"] for kind, fields in out.told if kind == "event_too_large"]
        assert sorted(told) == list(range(2, 61, 2))
        assert set(out.reasons()) <= {"the broker refuses events: too large"}


def test_a_broker_that_takes_next_to_nothing_is_told_of_and_not_connected_to_again_and_again(tmp_path: Path) -> None:
    def answer(_: int, kind: int, body: bytes) -> bytes:
        assert kind == 0x10 or kind & 0xF0 != 0x30, "a message that is too large"
        return connected(bytes([PACKET_SIZE]) + (60).to_bytes(4)) if kind == 0x10 else b""

    with Fake(answer) as broker, Sender(tmp_path / "s", f"mqtt://127.0.0.1:{broker.port}/alerts") as out:
        out.put(3)
        assert "bytes are too many" in out.wait_for("sink_waiting")["reason"]
        assert "bytes are too many" in out.wait_for("status_refused")["reason"]
        time.sleep(1.0)
        assert broker.count == 1 and len(out.told) == 2 and out.outbox.depth == 3


@needs_broker
def test_a_broker_without_qos_1_gets_events_and_is_not_taken_for_one_that_confirms(tmp_path: Path) -> None:
    with Broker(tmp_path, "max_qos 0", "allow_anonymous true") as broker, Consumer(broker.port) as consumer:
        url = f"mqtt://127.0.0.1:{broker.port}/alerts"
        with Sender(tmp_path / "s", url) as out:
            out.put(50)
            eventually(lambda: ids(consumer) == list(range(1, 51)) and out.outbox.depth == 0, "all events")
            assert lacking(out) == ["it takes QoS 0 alone, and acknowledges nothing; set receipts to know what arrives"]
            assert out.reasons() == []
        eventually(lambda: json.loads(consumer.messages[-1][1]).get("status") == "offline", "the farewell")


@needs_broker
def test_without_qos_1_receipts_are_what_counts(tmp_path: Path) -> None:
    with (
        Broker(tmp_path, "max_qos 0", "allow_anonymous true") as broker,
        Consumer(broker.port, "alerts") as consumer,
        Sender(tmp_path / "s", f"mqtt://127.0.0.1:{broker.port}/alerts", receipts="got") as out,
    ):
        out.put(5)
        eventually(lambda: len(ids(consumer)) == 5, "all events")
        assert out.outbox.depth == 5 and lacking(out) == []
        consumer.client.publish("got", "1\n2\n3\n4\n5", 0)
        eventually(lambda: out.outbox.depth == 0, "that all are confirmed")


@needs_broker
def test_a_broker_that_retains_nothing_gets_the_status_and_is_told_of(tmp_path: Path) -> None:
    with (
        Broker(tmp_path, "retain_available false", "allow_anonymous true") as broker,
        Consumer(broker.port) as consumer,
        Sender(tmp_path / "s", f"mqtt://127.0.0.1:{broker.port}/alerts") as out,
    ):
        out.put(3)
        eventually(lambda: out.outbox.depth == 0, "delivery")
        eventually(lambda: bool(consumer.events("alerts/status")), "the status")
        assert len(lacking(out)) == 1 and "retains nothing" in lacking(out)[0] and out.reasons() == []


def test_no_more_are_under_way_than_the_broker_says(tmp_path: Path) -> None:
    most = 2
    waiting: list[bytes] = []
    seen: list[int] = []

    def answer(_: int, kind: int, body: bytes) -> bytes:
        if kind == 0x10:
            return connected(bytes([RECEIVE_MAXIMUM]) + most.to_bytes(2))
        if kind & 0xF0 != 0x30:
            return b""
        waiting.append(message_id(body))
        seen.append(len(waiting))
        if len(waiting) < most:  # the first one waits until there is a second
            return b""
        return b"\x40\x02" + waiting.pop(0)

    with Fake(answer) as broker, Sender(tmp_path / "s", f"mqtt://127.0.0.1:{broker.port}/alerts") as out:
        out.put(40)
        eventually(lambda: out.outbox.depth <= 1, "delivery")
        assert max(seen) == most and broker.count == 1


def old(_: int, kind: int, body: bytes) -> bytes | None:
    """A broker that knows MQTT 3.1.1 alone, and takes everything."""
    if kind == 0x10:
        return CONNECTED if body[6] == 4 else UNKNOWN_VERSION
    return b"\x40\x02" + message_id(body) if kind & 0xF0 == 0x30 else b"\x90\x03" + body[:2] + b"\1"


@pytest.mark.parametrize("receipts", [None, "got"])
def test_of_a_broker_that_acknowledges_what_it_refuses_the_start_and_check_tell(
    tmp_path: Path, folder: Path, receipts: str | None
) -> None:
    words = "it speaks MQTT 3.1.1, and acknowledges what its rules forbid, too; set receipts to know what arrives"
    with Fake(old) as broker:
        url = f"mqtt://127.0.0.1:{broker.port}/alerts"
        with Sender(tmp_path / "s", url, receipts=receipts) as out:
            eventually(lambda: broker.count >= 2, "a connection")
            out.put(1)
            eventually(lambda: out.delivered == 1 or bool(receipts), "delivery")
            assert lacking(out) == ([] if receipts else [words])
        top: list[Any] = [f"publish = '{url}'", *([f"receipts = '{receipts}'"] if receipts else [])]
        checked = found(tmp_path / "gateway.toml", folder, "stdin = true", "", top="\n".join(top))["publish"]
        assert checked.ok and (words in checked.words) != bool(receipts)
