"""The gateway's file: what it may hold, what is refused and how, and the example of it that `init` prints."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
from device import PATIENCE_S, ROOT

from edgekd.runtime.duration import seconds_in
from edgekd.runtime.errors import UsageError
from edgekd.runtime.gateway.config import read_config
from edgekd.runtime.gateway.options import INPUTS, GatewayOptions, StreamOptions, at_broker, key_of, keys_of
from edgekd.runtime.options import DURATION

EXAMPLE = ROOT / "runtime" / "gateway" / "gateway.toml"


def gateway(*arguments: object) -> subprocess.CompletedProcess[str]:
    """`edgekd-gateway` to the end."""
    command = [sys.executable, "-m", "edgekd.runtime.gateway.cli", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE_S)


def refusal(path: Path, text: str | bytes) -> str:
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(UsageError) as refused:
        read_config(str(path))
    assert str(refused.value).startswith(f"{path}: ") and str(refused.value).isprintable()
    return str(refused.value)


def test_every_key_of_a_file_arrives(tmp_path: Path) -> None:
    file = tmp_path / "gateway.toml"
    file.write_text(
        """
        exec = "ring --loud"
        exec-retry = "2min"
        [[stream]]
        name = "line 7"
        model = "m.onnx"
        csv = "x.csv"
        follow = true
        map = ["a=T1", "b=T2"]
        adapt-band = [1, 3]
        threshold = 2
        """
    )
    options = read_config(str(file))
    (stream,) = options.streams
    assert (options.command, options.exec_retry, options.exec_timeout, options.quiet) == ("ring --loud", 120, 30, False)
    assert (stream.name, stream.model, stream.csv, stream.follow) == ("line 7", "m.onnx", "x.csv", True)
    assert (stream.maps, stream.adapt_band, stream.threshold) == (("a=T1", "b=T2"), (1, 3), 2)
    assert (stream.baud, stream.serial, stream.min_duration, stream.state_every) == (115200, None, 0, 60)


@pytest.mark.parametrize("publish", ["alerts", "mqtt://joe@broker/alerts"])
def test_events_that_would_confirm_themselves_are_refused(tmp_path: Path, publish: str) -> None:
    stream = "[[stream]]\nmodel = 'm.onnx'\nstdin = true\n"
    said = refusal(tmp_path / "gateway.toml", f"publish = '{publish}'\nreceipts = 'alerts'\n{stream}")
    assert "every event would confirm itself" in said
    assert "no + or #" in refusal(tmp_path / "gateway.toml", f"receipts = 'alerts/+'\n{stream}")


def test_no_variable_overrides_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEKD_THRESHOLD", "3")
    monkeypatch.setenv("EDGEKD_GATEWAY_THRESHOLD", "3")
    (tmp_path / "gateway.toml").write_text("[[stream]]\nmodel = 'm.onnx'\nstdin = true\n")
    assert read_config(str(tmp_path / "gateway.toml")).streams[0].threshold is None


def test_secrets_come_from_systemd_s_credentials_before_the_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "gateway.toml"
    file.write_text("mqtt-key = 'my.key'\n[[stream]]\nmodel = 'm.onnx'\nstdin = true\n")
    options = read_config(str(file))
    assert (options.secrets.key, options.secrets.password_file) == ("my.key", None)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    (tmp_path / "mqtt-password").write_text("secret\n")
    assert (options.secrets.key, options.secrets.password()) == ("my.key", "secret")
    (tmp_path / "mqtt-key").write_text("PEM")
    assert options.secrets.key == str(tmp_path / "mqtt-key")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("threshhold = 1", "there is no key 'threshhold'; did you mean threshold?"),
        ("state_every = 1", "there is no key 'state_every'; did you mean state-every?"),
        ("threshold = '1'", "threshold must be a finite number, got '1'"),
        *(
            (f"{key} = {value}", f"{key} must be a finite number, got {value[:80]}")
            for key in ("threshold", "false-alarms-per-day", "hysteresis", "state-every")
            for value in ("nan", "inf", "-inf", "9" * 400)
        ),
        ("baud = nan", "baud must be a whole number, got nan"),
        ("state-every = -1", "state-every: -1.0 is not in the range"),
        ("calibrate-band = [0.5, nan]", "calibrate-band must be a list of 2 numbers, got [0.5, nan]"),
        ("min-duration = 'nan'", "is no length of time"),
        ("min-duration = '-1s'", "is no length of time"),
        ("baud = 9600.5", "baud must be a whole number, got 9600.5"),
        ("baud = 5.0", "baud must be a whole number, got 5.0"),
        ("baud = true", "baud must be a whole number, got true"),
        ("baud = 1", "baud: 1 is not in the range 50<=x<=20000000"),
        ("scores = 1", "scores must be true or false, got 1"),
        ("tcp = 3", "tcp must be a string"),
        ("map = 's0=a'", "map must be a list of strings"),
        ("map = [1]", "map must be a list of strings"),
        ("adapt-band = [1]", "adapt-band must be a list of 2 numbers"),
        ("adapt-band = [1, true]", "adapt-band must be a list of 2 numbers"),
        ("cooldown = 90", 'cooldown must be a length of time, as in "90s", got 90'),
        ("cooldown = '90 parsecs'", "is no length of time; write 90s"),
        ("checksum = 'crc'", "checksum: 'crc' is not"),
        ("publish = 'alerts'", "publish is not a stream's; put it above the line [[stream]]"),
        ("spool = 'x'", "spool is outbox now"),
        ('"\\u001b[2J" = 1', "there is no key '\\x1b[2J'"),
        ("serial = '/dev/ttyUSB0'", 'give one input, serial = "DEVICE"'),
        ("follow = true", "follow goes with csv, not with stdin"),
        ("give-up-after = '1h'", "give-up-after goes with serial or tcp or csv, not with stdin"),
        ("idle-timeout = '1h'", "idle-timeout goes with serial or tcp, not with stdin"),
        ("time = 'at'\nresample = 'mean'\nsequence = 'n'", "with resample go by time"),
        ("adapt-band = [2, 3]", "adapt-band: give a factor up to 1"),
        ("calibrate-band = [0.1, 0.9]", "calibrate-band: give a factor up to 1"),
        ("calibrate-for = '1d'\nstate = 's'\nthreshold = 1", "leave out one"),
        ("calibrate-for = '1d'", "calibrate-for needs state"),
        ("alarm-factor = 0.5", "alarm-factor"),
        ("raw = '8x8'\nadapt = true", "adapt and calibrate-for go with a series"),
        ("raw = '8x8'\ncooldown = '1s'", "go with a series"),
    ],
)
def test_a_wrong_stream_is_named_with_its_key(tmp_path: Path, text: str, says: str) -> None:
    stream = f"[[stream]]\nname = 'line 7'\nmodel = 'm.onnx'\nstdin = true\n{text}"
    told = refusal(tmp_path / "wrong.toml", stream)
    assert "stream 'line 7': " in told and says in told and "--" not in told


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("outbox-mb = nan", "outbox-mb must be a finite number, got nan"),
        ("outbox-mb = -1", "outbox-mb: -1.0 is not in the range"),
        ("exec-timeout = inf", "exec-timeout must be a finite number, got inf"),
        ("exec-timeout = 0", "exec-timeout: 0.0 is not in the range"),
        ("metrics = 9108", "metrics must be a string"),
        ("pubish = 'a'", "there is no key 'pubish'; did you mean publish?"),
        ("elephant = 3", "there is no key 'elephant'; edgekd-gateway init lists all"),
        ("exec = \"ring 'it\"\n[[stream]]\nmodel = 'm'\nstdin = true", "exec: No closing quotation"),
        ("exec = ' '\n[[stream]]\nmodel = 'm'\nstdin = true", "it is empty"),
        ("quiet = true", "no stream; write a line [[stream]]"),
        ("", "no stream; write a line [[stream]]"),
        ("[stream]\nmodel = 'm'", "write [[stream]], with two brackets"),
        ("stream = [1]", "write [[stream]], with two brackets"),
        ("[[stream]]\nstdin = true", "model is missing"),
        *((f"[[stream]]\n{key} = 'a\\u0000'".replace("'", '"'), f"{key} holds a") for key in ("model", "csv", "state")),
        ('outbox = "a\\u0000"', "outbox holds a character that no name has"),
        ("= 3", "not TOML"),
        ("publish = mqtt://h/t", "text goes in quotes"),
        ("a = 1\na = 2", "not TOML"),
        ("outbox-mb = " + "9" * 5000, "not TOML"),
        ("\x1b]0;x\x07 = 1", "not TOML"),
        ("a = " + "[" * 10_000, "not TOML"),
        (b"\xff\xfe", "not TOML"),
        (b"#" * 2**21, "larger than 1 MiB"),
    ],
)
def test_a_wrong_file_is_one_line_that_says_why(tmp_path: Path, text: str | bytes, says: str) -> None:
    assert says in refusal(tmp_path / "wrong.toml", text)


@pytest.mark.parametrize(
    ("top", "first", "second", "says"),
    [
        ("", "stdin = true", "stdin = true", "standard input can be read by one stream only"),
        ("", "name = 'x'\ntcp = 'a:1'", "name = 'x'\ntcp = 'a:2'", "two streams are called 'x'"),
        ("", "tcp = 'a:1'", "tcp = 'a:2'", "two streams are called 'm'"),
        ("", "tcp = 'a:1'\nstate = 'a/s'", "name = 'y'\ntcp = 'a:1'\nstate = 'a/../a/s'", "another stream's state"),
        ("", "tcp = 'a:1'\nrecord = 'r'", "name = 'y'\ntcp = 'a:1'\nrecord = 'r'", "another stream's record"),
        ("", "tcp = 'a:1'\nstate = 's'", "name = 'y'\ntcp = 'a:1'\nrecord = 's.lock'", "another stream's lock"),
        ("", "csv = 'c.csv'", "name = 'y'\ntcp = 'a:1'\nrecord = 'c.csv'", "another stream's csv"),
        ("exec = 'true'", "tcp = 'a:1'", "name = 'y'\ntcp = 'a:1'", "name a folder for them with outbox"),
        ("page = ':0'", "tcp = 'a:1'", "name = 'y'\ntcp = 'a:1'", "name a file for it with history"),
    ],
)  # fmt: skip
def test_streams_share_no_file_and_no_name(tmp_path: Path, top: str, first: str, second: str, says: str) -> None:
    text = f"{top}\n[[stream]]\nmodel = 'm'\n{first}\n[[stream]]\nmodel = 'm'\n{second}"
    assert says in refusal(tmp_path / "wrong.toml", text)


@pytest.mark.parametrize(
    ("keys", "says"),
    [
        ("mqtt = 'mqtt://b/x'", "the topic of mqtt, which has none"),
        ("tcp = 'a:1'", "each goes with mqtt, not with tcp"),
        ("mqtt = 'mqtt://b/+'\nstate = 's'", "every stream has a state of its own; write {}"),
        ("mqtt = 'mqtt://b/+'\nstate = '{}/s'", "every stream has a state of its own; write {}"),
        ("mqtt = 'mqtt://b/+'\nname = 'n'", "every stream has a name of its own; write {}"),
    ],
)
def test_each_needs_names(tmp_path: Path, keys: str, says: str) -> None:
    assert says in refusal(tmp_path / "wrong.toml", f"[[stream]]\nmodel = 'm'\neach = true\n{keys}")


@pytest.mark.parametrize(
    "text",
    [
        "publish = ['mqtt://u:SECRET@h/t']",
        "publish = {url = 'mqtt://u:SECRET@h/t'}",
        "exec = ['curl', '-u', 'u:SECRET']",
        'exec = "curl -u u:SECRET \'"',
        "exec = '/none/curl -u u:SECRET'",
        "publish = 'mqtt://u:SECRET@h/t'",
        "publish = 'mqtts://u:SECRET@h'",
    ],
)
def test_no_message_tells_a_password(folder: Path, tmp_path: Path, text: str) -> None:
    file = tmp_path / "gateway.toml"
    for key in (text, text.replace("publish", "mqtt")):
        stream = f"[[stream]]\nmodel = '{folder / 'm.onnx'}'\n"
        top = "" if key.startswith("mqtt") else "stdin = true\n"
        file.write_text(f"{stream}{key}\n" if not top else f"{key}\n{stream}{top}")
        for command in ("run", "check"):
            done = gateway(command, file)
            assert done.returncode in (1, 2) and "SECRET" not in done.stdout + done.stderr
            assert "Traceback" not in done.stderr


@pytest.mark.parametrize("kind", ["file", "pipe", "socket", "device"])
def test_an_outbox_that_is_no_folder_is_refused(tmp_path: Path, kind: str) -> None:
    path = Path("/dev/null") if kind == "device" else tmp_path / kind
    with socket.socket(socket.AF_UNIX) as listener:
        if kind == "file":
            path.write_text("")
        elif kind == "pipe":
            os.mkfifo(path)
        elif kind == "socket":
            listener.bind(str(path))
        text = f"exec = 'true'\noutbox = '{path}'\n[[stream]]\nmodel = 'm.onnx'\nstdin = true\n"
        assert "is no folder" in refusal(tmp_path / "gateway.toml", text)


def test_a_file_of_edgekd_run_0_1_0_is_told_what_has_changed(tmp_path: Path) -> None:
    old = "model = 'm.onnx'\nserial = 'x'\nstate = 's'\nevents = 'e'\nevents-mb = 1\nspool = 'd'\npublish = 'p'\n"
    told = refusal(tmp_path / "edgekd.toml", old)
    assert "model, serial, state belong under a line [[stream]]" in told
    assert "spool is outbox now" in told and "StandardOutput=append:" in told and "edgekd-gateway init" in told


@pytest.mark.parametrize(("name", "says"), [("none.toml", "No such file"), (".", "Is a directory")])
@pytest.mark.parametrize("command", ["run", "unit"])
def test_a_file_that_cannot_be_read_is_one_line(tmp_path: Path, command: str, name: str, says: str) -> None:
    done = gateway(command, tmp_path / name)
    assert done.returncode == 2 and not done.stdout
    assert says in done.stderr and "edgekd-gateway init" in done.stderr and len(done.stderr.splitlines()) == 1


def test_a_threshold_that_is_not_kept_cannot_be_forgotten(tmp_path: Path) -> None:
    (tmp_path / "gateway.toml").write_text("[[stream]]\nmodel = 'm.onnx'\nstdin = true\n")
    done = gateway("run", tmp_path / "gateway.toml", "--reset-threshold")
    assert done.returncode == 2 and "--reset-threshold: this file has no state" in done.stderr


def everything() -> str:
    """The example with every key that it has behind a #."""
    return re.sub(r"^# (?=[a-z0-9-]+ = )", "", EXAMPLE.read_text(), flags=re.M)


