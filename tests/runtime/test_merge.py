"""Messages of one sensor, or some, to one sample a period."""

from __future__ import annotations

import json
import time
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from step_models import step_file, step_manifest

from edgekd.runtime import Detector
from edgekd.runtime.layout import Layout
from edgekd.runtime.sources import InputEvent, Row
from edgekd.runtime.sources.row_reader import RowReader

Said = dict[int, float]
NAN = float("nan")
BEGAN_MS = 1_740_981_600_000


def fed(n: int, messages: list[tuple[float | None, Said]], live: bool = True, **layout: Any) -> list[Row | InputEvent]:
    """What becomes of messages, seconds or none and sensors' values, at a period of 1 s."""
    reader = RowReader(step_manifest(n, 1, warmup=20), {}, layout=Layout(**layout), live=live)
    items: list[Row | InputEvent] = []
    for at, said in messages:
        stamp = {} if at is None else {"ts": BEGAN_MS + round(at * 1000)}
        items += reader.feed(json.dumps({f"s{i}": value for i, value in said.items()} | stamp).encode() + b"\n")
    items += reader.end()
    assert reader.bad == 0
    return items


def samples(items: list[Row | InputEvent]) -> np.ndarray:
    return np.array([item.values for item in items if isinstance(item, Row)])


def events(items: list[Row | InputEvent]) -> list[str]:
    return [item.event for item in items if isinstance(item, InputEvent)]


@st.composite
def rounds(draw: st.DrawFn) -> tuple[int, list[list[tuple[float, Said]]]]:
    """n sensors; rounds of messages in any order and grouping, within half a period."""
    n = draw(st.integers(2, 6))
    found = []
    for k in range(draw(st.integers(1, 12))):
        order = draw(st.permutations(range(n)))
        cuts = sorted({0, n, *draw(st.lists(st.integers(1, n - 1), min_size=1, max_size=n))})
        times = sorted(draw(st.floats(0, 0.45)) for _ in cuts[1:])
        parts = zip(times, cuts, cuts[1:])
        found.append([(k + at, {i: float(k) for i in order[a:b]}) for at, a, b in parts])
    return n, found


@given(rounds(), st.sampled_from(["labels", "clock", "file"]))
def test_any_interleaving_gives_one_sample_a_round(said: tuple[int, Any], kind: str) -> None:
    n, found = said
    messages = [(at if kind == "labels" else None, values) for parts in found for at, values in parts]
    items = fed(n, messages, kind != "file", merge=kind == "file")
    assert np.array_equal(samples(items), [[k] * n for k in range(len(found))])
    assert events(items) == ["merging"] * (kind != "file")
    if kind == "labels":
        labels = [item.time for item in items if isinstance(item, Row)]
        assert labels == [BEGAN_MS + round(parts[0][0] * 1000) for parts in found]


@given(
    st.lists(
        st.tuples(st.floats(0, 1), st.sampled_from([0.25, 0.5, 1.0, 2.0, 3.0]), st.integers(0, 10)),
        min_size=1,
        max_size=4,
    ),
    st.randoms(use_true_random=False),
)
def test_sensors_of_other_rates_and_late_ones_make_no_difference(sensors: list[Any], random: Any) -> None:
    messages = []
    for i, (phase, every, first) in enumerate([(0.0, 1.0, 0), *sensors]):
        for k in range(int(40 / every)):
            at = 1 + phase + k * every + random.uniform(-0.1, 0.1) * min(every, 1.0)
            if at >= 1 + first:
                messages.append((at, {i: at}))
    n = len(sensors) + 1
    ordered = sorted(messages, key=lambda message: message[0])
    items = fed(n, ordered, merge=True)
    got = samples(items)
    assert abs(len(got) - 40) <= 3 and events(items) == []
    newest = np.fmax.accumulate(got)  # of each sensor in turn, as the detector holds it
    assert np.nanmax(np.diff(newest[:, 0])) <= 2.7  # a value of each period but where two share one


@given(st.integers(3, 5).flatmap(lambda n: st.tuples(st.just(n), st.lists(st.sets(st.integers(0, n - 1), min_size=1)))))
def test_an_absent_key_is_a_missing_value_where_messages_began_whole(said: tuple[int, list[set[int]]]) -> None:
    n, keys = said
    rows = [set(range(n)), *keys]
    items = fed(n, [(None, dict.fromkeys(keys, float(k))) for k, keys in enumerate(rows)])
    want = [[k if i in keys else NAN for i in range(n)] for k, keys in enumerate(rows)]
    assert np.array_equal(samples(items), want, equal_nan=True) and events(items) == []


def test_messages_that_share_a_sensor_are_samples() -> None:
    items = fed(3, [(None, {0: 1, 1: 1}), (None, {1: 2, 2: 2}), (None, {0: 3}), (None, {2: 4})])
    assert np.array_equal(samples(items), [[1, 1, NAN], [NAN, 2, 2], [3, NAN, NAN], [NAN, NAN, 4]], equal_nan=True)


def test_a_sensor_that_is_late_shows_that_messages_are_parts() -> None:
    items = fed(2, [*((k, {0: k}) for k in range(3)), *((k + i / 4, {i: k}) for k in range(3, 6) for i in range(2))])
    want = [*([k, NAN] for k in range(4)), [4, 3], [5, 4], [NAN, 5]]
    assert np.array_equal(samples(items), want, equal_nan=True)
    assert events(items) == ["merging"]


def test_without_labels_the_clock_ends_a_sample_and_silence_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    reader = RowReader(step_manifest(2, 1, warmup=5), {}, layout=Layout(merge=True), live=True)

    def at(seconds: float, said: bytes = b"") -> list[Any]:
        nonlocal now
        now = 1000.0 + seconds
        return [item.values.tolist() if isinstance(item, Row) else item.event for item in reader.feed(said)]

    assert at(0, b'{"s0":1}\n') == [] and at(0.9) == []
    first = at(1.1)
    assert first[0][0] == 1 and np.isnan(first[0][1]) and at(2.5) == at(3.5) == []
    silent = at(4.2, b'{"s0":2}\n{"s1":2}\n')
    assert silent.pop() == [2, 2] and np.isnan(silent).all() and len(silent) == 3
    assert at(60, b'{"s0":3}\n{"s1":3}\n')[-2:] == ["input_gap", [3, 3]]


def test_a_sensor_that_stops_is_held_as_long_as_the_model_may(tmp_path: Any) -> None:
    detector = Detector.load(step_file(tmp_path / "m.onnx", 2, 1))
    items = fed(2, [(k + i / 4, {i: k}) for k in range(12) for i in range(2 if k < 3 else 1)])
    changes = []
    for item in items:
        if isinstance(item, Row):
            detector.update(item.values)
            changes += [(change.sample, change.sensor) for change in detector.sensor_changes() if change.missing]
    assert detector.samples_seen == 12
    assert changes == [(6, "s1")]  # samples 3, 4, 5 are held
