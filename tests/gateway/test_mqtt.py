"""MQTT in and out against a real broker that is stopped, slow, refusing, or not the one it should be."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from broker import Broker, Consumer, Network, eventually, free_port, needs_broker
from device import write_csv
from gateway_device import Gateway, events_of, run
from step_models import step_file, step_manifest, step_samples

from edgekd.runtime import UsageError
from edgekd.runtime.gateway.disk_writer import DiskWriter
from edgekd.runtime.gateway.mqtt import connection as mqtt
from edgekd.runtime.gateway.mqtt.connection import Secrets, check_topic, parse_url
from edgekd.runtime.gateway.mqtt.publish import Publisher
from edgekd.runtime.gateway.mqtt.subscribe import MessageReader, MqttMessages
from edgekd.runtime.gateway.outbox import Outbox
from edgekd.runtime.layout import Layout
from edgekd.runtime.sources import InputEvent, Row

pytest.importorskip("paho.mqtt.client")
N, COUNT = 3, 240


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that finds many anomalies, a recording, and its scores, in one folder."""
    folder = tmp_path_factory.mktemp("mqtt")
    step_file(folder / "m.onnx", N, 4, threshold=0.15)
    write_csv(folder / "x.csv", step_samples(N, COUNT))
    done = run("--model", folder / "m.onnx", "--csv", folder / "x.csv", "--scores")
    (folder / "whole").write_text(done.stdout)
    return folder


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Connections in this process are tried again soon."""
    monkeypatch.setattr(mqtt, "FIRST_WAIT_S", 0.1)
    monkeypatch.setattr(mqtt, "LONGEST_WAIT_S", 0.4)


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    with Broker(tmp_path) as broker:
        yield broker


class Sender:
    """An outbox and what publishes from it, in this process."""

    def __init__(
        self, folder: Path, url: str, secrets: Secrets | None = None, keepalive_s: int = 30, **more: Any
    ) -> None:
        self.told: list[tuple[str, dict[str, Any]]] = []
        self.count = 0
        self.writer = DiskWriter()
        self.outbox = Outbox(folder, 2**20, self.writer, self._tell)
        address = parse_url(url, "publish")
        self._publisher = Publisher(address, secrets or Secrets(), self.outbox, self._tell, keepalive_s, **more)
        self._publisher.start()

    def __enter__(self) -> Sender:
        return self

    def __exit__(self, *_: object) -> None:
        self._publisher.stop(2.0)
        self.outbox.close()
        self.writer.flush()

    @property
    def delivered(self) -> int:
        return self._publisher.delivered

    def put(self, count: int) -> None:
        for _ in range(count):
            self.count += 1
            self.outbox.append({"event": "test", "id": self.count})

    def reasons(self) -> list[str]:
        return [fields["reason"] for kind, fields in list(self.told) if kind == "sink_waiting"]

    def wait_for(self, kind: str) -> dict[str, Any]:
        eventually(lambda: any(kind == found for found, _ in list(self.told)), kind)
        return next(fields for found, fields in self.told if found == kind)

    def _tell(self, kind: str, words: str, fields: dict[str, Any]) -> None:
        assert words.isprintable()
        self.told.append((kind, fields))


def ids(consumer: Consumer) -> list[int]:
    """What the consumer has, in order, each once."""
    return list(dict.fromkeys(event["id"] for event in consumer.events()))


def has(consumer: Consumer, count: int) -> Callable[[], bool]:
    """Whether so many different events have come."""
    return lambda: len(ids(consumer)) == count


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("mqtt://joe:hunter2@host/topic", "no password in the URL"),
        ("mqtt://joe:hunter2/x@host/topic", "write mqtt"),
        ("http://hunter2/topic", "write mqtt"),
        ("mqtt://hunter2", "write mqtt"),
        ("mqtt://hunter2/", "write mqtt"),
        ("mqtt://hunter2:99999/x", "write mqtt"),
        ("mqtt://host/a/+/b", "no + or #"),
        ("mqtt://host/a\0", "is no topic"),
    ],
)
def test_a_url_that_is_none_is_refused_without_repeating_a_password(url: str, says: str) -> None:
    with pytest.raises(UsageError) as error:
        parse_url(url, "publish")
    assert says in str(error.value) and "hunter2" not in str(error.value) and str(error.value).isprintable()


def test_urls() -> None:
    plain = parse_url("mqtt://broker/plant/+/x/#", "mqtt")
    assert (plain.host, plain.port, plain.user, plain.tls, plain.topic) == ("broker", 1883, "", False, "plant/+/x/#")
    full = parse_url("mqtts://joe%40site@[::1]:88/a b@c:d", "mqtt")
    assert (full.host, full.port, full.user, full.tls, full.topic) == ("::1", 88, "joe@site", True, "a b@c:d")
    for wrong in ("a/#/b", "a+/b", "#a"):
        with pytest.raises(UsageError, match="is no topic"):
            check_topic(wrong, "mqtt", filter=True)


def test_one_sensor_a_topic_is_aligned_by_time() -> None:
    reader = MessageReader(step_manifest(2, 1), {"s1": "pump"}, "x")
    rows: list[Row] = []
    for at in range(4):
        rows += reader.message("plant/s0", b'{"value": %d, "time": %.1f}' % (at, 1e9 + at + 0.2))
        if at != 2:
            rows += reader.message("plant/pump", b'{"ts": "2001-09-09T01:46:4%d.300Z", "value": "1%d"}' % (at, at))
    assert [row.values.tolist() for row in rows[:2]] == [[0, 10], [1, 11]] and rows[0].time == 1e9 + 0.2
    assert rows[2].values[0] == 2 and np.isnan(rows[2].values[1])
    for bad in (b"hello", b"{", b"\xff", b"1_0", b'{"value": []}', b'{"value": {"other": 1}}'):
        assert reader.message("plant/s0", bad) == []
    assert reader.bad == 6 and reader.last_bad.isprintable()
    assert reader.message("plant/s0", b"pump,s0\n4,3")[0].values.tolist() == [3, 4]
    assert reader.message("plant/s0", b'{"s0": 5, "pump": 6}')[0].values.tolist() == [5, 6]


def fed(
    n: int, messages: Sequence[tuple[str, str | bytes]], columns: dict[str, str] | None = None
) -> tuple[list[Any], MessageReader]:
    """Samples' values, and names of events; n sensors s0, s1, …"""
    reader = MessageReader(step_manifest(n, 1), columns or {}, "x")
    items: list[Row | InputEvent] = []
    for topic, payload in messages:
        items += reader.message(topic, payload.encode() if isinstance(payload, str) else payload)
    items += reader.end()
    return [item.values.tolist() if isinstance(item, Row) else item.event for item in items], reader


