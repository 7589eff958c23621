"""Where events go: to files that rotate, commands that fail, readers that stall; and how they are named."""

from __future__ import annotations

import itertools
import json
import os
import resource
import select
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from broker import eventually, free_port
from device import COMMAND, PATIENCE_S, ROOT, Device, Port, events_of, run
from step_models import step_file

from edgekd.runtime.disk_writer import DiskWriter
from edgekd.runtime.gateway.outbox import Spool
from edgekd.runtime.gateway.segments import load_acked
from edgekd.runtime.gateway.sinks.event_file import EventFile
from edgekd.runtime.gateway.sinks.exec import Command
from edgekd.runtime.gateway.sinks.fan_out import EventIds
from edgekd.runtime.sinks import live_lines
from edgekd.runtime.sinks.live_lines import LiveLines

N, COUNT = 3, 160
TAKES = "import sys; open(sys.argv[1], 'a').write(sys.stdin.read()); "


def lines(path: Path) -> list[dict[str, Any]]:
    """The whole lines of a file that may be written at this moment."""
    text = path.read_text() if path.exists() else ""
    return [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]


def shell_words(code: str, *arguments: object) -> str:
    """A command for --exec that runs Python code."""
    return f'{sys.executable} -c "{code}" {" ".join(map(str, arguments))}'


def test_every_sink_gets_every_event_and_the_network_ones_a_name(folder: Path, tmp_path: Path) -> None:
    got = tmp_path / "got"
    done = run(
        *("--model", folder / "m.onnx", "--csv", folder / "x.csv", "--events", tmp_path / "events.jsonl"),
        *("--exec", shell_words(TAKES, got, "; touch", tmp_path / "no"), "--spool", tmp_path / "spool"),
    )
    assert done.returncode == 0, done.stderr
    told, kept, executed = events_of(done.stdout), lines(tmp_path / "events.jsonl"), lines(got)
    assert len(told) > 5 and "id" not in told[0]
    assert [{k: v for k, v in event.items() if k != "id"} for event in kept] == told
    assert [event["id"] for event in executed] == [event["id"] for event in kept]
    assert [event["seq"] for event in executed] == list(range(1, len(told) + 1))
    assert not (tmp_path / "no").exists()  # there is no shell


def test_events_of_the_same_samples_have_the_same_names() -> None:
    events = [
        {"event": "sensor_missing", "sample": 7, "sensor": "a"},
        {"event": "sensor_missing", "sample": 7, "sensor": "b"},
        {"event": "anomaly", "sample": 7},
        {"event": "resumed", "sample": 7},
        {"event": "bad_lines", "count": 1},
        {"event": "anomaly_end", "sample": 11},
    ]
    first, again = ([ids.name(event, "s") for event in events] for ids in (EventIds(), EventIds()))
    assert first[:3] == again[:3] == ["s-7-sensor_missing", "s-7-sensor_missing-2", "s-7-anomaly"]
    assert first[5] == again[5] == "s-11-anomaly_end"
    assert len({*first, *again}) == 4 + 2 * 2  # what happens to a run happens once


def test_an_event_file_rotates_and_mends_a_torn_line(tmp_path: Path) -> None:
    path, writer = tmp_path / "e.jsonl", DiskWriter()
    path.write_text('{"event": "old"}\n{"event": "torn')
    sink = EventFile(path, 4000, 3, writer, lambda *_: None)
    for number in range(1000):
        sink.emit({"event": "test", "number": number})
        if number % 40 == 0 or number == 500:
            writer.flush()
        if number == 500:  # the writer rests: in the midst of a rotation there is no file of that name
            path.rename(tmp_path / "moved")  # by somebody else
    writer.flush()
    files = [tmp_path / f"e.jsonl{suffix}" for suffix in (".3", ".2", ".1", "")]
    assert sorted(tmp_path.iterdir()) == sorted([*files, tmp_path / "moved"])
    assert all(3900 < file.stat().st_size <= 4000 for file in files[:3])
    numbers = [event["number"] for file in files for event in lines(file)]
    assert numbers == list(range(1000 - len(numbers), 1000)) and sink.dropped == 0


