"""Where events go: to commands that fail, readers that stall; and how they are named."""

from __future__ import annotations

import itertools
import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from broker import eventually, free_port
from device import PATIENCE_S, ROOT, Port
from gateway_device import Gateway, gateway_command, run
from step_models import step_file

from edgekd.runtime.gateway.disk_writer import DiskWriter
from edgekd.runtime.gateway.outbox import Outbox
from edgekd.runtime.gateway.segments import load_acked
from edgekd.runtime.gateway.sinks.exec import Exec
from edgekd.runtime.gateway.sinks.voice import EventIds
from edgekd.runtime.guard import admit
from edgekd.runtime.sinks import live_lines
from edgekd.runtime.sinks.live_lines import LiveLines
from edgekd.runtime.state import StateFile

N, COUNT = 3, 160
TAKES = "import sys; open(sys.argv[1], 'a').write(sys.stdin.read()); "


def lines(path: Path) -> list[dict[str, Any]]:
    """The whole lines of a file that may be written at this moment."""
    text = path.read_text() if path.exists() else ""
    return [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]


def shell_words(code: str, *arguments: object) -> str:
    """A command for --exec that runs Python code."""
    return f'{sys.executable} -c "{code}" {" ".join(map(str, arguments))}'


def test_every_sink_gets_every_event_under_the_same_name(folder: Path, tmp_path: Path) -> None:
    got = tmp_path / "got"
    done = run(
        *("--model", folder / "m.onnx", "--csv", folder / "x.csv", "--cooldown", "0s"),
        *("--exec", shell_words(TAKES, got, "; touch", tmp_path / "no"), "--outbox", tmp_path / "outbox"),
    )
    assert done.returncode == 0, done.stderr
    told, executed = [json.loads(line) for line in done.stdout.splitlines()], lines(got)
    assert len(told) > 5 and all(event["id"] for event in told)
    assert [{k: v for k, v in event.items() if k not in ("seq", "boot")} for event in executed] == told
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


def test_a_writer_that_is_done_before_it_was_asked_is_asked_again(tmp_path: Path) -> None:
    """Threads change when they like: what was submitted may be done before `submit` returns."""

    class AtOnce(DiskWriter):
        def submit(self, job: Callable[[], None], within_s: float = 0.0) -> bool:
            job()
            return True

    outbox = Outbox(tmp_path / "outbox", 2**20, AtOnce(), lambda *_: None)
    cursor = outbox.cursor("sink", lambda: None)
    for number in (1, 2):
        outbox.append({"event": "test"})
        cursor.ack(cursor.read(1)[0].seq)
        assert load_acked(tmp_path / "outbox" / "sink.acked") == number
    outbox.close()


