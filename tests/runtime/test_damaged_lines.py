"""Damaged lines by the thousand: none raises, none that was whole is lost; `bench.promises` has a million."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from device import ROOT
from hypothesis import given
from hypothesis import strategies as st
from step_models import step_file, step_manifest

from bench.promises.damaged_lines import damaged
from edgekd.runtime.layout import Layout
from edgekd.runtime.sources import Row
from edgekd.runtime.sources.row_parser import RowParser
from edgekd.runtime.sources.row_reader import RowReader

# in a process of its own: what other tests have left in this one's memory would be measured, too
FUZZ = """
import json, sys
from bench.promises.damaged_lines import fuzz
from edgekd.runtime import Detector
detector = Detector.load(sys.argv[1])
found = fuzz(detector.manifest, detector.update, int(sys.argv[2]), int(sys.argv[3]))
print(json.dumps({**found, "scored": detector.samples_seen}))
"""


@pytest.mark.parametrize(("count", "seed"), [(20_000, 1), pytest.param(1_000_000, 2, marks=pytest.mark.slow)])
def test_damaged_lines_are_counted_and_whole_ones_scored(tmp_path: Path, count: int, seed: int) -> None:
    model = step_file(tmp_path / "m.onnx", 8, 4)
    command = [sys.executable, "-c", FUZZ, str(model), str(count), str(seed)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["undamaged"] > count / 2 and found["counted as bad"] > count / 5
    assert found["scored"] == found["undamaged"] + found["damaged, still rows"]
    assert found["RSS growth MiB"] < 1.0


@pytest.mark.parametrize("time_format", ["s", "elapsed"])
@pytest.mark.parametrize("at", [0, 60])
@pytest.mark.parametrize("resample", ["", "mean"])
def test_times_beyond_all_clocks_cost_their_rows_at_most(time_format: str, at: int, resample: str) -> None:
    times: list[object] = [60.0 * i for i in range(100)]
    times[at : at + 2] = ["1e308", "-1.7e308"]
    layout = Layout(names=("time", "s0"), time=("time",), time_format=time_format, gaps=True, resample=resample)
    reader = RowReader(step_manifest(1, 1), {}, layout=layout, live=True)
    items = reader.feed("".join(f"{time},1\n" for time in times).encode()) + reader.end()
    assert sum(isinstance(item, Row) for item in items) >= 98


valid = st.sampled_from(
    [b"1.5,-2,3e5", b'{"a": 1.5, "b": -2, "c": 3e5}', b"[1.5,-2,3e5]", b"1;2,5;3", b"7,1.5,-2,3e5*5E"]
)
layouts = st.builds(Layout, checksum=st.booleans(), sequence=st.sampled_from(["", "n"]))


@given(st.lists(st.tuples(valid, st.randoms(use_true_random=False)), max_size=20), layouts)
def test_the_short_way_reads_what_the_long_one_reads(lines: list, layout: Layout) -> None:
    short, long = (RowParser(("a", "b", "c"), layout=layout) for _ in range(2))
    long._short_way = lambda text: None  # type: ignore[method-assign]
    for line, fate in lines:
        text = damaged(line, fate) if fate.random() < 0.7 else line
        for part in text.split(b"\n"):
            a, b = short.parse(part), long.parse(part)
            assert (a is None) == (b is None) and short.tally.last_bad == long.tally.last_bad
            if a is not None and b is not None:
                assert a.values.tobytes() == b.values.tobytes() and (a.time, a.sequence) == (b.time, b.sequence)
    assert short.tally.bad == long.tally.bad
