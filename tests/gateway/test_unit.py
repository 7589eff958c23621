"""The systemd unit of `edgekd-gateway unit`: made for its file, and shut off from all that this does not name."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from test_config import gateway

from edgekd.runtime.errors import UsageError
from edgekd.runtime.gateway import unit
from edgekd.runtime.gateway.config import read_config

FILE = "/etc/edgekd/gateway.toml"
SERIAL = 'serial = "/dev/ttyUSB0"'
EXPOSURE = 2.2  # that systemd-analyze saw in the unit of 0.1.0

needs_systemd = pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd-analyze is not here")


@pytest.fixture(autouse=True)
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if the program were installed for all."""
    monkeypatch.setattr(sys, "argv", ["/opt/edgekd/bin/edgekd-gateway", "unit", FILE])
    monkeypatch.setattr(unit, "_program", lambda: [Path("/opt/edgekd/bin/python")])


def printed(
    folder: Path, stream: str = SERIAL, top: str = "", model: str = "/etc/edgekd/m.onnx", file: str = FILE
) -> str:
    path = folder / "gateway.toml"
    path.write_text(f"{top}\n[[stream]]\nmodel = '{model}'\n{stream}\n")
    return unit.unit_of(file, read_config(str(path)))


def settings(text: str) -> dict[str, str]:
    """Setting -> value of a unit."""
    return dict(line.split("=", 1) for line in text.splitlines() if re.match(r"[A-Z]\w*=", line))


def test_a_plain_unit_runs_the_file_with_this_program_under_a_user_of_its_own(tmp_path: Path) -> None:
    found = settings(printed(tmp_path, f"{SERIAL}\nstate = '/var/lib/edgekd/state'"))
    assert found["ExecStart"] == f"/opt/edgekd/bin/edgekd-gateway run {FILE}"
    assert (found["Type"], found["WatchdogSec"], found["Restart"]) == ("notify", "30", "always")
    assert (found["DynamicUser"], found["StateDirectory"], found["WorkingDirectory"]) == ("yes", "edgekd", "%S/edgekd")
    assert (found["ProtectSystem"], found["ProtectHome"], found["NoNewPrivileges"]) == ("strict", "yes", "yes")
    for absent in ("ReadWritePaths", "ExecReload", "LoadCredential", "EnvironmentFile", "StandardOutput"):
        assert absent not in found


def test_only_a_serial_port_brings_its_group(tmp_path: Path) -> None:
    assert settings(printed(tmp_path))["SupplementaryGroups"] == "dialout"
    assert "SupplementaryGroups" not in settings(printed(tmp_path, "mqtt = 'mqtt://b/x'"))


@pytest.mark.parametrize(
    ("stream", "top", "network"),
    [
        (SERIAL, "", False),
        ("csv = '/srv/x.csv'\nfollow = true", "", False),
        ("tcp = 'plant:4001'", "", True),
        ("mqtt = 'mqtt://b/x'", "", True),
        (SERIAL, "publish = 'mqtt://b/x'", True),
        (SERIAL, "metrics = ':9108'", True),
        (SERIAL, "exec = 'curl -d @- http://plant'", True),
    ],
)
def test_a_file_without_network_gets_none(tmp_path: Path, stream: str, top: str, network: bool) -> None:
    families = settings(printed(tmp_path, stream, top))["RestrictAddressFamilies"].split()
    assert ("AF_INET" in families) == network and "AF_UNIX" in families  # systemd itself is told over the latter


def test_every_stream_has_its_room(tmp_path: Path) -> None:
    one = settings(printed(tmp_path))
    assert (one["TasksMax"], one["MemoryMax"]) == ("64", "512M")
    state = "state = '/var/lib/edgekd/{}/{}'"
    more = f"[[stream]]\nmodel = '/home/x/m.onnx'\nmqtt = 'mqtt://b/+'\neach = true\n{state.format('a', '{}')}"
    found = settings(printed(tmp_path, f"{SERIAL}\n{state.format('b', 's')}\n{more}"))
    assert (found["TasksMax"], found["StateDirectory"]) == ("464", "edgekd edgekd/a edgekd/b")
    assert (found["ProtectHome"], found["SupplementaryGroups"]) == ("read-only", "dialout")


def test_folders_elsewhere_are_opened_for_a_user_that_can_own_them(tmp_path: Path) -> None:
    stream = f"{SERIAL}\nstate = '/var/lib/edgekd/line 7/state'\nrecord = '/srv/50%/my \"x\"/r.csv'"
    text = printed(tmp_path, stream, "outbox = '/mnt/card/outbox'")
    found = settings(text)
    assert found["ReadWritePaths"] == '/mnt/card "/srv/50%%/my \\"x\\""'
    assert found["StateDirectory"] == 'edgekd "edgekd/line 7"'
    assert "DynamicUser" not in found and found["User"] == "edgekd" and "chown edgekd /mnt/card" in text


