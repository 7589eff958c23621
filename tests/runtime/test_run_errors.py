"""What a user who got something wrong reads: one line, and the exit code."""

from __future__ import annotations

import gzip
import io
import json
import os
import signal
import sys
import zipfile
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from device import events_of, run, write_csv
from step_models import step_graph, step_samples

from edgekd.export.embed import embed
from edgekd.runtime.cli import main
from edgekd.runtime.guard import admit

N = 3


@pytest.fixture(scope="module")
def folder(folder: Path) -> Path:
    """And what is wrong in one way or another."""
    write_csv(folder / "two.csv", step_samples(2, 8))
    (folder / "header.csv").write_text("s0,s1,s2\n")
    (folder / "bare.csv").write_text("1,2,3\n" * 8)
    objects = ['{"s0": 1, "s1": 2, "s2": 3}'] * 8
    (folder / "x.jsonl").write_text("\n".join(objects))
    (folder / "x.json").write_text(f"[{', '.join(objects)}]")
    (folder / "group.toml").write_text("group = 'machine=A'\n")
    (folder / "names.toml").write_text("names = ['s0', 's1', 's2']\n")
    (folder / "plain.onnx").write_bytes(step_graph(N, 4).SerializeToString())
    manifest, _ = admit(folder / "m.onnx", try_first=False)
    (folder / "wrong.onnx").write_bytes(embed(step_graph(N, 4, seed=1).SerializeToString(), manifest))
    return folder


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        ("--model m.onnx", 2, "--serial DEV, --csv FILE or --stdin (got none)"),
        ("--model m.onnx --csv x.csv --stdin", 2, "got --csv and --stdin"),
        ("--model none.onnx --csv x.csv", 2, "none.onnx"),
        ("--model m.onnx --csv none.csv", 2, "none.csv: No such file or directory"),
        ("--model m.onnx --csv .", 2, "Is a directory"),
        (
            "--model m.onnx --csv two.csv",
            2,
            "two.csv: the header lacks 's2'; name its column with --map 's2=COLUMN'",
        ),
        ("--model m.onnx --csv m.onnx", 2, "m.onnx: is no text"),
        ("--model m.onnx --csv header.csv", 2, "header.csv: holds no samples"),
        (
            "--model m.onnx --csv x.csv --map t=s1",
            2,
            "--map 't=s1' is not NAME=COLUMN with one of the model's sensors (s0, s1",
        ),
        ("--model m.onnx --csv x.csv --map s1=zz", 2, "the header lacks 'zz'"),
        *(
            (f"--model m.onnx --csv {file} --time ts", 2, f"{file}: there is no 'ts', the column of --time")
            for file in ("x.csv", "x.jsonl", "x.json", "bare.csv")
        ),
        ("--model m.onnx --csv bare.csv --layout names.toml --time ts", 2, "there is no 'ts', the column of --time"),
        ("--model m.onnx --csv x.csv --sequence n", 2, "x.csv: there is no 'n', the column of --sequence"),
        ("--model m.onnx --csv x.jsonl --sequence n", 2, "x.jsonl: there is no 'n', the column of --sequence"),
        ("--model m.onnx --csv x.csv --checksum nmea", 2, "there is no checksum at its end"),
        ("--model m.onnx --csv x.jsonl --layout group.toml", 2, "there is no 'machine', the column of group"),
        ("--model m.onnx --csv x.csv --threshold nan", 2, "finite"),
        ("--model m.onnx --csv x.csv --json", 2, "--check"),
        ("--model m.onnx --csv x.csv --record two.csv", 2, "two.csv: holds other columns"),
        (
            "--model plain.onnx --csv x.csv",
            3,
            "plain.onnx: there is no manifest in this file; write it with edgekd export",
        ),
        ("--model x.csv --check", 3, "x.csv: this is neither an ONNX nor a TFLite file"),
        ("--model wrong.onnx --csv x.csv", 1, "self-test"),
        ("--model wrong.onnx --check", 1, "self-test failed"),
    ],
)
def test_errors_are_one_line_with_a_way_out(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: str,
    code: int,
    says: str,
) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "argv", ["edgekd-run", *arguments.split()])
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    with pytest.raises(SystemExit) as ended:
        main()
    *usage, last = capsys.readouterr().err.strip().splitlines()
    assert ended.value.code == code
    assert says in last and last.isprintable()
    assert not usage or usage[0].startswith("Usage:")


def test_a_file_that_cannot_be_unpacked_is_one_line(folder: Path, tmp_path: Path) -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("x.csv", "s0,s1,s2\n1,2,3\n")
    whole, entry = packed.getvalue(), packed.getvalue().index(b"PK\x01\x02")
    deflated = gzip.compress(b"s0,s1,s2\n1,2,3\n" * 999)
    for content in (
        _with(whole, {6: 1, entry + 8: 1}),  # encrypted
        _with(whole, {8: 99, entry + 10: 99}),  # by a method of another program
        deflated[:10] + b"\xff" * (len(deflated) - 10),
        b"[" * 100_000,  # as JSON, deeper than Python reads
    ):
        (tmp_path / "x.csv").write_bytes(content)
        done = run("--model", folder / "m.onnx", "--csv", tmp_path / "x.csv")
        assert (done.returncode, len(done.stderr.splitlines())) == (2, 1), done.stderr