@pytest.mark.parametrize(
    ("columns", "topics"),
    [
        ({}, ("pump1/s0/state", "pump1/s1/state")),
        ({}, ("s0/pump1/state", "s1/pump1/state")),
        ({"s0": "pump1/t/state", "s1": "pump1/p/state"}, ("pump1/t/state", "pump1/p/state")),
        ({"s0": "t/state", "s1": "p"}, ("site/pump1/t/state", "site/pump1/p/state")),
        ({"s0": "state/t", "s1": "s0/state"}, ("state/t", "s0/state")),
    ],
)
def test_parts_of_a_topic_are_names(columns: dict[str, str], topics: tuple[str, str]) -> None:
    payloads = ("21.3", '{"value": "3.5", "unit": "bar"}', "null\r\n", "4")
    got, reader = fed(2, [(topics[i % 2], payload) for i, payload in enumerate(payloads)], columns)
    assert np.allclose(got, [[21.3, 3.5], [np.nan, 4]], equal_nan=True) and reader.bad == 0


def test_devices_that_send_partial_messages_are_merged_and_those_with_the_same_key_told_apart_by_topic() -> None:
    keys = ("temperature", "humidity", "temperature")
    rounds = [
        (f"zigbee2mqtt/{device}", json.dumps({key: 10 * i + k, "battery": 97}))
        for k in range(5)
        for i, (device, key) in enumerate(zip(("boiler", "room", "v1.0/tank"), keys))
    ]
    columns = {"s0": "zigbee2mqtt/boiler.temperature", "s1": "humidity", "s2": "tank.temperature"}
    got, reader = fed(3, rounds, columns)
    assert got == ["merging", *([k, 10 + k, 20 + k] for k in range(5))] and reader.bad == 0
    got, reader = fed(2, rounds, {"s0": "temperature", "s1": "humidity"})
    assert got == ["merging", [0, 10], "machine_left_out", *([k, 10 + k] for k in range(1, 5))] and reader.bad == 5
    assert "zigbee2mqtt/boiler and zigbee2mqtt/v1.0/tank" in reader.last_bad
    assert "--map 's0=zigbee2mqtt/boiler.temperature'" in reader.last_bad


