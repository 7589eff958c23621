"""Many lines at once give what they give one by one, whatever is wrong with some of them."""

from __future__ import annotations

import contextlib
import random
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.promises.damaged_lines import damaged
from edgekd.runtime.errors import UsageError
from edgekd.runtime.layout import PLAIN, Layout
from edgekd.runtime.sources import Row, blocks
from edgekd.runtime.sources.blocks import NUMERIC, numbers
from edgekd.runtime.sources.row_parser import FirstLine
from edgekd.runtime.sources.row_reader import RowReader
from tests.step_models import step_manifest

CELLS = st.one_of(
    st.text(NUMERIC.decode(), max_size=6),
    st.floats().map(repr),
    st.floats(-1e6, 1e6).map("{:.6g}".format),
    st.floats(1e-30, 1e30).map("{:.3e}".format),
    st.integers(-(10**20), 10**20).map(str),
    st.sampled_from(["-0", "+0.", "1e400", "-1E-400", "1e22", "1e23", "9007199254740993", "1e99999999999999999999"]),
)


@settings(max_examples=150, deadline=None)
@given(st.lists(CELLS.filter(lambda cell: set(cell.encode()) <= set(NUMERIC)), min_size=1, max_size=8))
def test_numbers_are_those_that_float_reads(cells: list[str]) -> None:
    wanted: list[float] = []
    with contextlib.suppress(ValueError):
        wanted.extend(map(float, cells))
    found = numbers("".join(f"{cell}," for cell in cells).lower().encode())
    assert found.tobytes() == np.array(wanted[: len(found)]).tobytes()
    assert len(found) == len(wanted) or len(wanted) < len(cells)


LAYOUTS = {
    "plain": PLAIN,
    "time": Layout(time=("time",), time_format="iso", gaps=True),
    "any time": Layout(time=("time",), gaps=True),
    "semicolons": Layout(separator=";"),
    "comments": Layout(comment="-"),
    "count": Layout(sequence="count", gaps=True),
    "checksum": Layout(checksum=True),
    "steps": Layout(difference=("s1",)),
}
COLUMNS = (
    ("time", "s0", "s1", "s2"),
    ("s2", "s0", "s1"),
    ("time", "count", "s0", "s1", "s2", "label"),
    ("s0", "s1", "s2", "time"),
)
DAMAGED = ("", "nan", "text", " 1.5", "1_0", "0x1", '"2"', "inf", "ü", "1.2.3", "1-2", "1e5e3", "-", ".")


def recording(columns: tuple[str, ...], mark: str, count: int, share: float, fate: random.Random) -> bytes:
    """Rows of a sensor or two, a share of them damaged."""
    lines, at = [mark.join(columns).encode()], 0
    for _ in range(count):
        at += fate.choice((1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 2, 4, -3)) if fate.random() < share else 1
        cells = {"time": f"2025-03-03 00:{at // 60 % 60:02}:{at % 60:02}", "count": str(at), "label": "0"}
        written = [cells.get(name) or _value(fate) for name in columns]
        if fate.random() < share / 2:
            written[fate.randrange(len(written))] = fate.choice(DAMAGED)
        line = mark.join(written).encode()
        if fate.random() < share / 2:
            line = fate.choice(
                (
                    damaged(line, fate), b"", line + mark.encode() + b"1", line.rpartition(mark.encode())[0], b"# a",
                    lines[0], b"\xff\xfe" + line, b" " + line + b" ", line.replace(b":", b"."), b"9" * 5000 + line,
                )
            )  # fmt: skip
        lines.append(line)
    return b"\n".join(lines) + b"\n"


def _value(fate: random.Random) -> str:
    value = fate.gauss(0, 100)
    return fate.choice((f"{value:.3f}", f"{value:.3f}", repr(value), f"{value:.2e}", str(round(value))))


def read(data: bytes, pieces: list[int], at_least: int, monkeypatch: pytest.MonkeyPatch, **how: Any) -> list[Any]:
    """Whatever comes of it, in blocks of so many lines at least."""
    monkeypatch.setattr(blocks, "FEWEST", at_least)
    found: list[Any] = []
    reader = RowReader(step_manifest(3, 1, 5, 1.0), {}, **how)
    try:
        begin = 0
        for end in [*pieces, len(data)]:
            found += reader.feed(data[begin:end])
            begin = end
            found.append((reader.good, reader.bad, reader.last_bad, reader.parser.lines, reader.parser.rows))
        found += reader.end()
    except UsageError as error:
        found.append(str(error))
    return [(i.values.tobytes(), replace(i, values=i.values.dtype)) if isinstance(i, Row) else i for i in found]


@settings(max_examples=150, deadline=None)
@given(
    layout=st.sampled_from(list(LAYOUTS)),
    columns=st.sampled_from(COLUMNS),
    rule=st.sampled_from(FirstLine.__args__),
    live=st.booleans(),
    share=st.sampled_from((0.0, 0.02, 0.2)),
    seed=st.integers(0, 2**32),
)
def test_many_lines_are_what_each_of_them_is(
    layout: str, columns: tuple[str, ...], rule: FirstLine, live: bool, share: float, seed: int
) -> None:
    fate = random.Random(seed)
    data = recording(columns, ";" if layout == "semicolons" else fate.choice(",,,;\t"), 200, share, fate)
    pieces = sorted(fate.sample(range(len(data)), 3))
    how: dict[str, Any] = {"first_line": rule, "layout": LAYOUTS[layout], "live": live}
    with pytest.MonkeyPatch.context() as patch:
        assert read(data, pieces, 8, patch, **how) == read(data, pieces, 10**9, patch, **how)