@pytest.mark.parametrize("live", [False, True])
@pytest.mark.parametrize("full", [False, True])
def test_where_standard_output_is_gone_the_other_sink_gets_all(
    folder: Path, tmp_path: Path, live: bool, full: bool
) -> None:
    if full and not Path("/dev/full").exists():
        pytest.skip("there is no /dev/full")
    got, rows = tmp_path / "got", (folder / "x.csv").read_bytes()
    keys = ("--stdin",) if live else ("--csv", folder / "x.csv")
    command = gateway_command(
        *("--model", folder / "m.onnx", *keys, "--cooldown", "0s", "--outbox", tmp_path / "outbox"),
        *("--exec", shell_words(TAKES, got)),
    )
    end, fd = os.pipe()
    os.close(end)
    stdout = os.open("/dev/full", os.O_WRONLY) if full else fd
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=ROOT, stdin=pipe, stdout=stdout, stderr=pipe) as process:
        assert process.stdin
        process.stdin.write(rows[: len(rows) // 2] if live else b"")
        process.stdin.flush()
        eventually(lambda: len(lines(got)) > 0, "an event at the command")
        _, words = process.communicate(rows[len(rows) // 2 :] if live else b"", PATIENCE_S)
    assert process.returncode == 0, words
    assert words.count(b"nothing takes standard output any more") == 1
    whole = run("--model", folder / "m.onnx", "--csv", folder / "x.csv", "--cooldown", "0s").stdout
    wanted = [(event["event"], event["sample"]) for event in map(json.loads, whole.splitlines())]
    kinds = [event["event"] for event in lines(got)]
    assert kinds.count("stdout_lost") == 1
    assert [(e["event"], e["sample"]) for e in lines(got) if e["event"] != "stdout_lost"] == wanted


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
    port, state = Port(tmp_path / "tty"), tmp_path / "state"
    arguments = ("--model", tmp_path / "m.onnx", "--serial", tmp_path / "tty", "--scores", "--state", state)
    command = gateway_command(*arguments, "--state-every", 0.1, "--exec", shell_words(TAKES, tmp_path / "got"))
    count = 3000

    def seen() -> int:
        """Samples that the detector has seen, by its state."""
        saved = StateFile(state, admit(tmp_path / "m.onnx")[0].digests.file).load() if state.exists() else None
        return int(saved.arrays["seen"]) if saved else 0

    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        try:
            assert process.stdout
            while b'"input_open"' not in process.stdout.readline():  # what was sent before is thrown away
                pass
            port.write(b"1.0,2.0,3.0\n" * (count + 1))  # 200 KB of scores; a pipe holds 64. The first line is dropped
            eventually(lambda: seen() == count, "all samples in the state")
            process.send_signal(signal.SIGTERM)
            assert process.wait(30) == 0
        finally:
            process.kill()
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
    outbox = Outbox(tmp_path / "outbox", 2**20, writer, lambda kind, _, fields: told.append((kind, fields)))
    command = shell_words(flaky, tmp_path / "tries", tmp_path / "got")
    sink = Exec(command, 10.0, 60.0, outbox, lambda kind, _, fields: told.append((kind, fields)))
    sink.start()
    for number in range(8):
        outbox.append({"event": "test", "number": number})
    eventually(lambda: len(lines(tmp_path / "got")) == 8, "every event")
    eventually(lambda: outbox.depth == 0, "that it is acknowledged")
    sink.stop(1.0)
    outbox.close()
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
    outbox = Outbox(tmp_path / "outbox", 2**20, DiskWriter(), lambda *_: None)
    command = shell_words(poisoned, tmp_path / "tries", tmp_path / "got")
    sink = Exec(command, 30.0, 3.0, outbox, lambda kind, _, fields: told.append((kind, fields)))
    sink.start()
    for number in range(8):
        outbox.append({"event": "poison" if number in (2, 5) else "test", "number": number})
    eventually(lambda: outbox.depth == 0, "the last one")
    sink.stop(1.0)
    outbox.close()
    assert [event["number"] for event in lines(tmp_path / "got")] == [0, 1, 3, 4, 6, 7] and sink.dropped == 2
    tries = [event["number"] for event in lines(tmp_path / "tries")]
    assert tries == sorted(tries) and 2 <= tries.count(2) < 10 and tries.count(7) == 1
    assert [fields for kind, fields in told if kind == "exec_dropped"] == [{"count": 1, "total": 1}]  # once a minute


def test_a_sink_that_is_stopped_before_it_has_begun_never_begins(tmp_path: Path) -> None:
    """As where a run ends while it starts."""
    outbox = Outbox(tmp_path / "outbox", 2**20, DiskWriter(), lambda *_: None)
    sink = Exec(f"touch {tmp_path / 'ran'}", 30.0, 3.0, outbox, lambda *_: None)
    sink.stop(0.1)
    sink.start()
    outbox.append({"event": "test"})
    sink.stop(PATIENCE_S)
    assert outbox.depth == 0  # nobody keeps an event for it
    outbox.close()
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--exec", "no-such-command-here"], "no such command"),
        (["--exec", "'unbalanced"], "exec: No closing quotation"),
        (["--publish", "alerts"], "on which broker?"),
        (["--publish", "mqtt://a:b@c/d"], "no password in the URL"),
        (["--publish", "mqtt://c/d", "--mqtt-ca", "x.pem"], "go with mqtts://"),
        (["--publish", "mqtts://c/d", "--mqtt-ca", "x.pem"], "mqtt-ca x.pem: cannot be read"),
        (["--publish", "mqtt://c/d", "--mqtt-password-file", "x"], "mqtt-password-file x: No such file"),
    ],
)
def test_a_sink_that_cannot_work_is_refused_in_one_line(
    folder: Path, tmp_path: Path, arguments: list[str], says: str
) -> None:
    if "--publish" in arguments:
        pytest.importorskip("paho.mqtt.client")
    base = ("--model", folder / "m.onnx", "--csv", folder / "x.csv", "--outbox", tmp_path / "outbox")
    done = run(*base, *arguments)
    assert done.returncode == 2 and says in done.stderr and len(done.stderr.splitlines()) == 1


def test_a_stop_with_the_broker_down_keeps_everything_for_the_next_start(folder: Path, tmp_path: Path) -> None:
    pytest.importorskip("paho.mqtt.client")
    url = f"mqtt://127.0.0.1:{free_port()}/alerts"
    arguments = ("--model", folder / "m.onnx", "--stdin", "--state", tmp_path / "state")
    with Gateway(*arguments, "--publish", url, stdin=subprocess.PIPE) as device:
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