@pytest.mark.parametrize("first", range(4))
def test_of_several_machines_one_is_read_and_the_others_said(first: int) -> None:
    messages = [(f"{pump}/s{i}", str(k + 100 * (pump == "b"))) for k in range(9) for pump in "ab" for i in range(2)]
    got, reader = fed(2, messages[first:])
    samples = [item for item in got if item != "machine_left_out"][1:]  # the first may come before the other speaks
    assert len(samples) >= 7 and np.ptp(np.nanmax(samples, axis=0)) == 0 and np.nanmax(np.ptp(samples, axis=0)) <= 8
    assert got.count("machine_left_out") == 1 and 15 <= reader.bad <= 18
    assert "comes from" in reader.last_bad and "subscribe to one machine" in reader.last_bad
    whole, reader = fed(2, [(pump, f"{k},{k}") for k in range(3) for pump in "ab"])
    assert whole == [[0, 0], "machine_left_out", [1, 1], [2, 2]] and reader.bad == 3


def test_a_binary_payload_is_one_bad_message_shown_in_hex() -> None:
    for payload in (bytes(range(256)) * 9, b"\x08\x01\n\n\n\n", "1,2\n3,4\n".encode("utf-16")):
        got, reader = fed(2, [("plant/all", payload), ("plant/s0", payload)])
        assert got == [] and reader.bad == 2 and payload[:6].hex(" ") in reader.last_bad
        assert len(reader.last_bad) < 100 and "plant/s0" in reader.last_bad


def test_a_time_of_another_name_and_another_rate_than_the_models() -> None:
    rows: dict[str, list[Any]] = {"whole": [], "single": []}
    for kind, found in rows.items():
        reader = MessageReader(step_manifest(2, 1), {}, "x", Layout(time=("Measured",), resample="mean"))
        for at in range(9):  # four a second
            time_ = f'"Measured": {1e9 + at / 4}, "time": 1'
            if kind == "whole":
                found += reader.message("plant/all", f'{{"s0": {at}, "s1": {10 + at}, {time_}}}'.encode())
                continue
            for i in range(2):
                found += reader.message(f"plant/s{i}", f'{{"value": {10 * i + at}, {time_}}}'.encode())
        assert reader.bad == 0
    for found in rows.values():
        assert [row.values.tolist() for row in found] == [[1.5, 11.5], [5.5, 15.5]]


@needs_broker
def test_resampled_messages_give_the_scores_of_the_resampled_file(recording: Path, broker: Broker) -> None:
    header, *lines = (recording / "x.csv").read_text().splitlines()
    names = ["at", *header.split(",")]
    rows = [dict(zip(names, [1e9 + i / 2, *map(float, line.split(","))])) for i, line in enumerate(lines)]
    (recording / "fast.csv").write_text("\n".join([",".join(names), *(",".join(map(str, r.values())) for r in rows)]))
    arguments = ("--model", recording / "m.onnx", "--time", "at", "--resample", "mean", "--scores")
    want = events_of(run(*arguments, "--csv", recording / "fast.csv").stdout, "score")
    url = f"mqtt://127.0.0.1:{broker.port}/plant"
    with Consumer(broker.port) as sender, Gateway(*arguments, "--mqtt", url) as device:
        device.wait_for("input_open")
        for row in rows:
            sender.publish("plant", json.dumps(row))
        device.wait_for(lambda event: event.get("sample") == want[-2]["sample"])
        assert device.end(signal.SIGTERM) == 0
    assert [(e["sample"], e["score"]) for e in device.scores()] == [(e["sample"], e["score"]) for e in want[:-1]]


def test_values_without_a_time_go_by_the_clock() -> None:
    reader = MessageReader(step_manifest(2, 1, period_s=1.0), {}, "x")
    rows = [*reader.message("a/s0", b"1"), *reader.message("a/s1", b"null")]
    eventually(lambda: bool(rows.extend(reader.feed(b"")) or rows), "a sample")
    assert rows[0].values[0] == 1 and np.isnan(rows[0].values[1]) and rows[0].time is None
    time.sleep(1.2)
    assert reader.feed(b"") == []  # silence is no sample


