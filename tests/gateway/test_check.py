"""`edgekd-gateway check`: what it finds of real ports, brokers, disks and files, and that it leaves no trace."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from broker import PATIENCE_S, Broker, eventually, free_port, needs_broker
from click.testing import CliRunner
from device import Port
from gateway_device import Gateway
from test_config import gateway

from edgekd.cli import cli as edgekd
from edgekd.runtime.gateway import check
from edgekd.runtime.gateway.check import Finding, check_all


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    """One that knows joe, by the password "secret"."""
    pytest.importorskip("paho.mqtt.client")
    passwords = tmp_path / "passwords"
    passwords.write_text("joe:secret\n")
    subprocess.run(["mosquitto_passwd", "-U", passwords], check=True, timeout=PATIENCE_S)
    with Broker(tmp_path, "allow_anonymous false", f"password_file {passwords}") as broker:
        yield broker


@pytest.fixture
def password(tmp_path: Path) -> Path:
    path = tmp_path / "password"
    path.write_text("secret\n")
    path.chmod(0o600)
    return path


def written(at: Path, folder: Path, input: str, more: str = "", top: str = "") -> Path:
    """A gateway's file."""
    at.write_text(f"{top}\n[[stream]]\nmodel = '{folder / 'm.onnx'}'\n{input}\n{more}\n")
    return at


def found(*given: Any, **more: Any) -> dict[str, Finding]:
    return {finding.what: finding for finding in check_all(str(written(*given, **more)))}


def wrong(findings: dict[str, Finding]) -> dict[str, str]:
    """What is to be mended, each in one printable line."""
    assert all(finding.words.isprintable() for finding in findings.values())
    return {finding.what: finding.words for finding in findings.values() if not finding.ok}


def files_of(*folders: Path) -> dict[Path, float]:
    return {path: path.stat().st_mtime for folder in folders for path in [folder, *folder.rglob("*")]}


def test_all_is_well_and_nothing_is_left_behind(folder: Path, tmp_path: Path) -> None:
    pytest.importorskip("prometheus_client")
    more = f"state = '{tmp_path}/state'\nrecord = '{tmp_path}/record.csv'\nmap = ['s0=s1']"
    top = f"exec = 'cat --version'\noutbox = '{tmp_path}/new/outbox'\nmetrics = ':{free_port()}'"
    file = written(tmp_path / "gateway.toml", folder, f"csv = '{folder / 'x.csv'}'", more, top)
    before = files_of(tmp_path, folder, Path(os.environ["XDG_STATE_HOME"]))
    done = gateway("check", file)
    assert done.returncode == 0 and not done.stderr, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    things = ["file", "model", "settings", "csv", "state", "record", "exec", "outbox", "metrics"]
    assert [line.split()[:2] for line in lines] == [["ok", thing] for thing in things]
    assert "3 sensors (s0, s1, s2), self-test passed" in lines[1] and lines[1].endswith("µs a step")
    after = files_of(tmp_path, folder, Path(os.environ["XDG_STATE_HOME"]))
    assert before.keys() == after.keys()
    assert {path for path in before if before[path] != after[path]} <= {tmp_path}  # where a nameless file was


def test_machines_get_json(folder: Path, tmp_path: Path) -> None:
    file = written(tmp_path / "gateway.toml", folder, f"csv = '{tmp_path / 'gone.csv'}'")
    done = gateway("check", file, "--json")
    report = json.loads(done.stdout)
    assert done.returncode == 1 and not report["ok"]
    assert [(check["what"], check["ok"]) for check in report["checks"]] == [
        ("file", True),
        ("model", True),
        ("settings", True),
        ("csv", False),
    ]
    assert "gone.csv: No such file" in report["checks"][-1]["words"]


def test_a_wrong_file_is_the_one_thing_to_mend(folder: Path, tmp_path: Path) -> None:
    assert "give one input" in wrong(found(tmp_path / "gateway.toml", folder, ""))["file"]
    done = gateway("check", tmp_path / "gone.toml")
    assert done.returncode == 1 and "No such file" in done.stdout and len(done.stdout.splitlines()) == 1


def test_a_model_that_is_refused_does_not_keep_the_rest_from_being_tried(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "m.onnx").write_bytes((folder / "m.onnx").read_bytes()[:-40])
    file = tmp_path / "gateway.toml"
    assert wrong(found(file, tmp_path, f"csv = '{folder / 'x.csv'}'")).keys() == {"model"}
    assert wrong(found(file, tmp_path, "csv = 'gone.csv'")).keys() == {"model", "csv"}
    assert wrong(found(file, tmp_path, "frames = 'gone'")).keys() == {"model", "frames"}
    signed = wrong(found(file, folder, "stdin = true", "require-signed = 'gone.pub'"))
    assert signed.keys() == {"model"} and "gone.pub" in signed["model"]
    report = {"ok": False, "sensors": [], "method": "", "step_us": 1.0}
    monkeypatch.setattr(check, "check_model", lambda *_: report)
    assert "the self-test failed" in wrong(found(file, folder, "stdin = true"))["model"]