def test_the_example_names_every_key_and_every_value_in_it_is_one_that_is_taken(tmp_path: Path) -> None:
    printed = gateway("init")
    assert printed.returncode == 0 and not printed.stderr and printed.stdout == EXAMPLE.read_text()
    found = tomllib.loads(everything())
    (stream,) = found.pop("stream")
    assert set(found) == set(keys_of(GatewayOptions)) and set(stream) == set(keys_of(StreamOptions))
    file = tmp_path / "gateway.toml"
    file.write_text(everything())
    with pytest.raises(UsageError, match="give one input"):  # all else in it is right by now
        read_config(str(file))
    file.write_text(EXAMPLE.read_text())
    assert read_config(str(file)).streams[0].serial == "/dev/ttyUSB0"


def test_two_streams_are_never_one_at_a_broker(tmp_path: Path) -> None:
    one = "[[stream]]\nmodel = 'm'\nmqtt = 'mqtt://b/x'\n"
    file = tmp_path / "gateway.toml"
    for top, known in (("", {None}), ("mqtt-client-id = 'g'\n", {"g", "g-y"})):
        file.write_text(f"{top}{one}{one}name = 'y'\n")
        options = read_config(str(file))
        found = [at_broker(options, stream) for stream in options.streams]
        assert {secrets.client_id for secrets, _ in found} == known and len({place for _, place in found}) == 2