@needs_broker
def test_samples_from_a_topic_give_the_scores_of_the_file(recording: Path, broker: Broker) -> None:
    want = events_of((recording / "whole").read_text(), "score")
    header, *lines = (recording / "x.csv").read_text().splitlines()
    names = header.split(",")
    url = f"mqtt://127.0.0.1:{broker.port}/plant"
    with Consumer(broker.port) as consumer:

        def published() -> list[int]:
            return [event["sample"] for event in consumer.events() if event["event"] == "score"]

        def statuses() -> list[str]:
            told = [payload for topic, payload in consumer.messages if topic == "alerts/status"]
            return [json.loads(payload)["status"] for payload in told]

        consumer.publish("plant", "9,9,9", retain=True)  # what once was
        arguments = ("--model", recording / "m.onnx", "--mqtt", url, "--publish", "alerts", "--scores")
        with Gateway(*arguments, "--outbox", recording / "outbox") as device:
            device.wait_for("input_open")
            for i, line in enumerate(lines[:100]):
                values = line.split(",")
                payload = [line, f"{header}\n{line}\n", json.dumps(dict(zip(names, values))), f"[{line}]"][i % 4]
                consumer.publish("plant", payload)
            device.wait_for(lambda event: event.get("sample") == 99)
            eventually(lambda: len(published()) == 25, "that its scores are published")
            assert device.end(signal.SIGTERM) == 0
        for line in lines[100:200]:
            consumer.publish("plant", line)  # nobody is there: the broker keeps them
        with Gateway(*arguments, "--outbox", recording / "another") as second:
            second.wait_for("input_open")
            consumer.publish("plant", "\n".join(lines[200:]))
            second.wait_for(lambda event: event["event"] == "score" and event["sample"] == COUNT - 1 - 100)
            eventually(lambda: len(published()) == 60, "that its scores are published")
            assert second.end(signal.SIGTERM) == 0
        assert device.scores() == want[:25]
        assert len(second.scores()) == 35  # all that was queued and all that came
        eventually(lambda: len(statuses()) == 4, "the last farewell")
        assert statuses() == ["online", "offline"] * 2
        assert published()[:25] == [event["sample"] for event in want[:25]] and len(published()) == 60


@needs_broker
def test_a_sensor_a_topic_gives_the_scores_of_the_file_and_a_second_machine_is_said(
    recording: Path, broker: Broker
) -> None:
    want = events_of((recording / "whole").read_text(), "score")
    header, *lines = (recording / "x.csv").read_text().splitlines()
    url = f"mqtt://127.0.0.1:{broker.port}/+/+/state"
    arguments = ("--model", recording / "m.onnx", "--mqtt", url, "--scores")
    with Consumer(broker.port) as sender, Gateway(*arguments) as device:
        device.wait_for("input_open")
        for line in lines:
            for name, value in zip(header.split(","), line.split(",")):
                sender.publish(f"pump1/{name}/state", value)
            sender.publish("pump2/s0/state", "-1000")
        device.wait_for(lambda event: event["event"] == "score" and event["sample"] == COUNT - 1)
        assert device.end(signal.SIGTERM) == 0
    assert device.scores() == want
    assert sum(event["event"] == "machine_left_out" for event in device.events) == 1


@needs_broker
def test_a_broker_that_is_stopped_and_started_gets_everything_in_order(tmp_path: Path, broker: Broker) -> None:
    url = f"mqtt://127.0.0.1:{broker.port}/alerts"
    with Consumer(broker.port, client_id="c", clean_session=False) as consumer:
        with Sender(tmp_path / "outbox", url) as out:
            out.put(10)
            eventually(has(consumer, 10), "delivery")
            for round_ in (1, 2):
                broker.stop()
                out.put(500)
                eventually(lambda n=round_: len(out.reasons()) >= n, "sink_waiting")  # type: ignore[misc]
                assert out.outbox.depth >= 500
                broker.start()
                eventually(has(consumer, 10 + 500 * round_), "delivery after return")
            assert out.wait_for("sink_back")["lost_s"] > 0
            eventually(lambda: out.outbox.depth == 0, "acknowledgements")
        assert ids(consumer) == list(range(1, 1011))
        assert "refused" in out.reasons()[-1] or "closed" in out.reasons()[-1]