def test_a_writer_that_is_done_before_it_was_asked_is_asked_again(tmp_path: Path) -> None:
    """Threads change when they like: what was submitted may be done before `submit` returns."""

    class AtOnce(DiskWriter):
        def submit(self, job: Callable[[], None], within_s: float = 0.0) -> bool:
            job()
            return True

    sink = EventFile(tmp_path / "e.jsonl", 10**9, 3, AtOnce(), lambda *_: None)
    spool = Spool(tmp_path / "spool", 2**20, AtOnce(), lambda *_: None)
    cursor = spool.cursor("sink", lambda: None)
    for number in (1, 2):
        sink.emit({"event": "test", "number": number})
        spool.append({"event": "test"})
        cursor.ack(cursor.read(1)[0].seq)
        assert len(lines(tmp_path / "e.jsonl")) == load_acked(tmp_path / "spool" / "sink.acked") == number
    spool.close()


def test_an_event_file_on_a_full_disk_is_told_once_and_goes_on_later(tmp_path: Path) -> None:
    path, writer, told = tmp_path / "e.jsonl", DiskWriter(), list[str]()
    sink = EventFile(path, 10**9, 3, writer, lambda kind, *_: told.append(kind))
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN), resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1][1]))
        for number in range(100):
            sink.emit({"event": "test", "number": number})
            sink.tick()
            writer.flush()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before[1])
        signal.signal(signal.SIGXFSZ, before[0])
    assert told == ["events_not_written"] and path.read_bytes().endswith(b"\n")
    sink.tick()
    writer.flush()
    assert told[1:] == ["events_written_again"]
    assert [event["number"] for event in lines(path)] == list(range(100))


def read_to(fd: int, last: bytes) -> list[dict[str, Any]]:
    """What comes out of a pipe, up to a line that ends so."""
    data = b""
    while not data.endswith(last):
        assert select.select([fd], [], [], PATIENCE_S)[0], "nothing more comes"
        data += os.read(fd, 65536)
    return [json.loads(line) for line in data.splitlines()]


def test_a_reader_that_stalls_loses_the_oldest_and_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_lines, "MAX_QUEUED_BYTES", 20_000)
    end, fd = os.pipe()
    sink = LiveLines(fd)
    for number in range(10_000):
        sink.emit({"event": "test", "number": number})
    found = read_to(end, b'"number": 9999}\n')
    numbers = [event["number"] for event in found if event["event"] == "test"]
    gaps = [event["count"] for event in found if event["event"] == "lines_dropped"]
    assert numbers == sorted(numbers) and numbers[-1] == 9999
    assert sum(gaps) == sink.dropped == 10_000 - len(numbers) > 1000
    sink.emit({"event": "test", "number": 0})
    os.close(end)
    eventually(lambda: raises(BrokenPipeError, lambda: sink.emit({"event": "test"})), "the end of the reader")


def test_a_source_that_can_wait_waits_for_a_reader_that_is_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_lines, "MAX_QUEUED_BYTES", 20_000)
    end, fd = os.pipe()
    sink = LiveLines(fd, patience_s=20)
    reader = subprocess.Popen(["wc", "-l"], stdin=end, stdout=subprocess.PIPE)
    os.close(end)
    for number in range(10_000):
        sink.emit({"event": "test", "number": number})
    sink.close(20)
    os.close(fd)
    assert sink.dropped == 0 and reader.communicate()[0].strip() == b"10000"


def raises(kind: type[Exception], call: Callable[[], object]) -> bool:
    try:
        call()
    except kind:
        return True
    return False


