"""Maintenance: alarms are held back for a span, told at its start and end, and what lasts is told late, not never."""

from __future__ import annotations

import signal
import subprocess
import time
from pathlib import Path

import pytest
from broker import Broker, Consumer, needs_broker
from device import eventually
from gateway_device import Gateway
from step_models import ranges, step_file

from edgekd.runtime.gateway.mute import LONGEST_S, end_of

N, HOP = 3, 4
LOW, HIGH, FILL = ranges(N)


class Line(Gateway):
    """A gateway on a pipe whose alarms we make."""

    def __init__(self, folder: Path, *more: object) -> None:
        if not (folder / "m.onnx").exists():
            step_file(folder / "m.onnx", N, HOP, threshold=0.5)
        keys = ("--model", folder / "m.onnx", "--stdin", "--scores", "--cooldown", "0s", "--state", folder / "state")
        super().__init__(*keys, "--state-every", 0, *more, stdin=subprocess.PIPE)
        self.sent = 0

    def feed(self, hops: int, high: bool) -> None:
        """Normal hops, or such that are far from it, and their scores."""
        assert self.process.stdin
        row = ",".join(str(value) for value in (FILL + (HIGH - LOW) * (5.0 if high else 0.0)))
        self.process.stdin.write(f"{row}\n" * HOP * hops)
        self.process.stdin.flush()
        self.sent += hops
        eventually(lambda: len(self.scores()) >= self.sent, "the score")

    def alarm(self) -> None:
        """One that is over at once."""
        self.feed(1, high=True)
        self.feed(60, high=False)

    def told(self, *kinds: str) -> list[str]:
        return [event["event"] for event in self.events if event["event"] in kinds]


def test_a_span_in_a_file_holds_alarms_back_and_says_how_many(tmp_path: Path) -> None:
    with Line(tmp_path) as line:
        line.feed(2, high=True)  # one that is open already
        (tmp_path / "state.mute").write_text("1h\n")
        begun = line.wait_for("mute_begin")
        assert 3500 < begun["duration_s"] <= 3600 and begun["until"].endswith("+00:00")
        line.feed(60, high=False)
        line.alarm()
        line.alarm()
        line.feed(1, high=True)  # and lasts
        assert line.told("anomaly", "anomaly_end") == ["anomaly", "anomaly_end"]  # that of before
        assert sum(score["anomaly"] for score in line.scores()) >= 4  # scored as ever
        lasting = line.scores()[-1]["sample"]
        (tmp_path / "state.mute").unlink()
        ended = line.wait_for("mute_end")
        assert (ended["held"], ended["open"]) == (3, 1)
        assert line.wait_for("anomaly")["sample"] == lasting
        line.feed(60, high=False)
        line.alarm()
        assert line.told("anomaly", "anomaly_end") == ["anomaly", "anomaly_end"] * 3


def test_a_mute_outlives_a_kill_and_ends_by_itself(tmp_path: Path) -> None:
    with Line(tmp_path) as line:
        (tmp_path / "state.mute").write_text("10s")
        line.wait_for("mute_begin")
        line.alarm()
        line.feed(1, high=True)
        eventually(lambda: b'"held": 2' in (tmp_path / "state").read_bytes(), "the state")
        line.process.kill()
        line.process.wait()
    with Line(tmp_path) as line:
        line.feed(1, high=True)  # the first alarms of this run are held back, too
        assert not line.told("anomaly")
        ended = line.wait_for("mute_end")
        assert ended["held"] == 2 and ended["open"] == 1
        assert line.wait_for("anomaly")
        line.feed(1, high=False)
        assert line.end(signal.SIGTERM) == 0
    with Line(tmp_path) as line:  # the file is still there, and over
        line.alarm()
        time.sleep(1.2)
        assert not line.told("mute_begin", "mute_end")


def test_a_mute_that_ended_while_nobody_ran_is_told(tmp_path: Path) -> None:
    with Line(tmp_path) as line:
        (tmp_path / "state.mute").write_text("1h")
        line.wait_for("mute_begin")
        line.alarm()
        assert line.end(signal.SIGTERM) == 0
    (tmp_path / "state.mute").unlink()
    with Line(tmp_path) as line:
        line.feed(1, high=False)
        assert line.wait_for("mute_end")["held"] == 1
        assert not line.told("mute_begin")


def test_no_span_is_one_line_and_mutes_nothing(tmp_path: Path) -> None:
    with Line(tmp_path) as line:
        (tmp_path / "state.mute").write_bytes(b"\xff\x00soon\n" * 3)
        assert "write a span such as 2h" in line.wait_for("mute_refused")["reason"]
        line.alarm()
        assert line.told("anomaly", "mute_begin") == ["anomaly"]


@pytest.mark.parametrize(
    ("text", "left_s"),
    [("2h", 7200), ("90 s", 90), ("45", 45), ("30d", LONGEST_S), ("2001-09-09T02:46:40Z", 3600 - 600), ("0s", -600)],
)
def test_a_span_counts_from_when_it_was_written_and_has_a_bound(text: str, left_s: float) -> None:
    now = 1e9 + 600.0  # 2001-09-09T01:56:40Z
    end, problem = end_of(text.encode(), now if left_s > 0 else now - 600, now)
    assert not problem and end - now == left_s


def test_a_span_that_was_written_before_the_clock_was_set_is_no_longer_than_it_says() -> None:
    assert end_of(b"2h", 2e9, 1e9) == (1e9 + 7200, "")


def test_a_span_that_cannot_be_read_is_told_and_read_once_it_can(tmp_path: Path) -> None:
    mute = tmp_path / "state.mute"
    mute.symlink_to(mute)
    with Line(tmp_path) as line:
        assert line.wait_for("mute_refused")["reason"].startswith("it cannot be read: ")
        mute.unlink()
        mute.write_text("1h")
        line.wait_for("mute_begin")
        assert line.told("mute_refused") == ["mute_refused"]


@pytest.mark.parametrize("text", ["", "soon", "-1h", "inf", "nan", "9" * 99, "2001-13-01T00:00", "1h1h"])
def test_what_is_no_span_mutes_nothing(text: str) -> None:
    assert end_of(text.encode(), 1e9, 1e9)[1] or end_of(text.encode(), 1e9, 1e9)[0] <= 1e9 + LONGEST_S


@needs_broker
def test_a_span_comes_over_mqtt_and_keeps_alarms_from_the_broker(tmp_path: Path) -> None:
    pytest.importorskip("paho.mqtt.client")
    with Broker(tmp_path) as broker, Consumer(broker.port) as consumer:
        url = f"mqtt://127.0.0.1:{broker.port}"
        consumer.publish("plant/mute", "1h", retain=True)  # it would begin anew at every connection
        with Line(tmp_path, "--publish", f"{url}/alerts", "--control", f"{url}/plant") as line:
            line.wait_for("control_open")
            line.alarm()
            eventually(lambda: "anomaly" in [e["event"] for e in consumer.events()], "the alarm")
            consumer.publish("plant/mute", "2h")
            assert line.wait_for("mute_begin")["duration_s"] > 7000
            line.alarm()
            consumer.publish("plant/mute", "0s")
            assert line.wait_for("mute_end")["held"] == 1
            eventually(lambda: bool([e for e in consumer.events() if e["event"] == "mute_end"]), "its end")
            assert [e["event"] for e in consumer.events() if e["event"] == "anomaly"] == ["anomaly"]