OF_STREAM, OF_GATEWAY = (list(keys_of(options).values()) for options in (StreamOptions, GatewayOptions))


@pytest.mark.parametrize("option", OF_STREAM + OF_GATEWAY, ids=key_of)
def test_each_key_of_the_example_is_taken_by_itself(tmp_path: Path, option: Any) -> None:
    found = tomllib.loads(everything())
    of_stream, key = option in OF_STREAM, key_of(option)
    value = found["stream"][0][key] if of_stream else found[key]
    of_time = option.type is DURATION
    told = f"{key} = {str(value).lower() if isinstance(value, bool) else repr(value)}"
    others = {"model": "model = 'm.onnx'", "state": "state = '{}'", key: ""}
    if key not in INPUTS:
        inputs = {"follow": "csv = 'x.csv'", "raw": "stdin = true", "each": "mqtt = 'mqtt://b/+'"}
        others["input"] = inputs.get(key, "serial = '/dev/ttyUSB0'")
    file = tmp_path / "gateway.toml"
    file.write_text("\n".join(["[[stream]]", told][:: 1 if of_stream else -1] + list(others.values())))
    options = read_config(str(file))
    taken = getattr(options.streams[0] if of_stream else options, option.name)
    assert taken == (tuple(value) if isinstance(value, list) else seconds_in(value) if of_time else value)


@pytest.mark.parametrize("command", ["", "init", "check", "run", "unit"])
def test_help_ends_with_an_example_and_loads_no_numpy(command: str) -> None:
    done = gateway(*filter(None, [command]), "--help")
    assert done.returncode == 0 and "Example:" in done.stdout and f"edgekd-gateway {command}".strip() in done.stdout
    lazy = "import sys, edgekd.runtime.gateway.cli; assert 'numpy' not in sys.modules"
    assert subprocess.run([sys.executable, "-c", lazy], cwd=ROOT, timeout=PATIENCE_S).returncode == 0