def test_a_signature_that_is_asked_for_is_checked(folder: Path, tmp_path: Path) -> None:
    pytest.importorskip("cryptography")
    shutil.copy(folder / "m.onnx", tmp_path)
    key = tmp_path / "key.pem"
    given = (tmp_path / "gateway.toml", tmp_path, "stdin = true", f"require-signed = '{key}.pub'")
    for arguments in (["--new-key", str(key)], [str(tmp_path / "m.onnx"), "--key", str(key)]):
        assert CliRunner().invoke(edgekd, ["sign", *arguments], standalone_mode=False).exit_code == 0
    assert f"signed with {key}.pub" in found(*given)["model"].words
    (tmp_path / "m.onnx.sig").unlink()
    assert "m.onnx.sig" in wrong(found(*given))["model"]


@pytest.mark.parametrize(
    ("more", "says"),
    [("map = ['pump=T1']", "one of the model's sensors (s0, s1, s2)"), ("sequence = 'n:1'", "counts nothing")],
)
def test_settings_have_to_fit_the_model(folder: Path, tmp_path: Path, more: str, says: str) -> None:
    assert says in wrong(found(tmp_path / "gateway.toml", folder, "stdin = true", more))["settings"]


def test_a_recording_has_to_fit_the_model(folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.csv"
    other.write_text("a,b\n1,2\n")
    for follow in ("", "follow = true"):
        told = wrong(found(tmp_path / "gateway.toml", folder, f"csv = '{other}'", follow))
        assert told.keys() == {"csv"} and "neither a header with the model's sensors nor" in told["csv"]
    told = wrong(found(tmp_path / "gateway.toml", folder, f"frames = '{tmp_path}'"))
    assert "takes a series, not images" in told["frames"]
    told = wrong(found(tmp_path / "gateway.toml", folder, "stdin = true", f"record = '{other}'"))
    assert "holds other columns" in told["record"] and other.read_text() == "a,b\n1,2\n"
    other.write_text("time,s0,s1,s2\n1,1,1,1\n")
    assert not wrong(found(tmp_path / "gateway.toml", folder, "stdin = true", f"record = '{other}'"))


def test_a_serial_port_is_opened_unless_another_program_has_it(folder: Path, tmp_path: Path) -> None:
    serial = pytest.importorskip("serial")
    device = tmp_path / "tty"
    given = (tmp_path / "gateway.toml", folder, f"serial = '{device}'")
    told = wrong(found(*given))["serial"]
    assert f"{device}: is not there; " in told and ("ports here" in told or "no serial port here" in told)
    port = Port(device)
    try:
        assert found(*given)["serial"] == Finding("serial", True, f"{device} opens")
        with serial.Serial(str(device), exclusive=True):
            assert "lock" in wrong(found(*given))["serial"]
        assert not wrong(found(*given))
    finally:
        port.unplug()


def test_a_server_is_reached(folder: Path, tmp_path: Path) -> None:
    file = tmp_path / "gateway.toml"
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert not wrong(found(file, folder, f"tcp = '127.0.0.1:{port}'"))
    told = wrong(found(file, folder, f"tcp = '127.0.0.1:{port}'"))["tcp"]
    assert "Connection refused; check that the server runs" in told
    assert "check the name" in wrong(found(file, folder, "tcp = 'nonsuch.invalid:4001'"))["tcp"]
    assert "write HOST:PORT" in wrong(found(file, folder, "tcp = '4001'"))["tcp"]


@needs_broker
def test_a_broker_is_visited_as_this_user_for_this_topic(
    folder: Path, tmp_path: Path, broker: Broker, password: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("EDGEKD_MQTT_PASSWORD", raising=False)
    file, host, top = tmp_path / "gateway.toml", f"127.0.0.1:{broker.port}", f"mqtt-password-file = '{password}'"
    state = f"state = '{file.with_name('state')}'"
    more = "publish = 'alerts'\ncontrol = 'line'"
    good = found(file, folder, f"mqtt = 'mqtt://joe@{host}/plant/+'", state, top=f"{top}\n{more}\n")
    assert not wrong(good)
    assert "connected and subscribed" in good["mqtt"].words and good["publish"].words.endswith("alerts: connected")
    assert good["control"].words.endswith("line/mute: connected and subscribed")
    for input, secret, says in (
        (f"mqtt://jim@{host}/plant/+", top, "does not take this password of user 'jim'"),
        (f"mqtt://joe@{host}/plant/+", "", "wants a password"),
        (f"mqtt://{host}/plant/+", "", "wants a user name"),
        (f"mqtts://joe@{host}/plant/+", top, f"mqtts://{host}/plant/+: "),
        (f"mqtt://joe@{host}/plant#", top, "is no topic"),
    ):
        assert says in wrong(found(file, folder, f"mqtt = '{input}'", top=secret))["mqtt"]
    broker.stop()
    told = wrong(found(file, folder, f"mqtt = 'mqtt://{host}/x'", top="publish = 'alerts'"))
    assert "is a broker listening" in told["mqtt"] and "is a broker listening" in told["publish"]
    assert "on which broker?" in wrong(found(file, folder, "stdin = true", top="publish = 'alerts'"))["publish"]


def test_a_subscription_that_a_broker_refuses_is_told(folder: Path, tmp_path: Path) -> None:
    """Brokers that can be told to do so are rare: this one can do nothing else."""
    pytest.importorskip("paho.mqtt.client")

    def serve() -> None:
        client, _ = server.accept()
        with client:
            client.recv(1000)
            client.sendall(b"\x20\x02\0\0")  # CONNACK: welcome
            subscribe = client.recv(1000)
            client.sendall(b"\x90\x03" + subscribe[2:4] + b"\x80")  # SUBACK: failure
            client.recv(1000)

    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=serve, daemon=True).start()
        url = f"mqtt://127.0.0.1:{server.getsockname()[1]}/office"
        told = wrong(found(tmp_path / "gateway.toml", folder, f"mqtt = '{url}'"))["mqtt"]
    assert f"{url}: the broker does not allow this user to subscribe" in told


def test_a_broker_that_is_silent_is_not_waited_for(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("paho.mqtt.client")
    monkeypatch.setattr(check, "BROKER_S", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"mqtt://127.0.0.1:{server.getsockname()[1]}/x"
        assert "no answer within" in wrong(found(tmp_path / "gateway.toml", folder, f"mqtt = '{url}'"))["mqtt"]


def test_a_command_is_there(folder: Path, tmp_path: Path) -> None:
    ring = tmp_path / "ring"
    ring.write_text("#!/bin/sh\n")
    given = (tmp_path / "gateway.toml", folder, "stdin = true")
    state = f"state = '{tmp_path / 'state'}'"
    assert "no such command" in wrong(found(*given, state, f"exec = '{ring} --loud'"))["exec"]
    ring.chmod(0o755)
    assert not wrong(found(*given, state, f"exec = '{ring} --loud'"))


def test_a_secret_is_the_owner_s_alone(folder: Path, tmp_path: Path, password: Path) -> None:
    given = (tmp_path / "gateway.toml", folder, "stdin = true", "")
    assert not wrong(found(*given, f"mqtt-password-file = '{password}'"))
    password.chmod(0o644)
    assert f"chmod 600 {password}" in wrong(found(*given, f"mqtt-password-file = '{password}'"))["mqtt-password-file"]
    assert "chmod 600" in wrong(found(*given, f"mqtt-key = '{password}'\nmqtt-cert = 'c'"))["mqtt-key"]
    assert "No such file" in wrong(found(*given, "mqtt-password-file = 'gone'"))["mqtt-password-file"]


def test_no_pipe_is_waited_for_and_no_endless_file_is_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    no_model = tmp_path / "none"
    assert not found(tmp_path / "gateway.toml", no_model, f"csv = '{tmp_path / 'pipe'}'")["model"].ok
    broker = "mqtt = 'mqtt://127.0.0.1:1/x'"
    told = wrong(found(tmp_path / "gateway.toml", no_model, broker, "", "mqtt-password-file = '/dev/zero'"))
    assert any("too long for a password" in words for words in told.values())


def test_folders_have_to_be_there_and_writable(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    given = (tmp_path / "gateway.toml", folder, "stdin = true")
    told = wrong(found(*given, f"state = '{tmp_path}/my place/state'"))
    assert f"mkdir -p '{tmp_path}/my place'" in told["state"]
    told = wrong(found(*given, f"record = '{tmp_path}/file/r.csv'", f"exec = 'cat'\noutbox = '{tmp_path}/file/o/x'"))
    assert "Not a directory" in told["record"] and f"{tmp_path}/file: it is no folder" in told["outbox"]
    (tmp_path / "link").symlink_to("nothing")
    told = wrong(found(*given, top=f"exec = 'cat'\noutbox = '{tmp_path}/link'"))
    assert f"{tmp_path}/link: it is no folder; move it away" in told["outbox"]
    if os.geteuid():
        (tmp_path / "file").chmod(0o400)
        tmp_path.chmod(0o500)
        told = wrong(found(*given, f"state = '{tmp_path}/file'", f"exec = 'cat'\noutbox = '{tmp_path}/o'"))
        tmp_path.chmod(0o700)
        assert "another user's" in told["state"] and "let the user" in told["outbox"]


def test_room_on_the_disk_is_told_and_missed(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = (tmp_path / "gateway.toml", folder, "stdin = true", f"state = '{tmp_path}/disk/state'")
    (tmp_path / "disk").mkdir()
    assert found(*given)["state"].words.endswith(" MB free")
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", tmp_path / "disk"], capture_output=True
    )
    if mounted.returncode:
        pytest.skip("nothing can be mounted here")
    try:
        assert found(*given)["state"].words.endswith("0 MB free; that is little")
        (tmp_path / "disk" / "full").write_bytes(bytes(2**18))
        assert "No space left on device; make room" in wrong(found(*given))["state"]
        subprocess.run(["mount", "-o", "remount,ro", tmp_path / "disk"], check=True)
        assert "a disk that can be written" in wrong(found(*given))["state"]
    finally:
        subprocess.run(["umount", tmp_path / "disk"], check=True)


def test_the_port_of_metrics_is_free(folder: Path, tmp_path: Path) -> None:
    pytest.importorskip("prometheus_client")
    given = (tmp_path / "gateway.toml", folder, "stdin = true", "")
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert "in use; give another" in wrong(found(*given, f"metrics = ':{port}'"))["metrics"]
    assert not wrong(found(*given, f"metrics = ':{port}'"))
    assert not wrong(found(*given, f"metrics = '[::1]:{port}'")) or not socket.has_ipv6
    assert "write :9108" in wrong(found(*given, "metrics = '9108x'"))["metrics"]


@needs_broker
def test_a_gateway_that_runs_is_not_disturbed(folder: Path, tmp_path: Path) -> None:
    """It keeps its port, its lock and its connections, whose names nobody takes."""
    for package in ("serial", "paho.mqtt.client", "prometheus_client"):
        pytest.importorskip(package)
    port, state, metrics = Port(tmp_path / "tty"), tmp_path / "state", free_port()
    with Broker(tmp_path) as broker:
        publish = f"mqtt://127.0.0.1:{broker.port}/alerts"
        file = written(
            tmp_path / "gateway.toml",
            folder,
            f"serial = '{tmp_path / 'tty'}'",
            f"state = '{state}'",
            f"publish = '{publish}'\nmqtt-client-id = 'line-7'\nmetrics = ':{metrics}'",
        )
        options = ["--state", state, "--publish", publish, "--mqtt-client-id", "line-7", "--metrics", f":{metrics}"]
        with Gateway("--model", folder / "m.onnx", "--serial", tmp_path / "tty", "--scores", *options) as running:
            running.wait_for("input_open")
            eventually((tmp_path / "state.outbox").is_dir, "an outbox")
            lock = Path(f"{state}.lock").read_text()
            done = gateway("check", file)
            assert done.returncode == 0, done.stdout + done.stderr
            assert f"process {running.process.pid}" in done.stdout and done.stdout.count("left to the gateway") == 2
            port.write(b"0.5,1.5,2.5\n" * 9)
            running.wait_for("score")
            assert Path(f"{state}.lock").read_text() == lock and running.process.poll() is None
            assert not [event for event in running.events if event["event"] in ("input_lost", "sink_waiting")]
        done = gateway("check", file)
        assert "process" not in done.stdout and "left to" not in done.stdout and done.returncode == 0, done.stdout
    port.unplug()


def test_each_stream_is_tried_under_its_name(folder: Path, tmp_path: Path) -> None:
    streams = {"a": f"csv = '{folder / 'x.csv'}'", "b": "tcp = '127.0.0.1:1'"}
    file = tmp_path / "gateway.toml"
    file.write_text(
        "".join(f"[[stream]]\nname = '{n}'\nmodel = '{folder / 'm.onnx'}'\n{i}\n" for n, i in streams.items())
    )
    done = gateway("check", file)
    told = [line.split()[:3] for line in done.stdout.splitlines()[1:]]
    assert done.returncode == 1
    assert told == [["ok", n, what] for n, what in (("a", "model"), ("a", "settings"), ("a", "csv"))] + [
        ["ok", "b", "model"], ["ok", "b", "settings"], ["MEND", "b", "tcp"],
    ]  # fmt: skip
