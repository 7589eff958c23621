"""A damaged label, count, header or image costs itself: verdicts go on, and a real gap stays one."""

from __future__ import annotations

import io
import json
import random
import zipfile
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from device import events_of, run
from hypothesis import given
from hypothesis import strategies as st
from step_models import step_file, step_manifest, step_samples

from bench.promises.layouts import label_of
from edgekd.runtime.layout import Layout
from edgekd.runtime.sources import InputEvent, Row
from edgekd.runtime.sources.images import FrameReader, NoSample
from edgekd.runtime.sources.row_reader import RowReader

ROWS, WINDOW, PERIOD_S = 400, 40, 60
FORMATS = {
    "iso": "", "iso z": "", "epoch s": "", "epoch ms": "", "excel": "excel", "time of day": "elapsed",
    "d.m.Y": "%d.%m.%Y %H:%M:%S", "m/d/Y": "%m/%d/%Y %H:%M:%S", "compact": "%Y%m%d%H%M%S", "count": "",
}  # fmt: skip
BEGAN = datetime(2026, 3, 3, 20, 40)  # midnight comes within the rows


def damaged(label: str, fate: random.Random) -> str:
    """One digit is another."""
    at = fate.choice([i for i, char in enumerate(label) if char.isdigit()])
    return label[:at] + fate.choice([char for char in "0123456789" if char != label[at]]) + label[at + 1 :]


def labels(form: str, fate: random.Random, share: float) -> list[str]:
    """Those of all rows, some damaged, but at both ends."""
    found = [
        str(2000 + i) if form == "count" else label_of(form, BEGAN + timedelta(minutes=i), BEGAN) for i in range(ROWS)
    ]
    return [
        damaged(label, fate) if 40 < i < ROWS - 4 and fate.random() < share else label for i, label in enumerate(found)
    ]


def read(
    text: str, n: int = 1, live: bool = True, piece: int = 997, **layout: Any
) -> tuple[list[Row | InputEvent], RowReader]:
    """What becomes of lines that come in such pieces."""
    manifest = step_manifest(n, 4, WINDOW, PERIOD_S)
    reader = RowReader(manifest, {}, "anything", "x", Layout(**layout), live, likely=True)
    data = text.encode()
    items = [item for at in range(0, len(data), piece) for item in reader.feed(data[at : at + piece])]
    return items + reader.end(), reader


def values(items: list[Row | InputEvent]) -> np.ndarray:
    """(T,) of the first sensor; raises where an event is among them."""
    assert not [item.words for item in items if isinstance(item, InputEvent)]
    return np.array([item.values[0] for item in items if isinstance(item, Row)])


@pytest.mark.parametrize("live", [True, False])
@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("seed", range(3))
def test_a_damaged_digit_of_a_label_costs_its_row_at_most(form: str, live: bool, seed: int) -> None:
    fate = random.Random(seed)
    lines = ["label;s0", *(f"{label};{i}" for i, label in enumerate(labels(form, fate, 0.04)))]
    named = {"sequence": "label"} if form == "count" else {"time": ("label",), "time_format": FORMATS[form]}
    items, reader = read(
        "\n".join([*lines, ""]), live=live, piece=fate.randrange(1, 5000), gaps=True, separator=";", **named
    )
    got = values(items)
    assert abs(len(got) - ROWS) <= 1 and np.isnan(got).mean() < 0.02
    assert reader.bad < 0.06 * ROWS
    kept = got[~np.isnan(got)]
    assert (np.diff(kept) > 0).all() and kept[-1] == ROWS - 1


@given(st.integers(2, 300), st.integers(0, ROWS), st.integers(1, 500), st.booleans())
def test_a_gap_stays_a_gap_however_the_bytes_come(missing: int, after: int, piece: int, by_count: bool) -> None:
    at = [i + missing * (i >= after) for i in range(ROWS)]
    kind = {"sequence": "label"} if by_count else {"time": ("label",)}
    label = str if by_count else lambda i: (BEGAN + timedelta(minutes=i)).isoformat()
    text = "label,s0\n" + "".join(f"{label(i)},{k}\n" for k, i in enumerate(at))
    items, reader = read(text, piece=piece, live=not by_count, gaps=True, **kind)
    again, _ = read(text, piece=100_000, live=not by_count, gaps=True, **kind)
    assert reader.bad == 0 and [
        item.values[0] for item in items if isinstance(item, Row) and item.values[0] == item.values[0]
    ] == [*range(ROWS)]
    assert [getattr(item, "words", "") for item in items] == [getattr(item, "words", "") for item in again]
    between = 34 if not by_count else 1  # time labels have to come steadily first
    if between <= after < ROWS:
        told = [item for item in items if isinstance(item, InputEvent)]
        assert len(items) == ROWS + (1 if missing > WINDOW else missing) and len(told) == (missing > WINDOW)