def test_a_reader_of_standard_output_that_stalls_does_not_stop_detection(folder: Path, tmp_path: Path) -> None:
    pytest.importorskip("serial")
    step_file(tmp_path / "m.onnx", N, 1, threshold=0.15)  # a score a sample
    port, kept = Port(tmp_path / "tty"), tmp_path / "events.jsonl"
    arguments = ("--model", tmp_path / "m.onnx", "--serial", tmp_path / "tty", "--scores", "--events", kept)
    command = [*COMMAND, *map(str, arguments), "--quiet"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as process:
        eventually(lambda: bool(lines(kept)), "the start")
        row, count = b"1.0,2.0,3.0\n", 3000
        port.write(row * (count + 1))  # 200 KB of scores; a pipe holds 64
        eventually(lambda: sum(event["event"] == "score" for event in lines(kept)) == count, "all scores in the file")
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
    port.unplug()


def test_a_command_that_fails_is_tried_again_and_nothing_is_skipped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edgekd.runtime.gateway.sinks.exec.FIRST_WAIT_S", 0.05)
    monkeypatch.setenv("EDGEKD_MQTT_PASSWORD", "hunter2")
    flaky = (
        "import os, sys, time; n = len(open(sys.argv[1], 'a+').read()) + os.path.getsize(sys.argv[1]); "
        "open(sys.argv[1], 'a').write('x'); "
        "assert 'EDGEKD_MQTT_PASSWORD' not in os.environ; "
        "time.sleep(60) if n == 4 else None; sys.exit(3) if n % 3 == 0 else None; "
        "open(sys.argv[2], 'a').write(sys.stdin.read())"
    )
    told: list[tuple[str, dict[str, Any]]] = []
    writer = DiskWriter()
    spool = Spool(tmp_path / "spool", 2**20, writer, lambda kind, _, fields: told.append((kind, fields)))
    command = shell_words(flaky, tmp_path / "tries", tmp_path / "got")
    sink = Command(command, 10.0, 60.0, spool, lambda kind, _, fields: told.append((kind, fields)))
    sink.start()
    for number in range(8):
        spool.append({"event": "test", "number": number})
    eventually(lambda: len(lines(tmp_path / "got")) == 8, "every event")
    eventually(lambda: spool.depth == 0, "that it is acknowledged")
    sink.stop(1.0)
    spool.close()
    assert [event["number"] for event in lines(tmp_path / "got")] == list(range(8))
    reasons = {fields["reason"] for kind, fields in told if kind == "sink_waiting"}
    assert reasons == {"exit code 3", "it takes longer than 10 s"}
    assert [kind for kind, _ in told].count("sink_back") >= 2


def test_an_event_that_a_command_never_takes_holds_up_the_others_for_a_bounded_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edgekd.runtime.gateway.sinks.exec.FIRST_WAIT_S", 0.05)
    poisoned = (
        "import sys; line = sys.stdin.read(); open(sys.argv[1], 'a').write(line); "
        "sys.exit(3) if 'poison' in line else open(sys.argv[2], 'a').write(line)"
    )
    told: list[tuple[str, dict[str, Any]]] = []
    spool = Spool(tmp_path / "spool", 2**20, DiskWriter(), lambda *_: None)
    command = shell_words(poisoned, tmp_path / "tries", tmp_path / "got")
    sink = Command(command, 30.0, 3.0, spool, lambda kind, _, fields: told.append((kind, fields)))
    sink.start()
    for number in range(8):
        spool.append({"event": "poison" if number in (2, 5) else "test", "number": number})
    eventually(lambda: spool.depth == 0, "the last one")
    sink.stop(1.0)
    spool.close()
    assert [event["number"] for event in lines(tmp_path / "got")] == [0, 1, 3, 4, 6, 7] and sink.dropped == 2
    tries = [event["number"] for event in lines(tmp_path / "tries")]
    assert tries == sorted(tries) and 2 <= tries.count(2) < 10 and tries.count(7) == 1
    assert [fields for kind, fields in told if kind == "exec_dropped"] == [{"count": 1, "total": 1}]  # once a minute


def test_a_sink_that_is_stopped_before_it_has_begun_never_begins(tmp_path: Path) -> None:
    """As where a run ends while SIGHUP exchanges its sinks."""
    spool = Spool(tmp_path / "spool", 2**20, DiskWriter(), lambda *_: None)
    sink = Command(f"touch {tmp_path / 'ran'}", 30.0, 3.0, spool, lambda *_: None)
    sink.stop(0.1)
    sink.start()
    spool.append({"event": "test"})
    sink.stop(PATIENCE_S)
    assert spool.depth == 0  # nobody keeps an event for it
    spool.close()
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--exec", "no-such-command-here"], "no such command"),
        (["--exec", "'unbalanced"], "--exec"),
        (["--publish", "alerts"], "on which broker?"),
        (["--publish", "mqtt://a:b@c/d"], "no password in the URL"),
        (["--publish", "mqtt://c/d", "--mqtt-ca", "x.pem"], "go with mqtts://"),
        (["--publish", "mqtts://c/d", "--mqtt-ca", "x.pem"], "--mqtt-ca x.pem: cannot be read"),
        (["--publish", "mqtt://c/d", "--mqtt-password-file", "x"], "--mqtt-password-file x: No such file"),
    ],
)
def test_a_sink_that_cannot_work_is_refused_in_one_line(
    folder: Path, tmp_path: Path, arguments: list[str], says: str
) -> None:
    if "--publish" in arguments:
        pytest.importorskip("paho.mqtt.client")
    base = ("--model", folder / "m.onnx", "--csv", folder / "x.csv", "--spool", tmp_path / "spool")
    done = run(*base, *arguments)
    assert done.returncode == 2 and says in done.stderr and len(done.stderr.splitlines()) == 1