@needs_broker
def test_a_network_that_stalls_cuts_and_refuses(tmp_path: Path, broker: Broker) -> None:
    network = Network(broker.port)
    with Consumer(broker.port) as consumer, Sender(tmp_path / "s", f"mqtt://127.0.0.1:{network.port}/alerts") as out:
        network.delay_s = 0.02
        for round_ in range(1, 4):
            out.put(100)
            time.sleep(0.1)
            network.cut()  # in the middle of it, acknowledgements under way
            eventually(has(consumer, 100 * round_), "delivery over a slow line that is cut")
        network.delay_s = 0.0
        network.stalled = True
        out.put(100)
        time.sleep(0.3)
        assert len(ids(consumer)) == 300
        network.stalled = False
        eventually(has(consumer, 400), "delivery after a stall")
        eventually(lambda: out.outbox.depth == 0, "acknowledgements")
        network.close()
        out.put(100)
        eventually(lambda: "refused" in out.reasons()[-1], "that it says why")
        network = Network(broker.port)
        assert out.outbox.depth == 100 and network.port
    with Consumer(broker.port) as consumer, Sender(tmp_path / "s", f"mqtt://127.0.0.1:{network.port}/alerts") as out:
        eventually(has(consumer, 100), "delivery after a restart with another address")
    assert ids(consumer) == list(range(401, 501))
    network.close()


@needs_broker
def test_a_connection_that_is_dead_without_a_word_is_found(tmp_path: Path, broker: Broker) -> None:
    network = Network(broker.port)
    url = f"mqtt://127.0.0.1:{network.port}/alerts"
    with Consumer(broker.port) as consumer, Sender(tmp_path / "s", url, keepalive_s=1) as out:
        out.put(1)
        eventually(has(consumer, 1), "delivery")
        network.stalled = True
        out.put(5)
        assert "does not answer any more" in out.wait_for("sink_waiting")["reason"]
        network.stalled = False
        eventually(has(consumer, 6), "delivery over a new connection")
    network.close()


@needs_broker
def test_the_status_tells_the_living_from_the_dead(recording: Path, tmp_path: Path, broker: Broker) -> None:
    url = f"mqtt://127.0.0.1:{broker.port}/alerts"
    arguments = ("--model", recording / "m.onnx", "--stdin", "--publish", url, "--outbox", tmp_path / "outbox")
    with Consumer(broker.port) as consumer, Gateway(*arguments, stdin=subprocess.PIPE) as device:
        eventually(lambda: bool(consumer.messages), "the status")
        device.process.kill()
        eventually(lambda: len(consumer.messages) == 2, "the last will")
        said = [json.loads(payload) for topic, payload in consumer.messages if topic == "alerts/status"]
        assert [status["status"] for status in said] == ["online", "offline"]
        assert said[1]["reason"] == "connection lost"
    with Consumer(broker.port) as late:
        eventually(lambda: bool(late.messages), "the retained status")


@needs_broker
def test_a_wrong_password_and_a_missing_one_are_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    passwords = tmp_path / "passwords"
    passwords.write_text("joe:hunter2\n")
    passwords.chmod(0o600)
    subprocess.run(["mosquitto_passwd", "-U", passwords], check=True)
    with Broker(tmp_path, "allow_anonymous false", f"password_file {passwords}") as broker:
        host = f"127.0.0.1:{broker.port}/alerts"
        right = tmp_path / "right"
        right.write_text("hunter2\n")
        for user, password, says in (("joe@", "wrong", "password of user 'joe'"), ("", "x", "wants a user name")):
            monkeypatch.setenv("EDGEKD_MQTT_PASSWORD", password)
            with Sender(tmp_path / f"s-{user}", f"mqtt://{user}{host}") as out:
                out.put(1)
                assert says in out.wait_for("sink_waiting")["reason"]
        monkeypatch.delenv("EDGEKD_MQTT_PASSWORD")
        with Sender(tmp_path / "s-joe@", f"mqtt://joe@{host}") as out:
            assert "EDGEKD_MQTT_PASSWORD" in out.wait_for("sink_waiting")["reason"]
        with Sender(tmp_path / "s-joe@", f"mqtt://joe@{host}", Secrets(password_file=str(right))) as out:
            eventually(lambda: out.outbox.depth == 0, "delivery of what was kept")
        assert not any("hunter2" in str(told) for told in out.told)


def certificate(folder: Path, name: str, host: str, ca: str = "") -> None:
    """NAME.pem and NAME.key for a host, self-signed or by CA.pem."""
    signer = ["-CA", f"{ca}.pem", "-CAkey", f"{ca}.key"] if ca else []
    made = [
        "-subj",
        f"/CN={name}",
        "-addext",
        f"subjectAltName={host}",
        "-keyout",
        f"{name}.key",
        "-out",
        f"{name}.pem",
    ]
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", *made, *signer]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)