@pytest.mark.parametrize("merged", [False, True])
def test_rows_that_are_yet_to_be_made_samples_survive_it_too(merged: bool) -> None:
    fate = random.Random(1)
    lines = ["time,s0,s1\n"]
    for k, label in enumerate(labels("iso z", fate, 0.0)):
        for part in range(3):
            late = (datetime.fromisoformat(label) + timedelta(seconds=15 * part)).strftime("%Y-%m-%dT%H:%M:%SZ")
            late = damaged(late, fate) if 40 < k < ROWS - 4 and fate.random() < 0.02 else late
            lines.append(json.dumps({"time": late, f"s{part % 2}": k}) + "\n" if merged else f"{late},{k},{k}\n")
    items, _ = read("".join(lines[merged:]), 2, **({} if merged else {"resample": "last"}))
    got = values([item for item in items if not isinstance(item, InputEvent) or item.event != "merging"])
    assert abs(len(got) - ROWS) <= 3 and np.isnan(got).sum() <= 3


def test_the_detector_is_not_blind_where_every_fiftieth_year_is_another(tmp_path: Path) -> None:
    model = step_file(tmp_path / "m.onnx", 2, 10, warmup=60, period_s=60)
    rows = [f"{label},{a},{b}" for label, (a, b) in zip(labels("iso z", random.Random(0), 0), step_samples(2, ROWS))]
    bad = [row.replace("2026", "2027") if i % 50 == 40 else row for i, row in enumerate(rows)]
    scores = []
    for lines in (rows, bad):
        done = run("--model", model, "--stdin", "--scores", input="\n".join(["time,s0,s1", *lines, ""]))
        assert done.returncode == 0 and not events_of(done.stdout, "input_gap"), done.stderr
        scores.append(events_of(done.stdout, "score"))
    assert scores[0] == scores[1] and len(scores[0]) == 35
    assert events_of(done.stdout, "bad_lines")[-1]["total"] == 8


@pytest.mark.parametrize(
    "header", ["timx,s0,s1", "time,s0,s1,", "time,s0,x,s1", "ti,me,s0,s1", "time,s0,s0", "s1,s0", "time;s0,s1"]
)
def test_a_damaged_header_in_the_middle_is_none(header: str) -> None:
    rows = [f"{label},{i},{-i}" for i, label in enumerate(labels("iso", random.Random(0), 0))]
    items, _ = read("\n".join(["time,s0,s1", *rows[:200], header, *rows[200:], ""]), 2)
    assert values(items).tolist() == [*range(ROWS)]
    assert all(
        item.seconds is not None and item.values[1] == -item.values[0] for item in items if isinstance(item, Row)
    )


def test_other_columns_from_now_on_are_taken() -> None:
    items, reader = read("time,s0,s1\n1,2,3\ntime,s1,s0\n9,3,2\nx,y,s0,s1\n1,1,2,3\n", 2)
    assert [item.values.tolist() for item in items if isinstance(item, Row)] == [[2, 3]] * 3 and reader.bad == 0


@pytest.mark.parametrize("label", ["nan", "inf", "-inf", "1e999", "\\ud800", "\\u0000\\u001b[2J", "9" * 400, ""])
def test_a_label_of_any_text_costs_no_more(tmp_path: Path, label: str) -> None:
    model = step_file(tmp_path / "m.onnx", 1, 4, period_s=60)
    rows = [json.dumps({"time": 1e9 + 60 * i, "s0": i}) for i in range(100)]
    rows[60] = f'{{"time": "{label}", "s0": 60}}'
    done = run("--model", model, "--stdin", "--scores", "--record", tmp_path / "r.csv", input="\n".join([*rows, ""]))
    assert done.returncode == 0, done.stderr
    assert len(events_of(done.stdout, "score")) == 25 and not events_of(done.stdout, "input_gap")
    recorded = (tmp_path / "r.csv").read_text()
    assert len(recorded.splitlines()) == 101 and all(line.isprintable() for line in recorded.splitlines())


def npy(shape: str, data: bytes = bytes(64), descr: str = "'<f8'") -> bytes:
    head = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + len(head).to_bytes(2, "little") + head.encode() + data


def zipped() -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("a.npy", npy("(4, 4)", bytes(128)))
    return packed.getvalue()


@pytest.mark.parametrize(
    "content",
    [
        npy("(100000000, 100000000)"), npy("(-1, 4)"), npy("(" * 90), npy("(4, 4)", b""), npy("()"),
        npy("(4, 4)", bytes(640), "[('a', '<f8')]"), npy("(4, 4)", b"cos\nsystem", "'|O'"), zipped(), b"\x80\x04.", b"",
    ],
)  # fmt: skip
def test_a_bad_image_is_one_bad_image(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.npy").write_bytes(content)
    with pytest.raises(NoSample) as refused:
        FrameReader((4, 4)).read(tmp_path / "x.npy")
    assert str(refused.value).isprintable() and len(str(refused.value)) < 200


def test_a_large_picture_is_refused_before_it_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reader = FrameReader((4, 4))
    (tmp_path / "good.pgm").write_text("P2 4 4 255\n" + "7 " * 16)
    assert reader.read(tmp_path / "good.pgm").tolist() == [[7] * 4] * 4
    (tmp_path / "large.pgm").write_text("P2 400 400 255\n" + "7 " * 160_000)
    monkeypatch.setattr(Path, "read_bytes", lambda path: pytest.fail("it was read"))
    with pytest.raises(NoSample, match="4 x 4"):
        reader.read(tmp_path / "large.pgm")
