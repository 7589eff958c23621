"""What a gateway writes goes over nothing that is there."""

from __future__ import annotations

from pathlib import Path

import pytest
from gateway_device import gateway_toml, run_file

from edgekd.runtime.gateway.check import check_all
from edgekd.runtime.gateway.segments import scan


@pytest.mark.parametrize(
    ("keys", "says"),
    [
        ("--csv {0}/x.csv --record {0}/x.csv", "record would write over the file of csv"),
        ("--csv {0}/x.csv --follow --record {0}/link", "record would write over the file of csv"),
        ("--stdin --state {0}/x.csv", "x.csv: is no state file"),
        ("--stdin --state {0}/new --record {0}/new.lock", "record would write over the file of the lock of state"),
        ("--stdin --state {0}/new --record {0}/new.outbox", "the outbox would be what record names"),
        ("--stdin --record {0}/new --outbox {0}/new", "the outbox would be what record names"),
    ],
)
def test_a_gateway_keeps_what_is_there(folder: Path, tmp_path: Path, keys: str, says: str) -> None:
    (tmp_path / "x.csv").write_text("time,s0,s1,s2\n0,1,2,3\n")
    (tmp_path / "link").symlink_to("x.csv")
    file = tmp_path / "gateway.toml"
    file.write_text(gateway_toml("--model", folder / "m.onnx", "--exec", "true", *keys.format(tmp_path).split()))
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    (finding,) = check_all(str(file))
    assert not finding.ok and says in finding.words
    done = run_file(file, input="")
    assert done.returncode == 2 and says in done.stderr and done.stdout == ""
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_an_outbox_takes_its_own_files_alone(tmp_path: Path) -> None:
    (tmp_path / "pump.events").write_text("no records\n")
    (tmp_path / "0000000000000001.events").write_text("torn by a power cut")
    assert scan(tmp_path) == ([], 1)
    kept = {path.name: path.read_text() for path in tmp_path.iterdir()}
    assert kept == {"pump.events": "no records\n", "0000000000000001.events.corrupt": "torn by a power cut"}