def test_sighup_exchanges_the_sinks(folder: Path, tmp_path: Path) -> None:
    file, got = tmp_path / "edgekd.toml", (tmp_path / "first", tmp_path / "second")
    rows = (folder / "x.csv").read_text()

    def settings(**sinks: object) -> None:
        file.write_text("".join(f"{name} = {json.dumps(str(value))}\n" for name, value in sinks.items()))

    def takes(place: Path) -> str:  # at once: a command that is killed after it has written is run again
        return f"sh -c 'cat >> \"$0\"' {place}"

    settings(exec=takes(got[0]), events=tmp_path / "e1")
    arguments = ("--model", folder / "m.onnx", "--config", file, "--stdin", "--spool", tmp_path / "spool")
    with Device(*arguments, stdin=subprocess.PIPE) as device:
        assert device.process.stdin
        for place, now in zip(got, ("e1", "e2")):
            device.process.stdin.write(rows)  # type: ignore[arg-type]
            device.process.stdin.flush()
            eventually(lambda place=place: len(lines(place)) > 5, "that the command has run")  # type: ignore[misc]
            eventually(lambda now=now: len(lines(tmp_path / now)) > 5, "events in the file")  # type: ignore[misc]
            settings(exec=takes(got[1]), events=tmp_path / "e2")
            device.process.send_signal(signal.SIGHUP)
            assert device.wait_for("reloaded")["needs_restart"] == []
        settings(exec="no-such-command-here")
        device.process.send_signal(signal.SIGHUP)
        assert "no such command" in device.wait_for("reload_failed")["reason"]
        assert device.end(signal.SIGTERM) == 0
    sequence = [event["seq"] for place in got for event in lines(place)]
    assert sequence == list(range(1, len(sequence) + 1))  # each once, none lost in between


def test_a_stop_with_the_broker_down_keeps_everything_for_the_next_start(folder: Path, tmp_path: Path) -> None:
    pytest.importorskip("paho.mqtt.client")
    url = f"mqtt://127.0.0.1:{free_port()}/alerts"
    arguments = ("--model", folder / "m.onnx", "--stdin", "--state", tmp_path / "state")
    with Device(*arguments, "--publish", url, stdin=subprocess.PIPE) as device:
        assert device.process.stdin
        device.process.stdin.write((folder / "x.csv").read_text())  # type: ignore[arg-type]
        device.process.stdin.flush()
        eventually(
            lambda: any(event.get("sample", 0) > COUNT - 20 for event in device.events), "the end of the samples"
        )
        eventually(lambda: any(event["event"] == "sink_waiting" for event in device.events), "sink_waiting")
        assert device.end(signal.SIGTERM) == 0
    told = [event for event in device.events if event["event"].startswith("anomaly")]
    assert f"{len(told)} events are not delivered yet" in device.words
    got = tmp_path / "got"
    again = run(*arguments, "--exec", shell_words(TAKES, got), input="")
    assert again.returncode == 0, again.stderr
    kept = [event for event in lines(got) if event["event"].startswith("anomaly")]
    assert [{k: v for k, v in event.items() if k not in ("id", "seq", "boot")} for event in kept] == told
    assert [event["seq"] for event in lines(got)] == list(itertools.islice(itertools.count(1), len(lines(got))))