@pytest.mark.parametrize(
    ("model", "stream", "file", "at"),
    [
        ("/home/pi/m.onnx", SERIAL, FILE, "/home/pi/m.onnx"),
        ("/etc/m.onnx", "csv = '/root/x.csv'", FILE, "/root/x.csv"),
        ("/etc/m.onnx", f"{SERIAL}\nstate = '/home/pi/state'", FILE, "/home/pi"),
        ("/etc/m.onnx", SERIAL, "/home/pi/gateway.toml", "/home/pi/gateway.toml"),
    ],
)
def test_homes_are_hidden_unless_something_lies_there(
    tmp_path: Path, model: str, stream: str, file: str, at: str
) -> None:
    text = printed(tmp_path, stream, model=model, file=file)
    assert settings(text)["ProtectHome"] == "read-only" and f"# for {at}\nProtectHome" in text


def test_a_program_in_a_home_is_not_hidden(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unit, "_program", lambda: [Path("/home/pi/venv/bin/python")])
    assert settings(printed(tmp_path))["ProtectHome"] == "read-only"


def test_secrets_are_handed_over_by_systemd(tmp_path: Path) -> None:
    mqtt = "mqtt = 'mqtts://user@b/x'"
    text = printed(tmp_path, mqtt, "mqtt-password-file = '/root/pass%word'\nmqtt-key = '/root/k'\nmqtt-cert = '/etc/c'")
    assert "\nLoadCredential=mqtt-password:/root/pass%%word\nLoadCredential=mqtt-key:/root/k\n" in text
    assert settings(text)["ProtectHome"] == "yes" and "EnvironmentFile" not in text
    assert settings(printed(tmp_path, mqtt))["EnvironmentFile"] == "-/etc/edgekd/environment"


def test_an_input_that_ends_is_not_read_again_and_again(tmp_path: Path) -> None:
    assert settings(printed(tmp_path, "csv = '/srv/x.csv'"))["Restart"] == "on-failure"
    assert settings(printed(tmp_path, "csv = '/srv/x.csv'\nfollow = true"))["Restart"] == "always"


def test_relative_paths_begin_where_the_command_was_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    found = settings(printed(tmp_path, f"{SERIAL}\nstate = 'state'", file="gateway.toml"))
    assert found["WorkingDirectory"] == found["ReadWritePaths"] == str(tmp_path)
    assert found["ExecStart"].endswith(f" run {tmp_path}/gateway.toml")


def test_no_path_writes_lines_of_its_own_into_the_unit(tmp_path: Path) -> None:
    for top, stream in (
        ("", f'{SERIAL}\nstate = "/x\\nExecStartPre=/bin/evil/state"'),
        ('mqtt-key = "/x\\nExecStartPre=/bin/evil"\nmqtt-cert = "c"', SERIAL),
    ):
        with pytest.raises(UsageError, match="cannot hold this path"):
            printed(tmp_path, stream, top)


def test_the_command_prints_it(tmp_path: Path) -> None:
    file = tmp_path / "a file.toml"
    file.write_text(f"[[stream]]\nmodel = '/etc/edgekd/m.onnx'\n{SERIAL}\n")
    done = gateway("unit", file)
    assert done.returncode == 0 and not done.stderr
    assert settings(done.stdout)["ExecStart"] == f'{sys.executable} -m edgekd.runtime.gateway.cli run "{file}"'


@needs_systemd
@pytest.mark.parametrize("state", ["/var/lib/edgekd/state", "/var/lib/edgekd/my line/state", "/var/tmp/my state/state"])
@pytest.mark.parametrize(
    ("stream", "top"),
    [
        (SERIAL, ""),
        ("csv = '/srv/x.csv'", "mqtt-password-file = '/etc/edgekd/pass word'\nmqtt-key = '/k'\nmqtt-cert = '/c'"),
        ("mqtt = 'mqtt://b/x'", "metrics = ':9108'\nexec = '/home/pi/ring'"),
    ],
)
def test_systemd_takes_it_and_finds_it_no_more_exposed_than_the_unit_of_0_1_0(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stream: str, top: str, state: str
) -> None:
    program = tmp_path / "bin" / "edgekd-gateway"  # it must be there
    program.parent.mkdir()
    program.symlink_to("/bin/true")
    monkeypatch.setattr(sys, "argv", [str(program)])
    path = tmp_path / "edgekd.service"
    path.write_text(printed(tmp_path, f"{stream}\nstate = '{state}'", top, file="/etc/edgekd/50% of $it.toml"))
    for arguments in (["verify"], ["security", "--offline=true"]):
        done = subprocess.run(["systemd-analyze", *arguments, path], capture_output=True, text=True, timeout=60)
        assert done.returncode == 0 and not done.stderr, done.stderr
    exposure = re.search(r"exposure level for edgekd.service: ([\d.]+)", done.stdout)
    assert exposure and float(exposure[1]) <= EXPOSURE