def _with(data: bytes, changes: dict[int, int]) -> bytes:
    changed = bytearray(data)
    for at, byte in changes.items():
        changed[at] = byte
    return bytes(changed)


def test_standard_input_that_cannot_be_read_is_lost(folder: Path, tmp_path: Path) -> None:
    with (tmp_path / "written").open("w") as file:
        done = run("--model", folder / "m.onnx", "--stdin", stdin=file)
    assert done.returncode == 4 and "standard input: cannot be read" in done.stderr


def test_a_state_behind_links_that_go_round_stops_nothing(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "round").symlink_to("round")
    done = run("--model", folder / "m.onnx", "--csv", folder / "x.csv", "--state", tmp_path / "round" / "state")
    assert done.returncode == 0 and events_of(done.stdout, "state_not_saved")


def test_check_tells_people_and_machines(folder: Path) -> None:
    people = run("--model", folder / "m.onnx", "--check")
    assert people.returncode == 0 and people.stderr == ""
    assert "self-test  passed, 12 steps" in people.stdout and "3: s0, s1, s2" in people.stdout
    report = json.loads(run("--model", folder / "m.onnx", "--check", "--json").stdout)
    assert report["ok"] and report["hop"] == 4 and report["self_test"]["worst_error"] < 1e-4
    failed = run("--model", folder / "wrong.onnx", "--check", "--json")
    assert failed.returncode == 1 and json.loads(failed.stdout)["ok"] is False
    refused = run("--model", folder / "plain.onnx", "--check", "--json")
    assert refused.returncode == 3 and "no manifest" in json.loads(refused.stdout)["error"]


def test_an_anomaly_reads_as_documented(folder: Path) -> None:
    done = run("--model", folder / "m.onnx", "--csv", folder / "x.csv", "--scores", "--cooldown", "0s")
    kinds = {event["event"]: list(event) for event in events_of(done.stdout)}
    assert kinds["anomaly"] == ["event", "sample", "time", "score", "threshold", "severity", "sensors"]
    assert kinds["anomaly_end"] == ["event", "sample", "time", "start", "peak", "severity", "duration_s"]
    assert kinds["score"] == ["event", "sample", "score", "severity", "anomaly"]
    # one anomaly a rising edge, its end where the score falls again, and scores that are float32
    scores = events_of(done.stdout, "score")
    edges = [(a["anomaly"], b["anomaly"]) for a, b in zip([{"anomaly": False}, *scores], scores)]
    assert len(events_of(done.stdout, "anomaly")) == edges.count((False, True)) > 1
    assert len(events_of(done.stdout, "anomaly_end")) == edges.count((True, False))
    assert all(float(str(np.float32(event["score"]))) == event["score"] for event in scores)
    higher = run("--model", folder / "m.onnx", "--csv", folder / "x.csv", "--threshold", 1e6, "--quiet")
    assert higher.stdout == higher.stderr == ""


def test_the_options_fit_on_a_page_under_headings() -> None:
    lines = run("--help").stdout.splitlines()
    options = [i for i, line in enumerate(lines) if line.startswith("  -")]
    assert len(options) <= 28
    headings = [line for line, first in pairwise(lines) if line.endswith(":") and first.startswith("  -")]
    assert len(headings) >= 6 and not any(heading.startswith(" ") for heading in headings)
    assert headings[:2] == ["Model:", "Input, one of these:"]


def test_options_come_from_the_environment_too(folder: Path) -> None:
    options = {"EDGEKD_MODEL": str(folder / "m.onnx"), "EDGEKD_CSV": str(folder / "x.csv"), "EDGEKD_SCORES": "1"}
    assert len(events_of(run(env={**os.environ, **options}).stdout, "score")) == 40


def test_columns_are_renamed_and_reordered(folder: Path, tmp_path: Path) -> None:
    samples = step_samples(N, 160)
    rows = [f"2026-01-01T00:00:{i % 60:02d},{row[2]},0,{row[0]},{row[1]}" for i, row in enumerate(samples)]
    (tmp_path / "y.csv").write_text("\n".join(["Time,s2,label,flow,s1", *rows]))
    want = run("--model", folder / "m.onnx", "--csv", folder / "x.csv", "--scores")
    got = run("--model", folder / "m.onnx", "--csv", tmp_path / "y.csv", "--scores", "--map", "s0=flow")
    assert events_of(got.stdout, "score") == events_of(want.stdout, "score")
    assert events_of(got.stdout, "anomaly")[0]["time"].startswith("2026-01-01T00:00:")


def test_a_wrong_rate_is_said_once(folder: Path, tmp_path: Path) -> None:
    rows = [f"{60 * i},0,1,2" for i in range(100)]
    (tmp_path / "slow.csv").write_text("\n".join(["time,s0,s1,s2", *rows]))
    done = run("--model", folder / "m.onnx", "--csv", tmp_path / "slow.csv")
    assert events_of(done.stdout, "rate_mismatch") == [{"event": "rate_mismatch", "observed_s": 60.0, "period_s": 1.0}]
    assert "every 60 s, but the model was made for one every 1 s" in done.stderr