@needs_broker
def test_tls_checks_who_the_broker_is(tmp_path: Path) -> None:
    certificate(tmp_path, "ca", "DNS:ca")
    certificate(tmp_path, "other", "DNS:other")
    certificate(tmp_path, "right", "IP:127.0.0.1", "ca")
    certificate(tmp_path, "elsewhere", "DNS:elsewhere.example", "ca")
    certificate(tmp_path, "me", "DNS:me", "ca")

    def listening_as(name: str, *more: str) -> Broker:
        files = [f"cafile {tmp_path}/ca.pem", f"certfile {tmp_path}/{name}.pem", f"keyfile {tmp_path}/{name}.key"]
        return Broker(tmp_path, "allow_anonymous true", *files, *more)

    def pem(name: str) -> str:
        return str(tmp_path / name)

    ca = Secrets(ca=pem("ca.pem"))
    with listening_as("right") as broker, listening_as("elsewhere") as liar:
        for port, secrets, says in (
            (broker.port, Secrets(), "mqtt-ca"),
            (broker.port, Secrets(ca=pem("other.pem")), "certificate is not valid"),
            (liar.port, ca, "mismatch"),
        ):
            with Sender(tmp_path / "s", f"mqtts://127.0.0.1:{port}/alerts", secrets) as out:
                out.put(1)
                assert says in out.wait_for("sink_waiting")["reason"]
        with Sender(tmp_path / "s", f"mqtt://127.0.0.1:{broker.port}/alerts") as out:
            assert "write mqtts://" in out.wait_for("sink_waiting")["reason"]
        with Sender(tmp_path / "s", f"mqtts://127.0.0.1:{broker.port}/alerts", ca) as out:
            eventually(lambda: out.outbox.depth == 0, "delivery of what was kept")
            out.put(200)
            eventually(lambda: out.outbox.depth == 0, "delivery")
            assert out.told == []
    with listening_as("right", "require_certificate true") as strict:
        url = f"mqtts://127.0.0.1:{strict.port}/alerts"
        with Sender(tmp_path / "s", url, ca) as out:
            out.put(1)
            reason = out.wait_for("sink_waiting")["reason"]
            # the broker's word and its hanging up race each other
            assert "certificate required" in reason or "it may ask for a certificate" in reason
        mine = Secrets(ca=pem("ca.pem"), cert=pem("me.pem"), key=pem("me.key"))
        with Sender(tmp_path / "s", url, mine) as out:
            eventually(lambda: out.outbox.depth == 0, "delivery with a certificate")
    for wrong in (Secrets(ca=pem("none.pem")), Secrets(cert=pem("ca.key")), Secrets(key=pem("me.key"))):
        with pytest.raises(UsageError, match="mqtt-"):
            wrong.context()


def test_a_broker_that_is_not_there_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def resolve(host: str, *rest: Any, **options: Any) -> Any:  # a name server that is far away may take a minute
        if host.endswith(".invalid"):
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return real(host, *rest, **options)

    real = socket.getaddrinfo
    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    for host, says in ((f"127.0.0.1:{free_port()}", "refused"), ("no.such.host.invalid", "not found")):
        with Sender(tmp_path / "s", f"mqtt://{host}/alerts") as out:
            assert says in out.wait_for("sink_waiting")["reason"]


@needs_broker
def test_a_subscription_that_is_lost_is_taken_up_again(tmp_path: Path, broker: Broker) -> None:
    network = Network(broker.port)
    url = f"mqtt://127.0.0.1:{network.port}/plant"
    source = MqttMessages(parse_url(url, "mqtt"), Secrets(client_id="gateway"), step_manifest(1, 1), {})
    found: list[Row | InputEvent] = []
    done = threading.Event()

    def read() -> None:
        for items in source:
            found.extend(items)
            if done.is_set():
                return

    def told(event: str) -> int:
        return sum(isinstance(item, InputEvent) and item.event == event for item in list(found))

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    eventually(lambda: bool(found), "the subscription")
    with Consumer(broker.port) as consumer:
        for i in range(300):
            consumer.publish("plant", str(i))
            if i % 100 == 50:
                network.cut()
                eventually(lambda cuts=i // 100 + 1: told("input_back") == cuts, "the subscription again")
        eventually(lambda: sum(isinstance(item, Row) for item in found) >= 300, "all samples")
    done.set()
    reader.join(10)
    network.close()
    assert [item.values[0] for item in found if isinstance(item, Row)] == list(range(300))  # each once, in order
    kinds = [item.event for item in found if isinstance(item, InputEvent) and item.event != "input_waiting"]
    assert kinds == ["input_open", *["input_lost", "input_back"] * 3]
