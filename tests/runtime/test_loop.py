"""The loop, turn by turn: whoever drives it gets the same events, and no turn waits."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from device import PATIENCE_S
from step_models import step_file, step_manifest, step_samples

from edgekd.runtime.detector import Detector, Verdict
from edgekd.runtime.episodes import Episodes
from edgekd.runtime.errors import UsageError
from edgekd.runtime.loop import Loop, Watcher
from edgekd.runtime.sources import InputEvent, Items, Row, Source
from edgekd.runtime.sources.images import FrameReader
from edgekd.runtime.sources.read_ahead import ReadAhead
from edgekd.runtime.sources.row_reader import RowReader
from edgekd.runtime.sources.stdin import Stdin

N, HOP = 3, 4


class Script:
    """A source that yields what it is given, and nothing now and then."""

    name, live, idle = "script", False, True

    def __init__(self, items: list[Items]) -> None:
        self.rows = RowReader(step_manifest(N, HOP), {})
        self.waits = 0
        self._items = items

    def seek(self, sample: int) -> None:
        raise NotImplementedError

    def wait(self, seconds: float) -> None:
        self.waits += 1

    def __iter__(self) -> Iterator[Items]:
        yield from self._items


def script(seed: int = 1) -> Script:
    """160 samples in uneven pieces, a sensor that is missing for a while, and a gap."""
    samples = step_samples(N, 160, seed)
    samples[40:60, 1] = np.nan
    rows: list[Row | InputEvent] = [Row(values, float(i)) for i, values in enumerate(samples)]
    rows.insert(101, InputEvent("input_gap", "a gap", {"samples": None}, rewarm=True))
    cuts = sorted(np.random.default_rng(seed).integers(0, len(rows), 30))
    return Script([rows[a:b] for a, b in zip([0, *cuts], [*cuts, len(rows)])])


class Run:
    """A loop, and what it tells."""

    def __init__(self, model: Path, source: Source, *watchers: Watcher) -> None:
        self.events: list[dict[str, Any]] = []
        self.words: list[str] = []

        def emit(event: Any) -> None:
            self.events.append({key: value for key, value in event.items() if key != "time" or "sample" in event})

        self.loop = Loop(source, Detector.load(model), Episodes(), emit, self.words.append, scores=True)
        self.loop.watchers = [*watchers]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return step_file(tmp_path_factory.mktemp("loop") / "m.onnx", N, HOP, warmup=8, threshold=0.15)


def test_turn_by_turn_is_as_run_does_it(model: Path) -> None:
    source = script()
    whole, by_hand = Run(model, source), Run(model, script())
    whole.loop.run()
    assert {event["event"] for event in whole.events} == {
        *("score", "anomaly", "anomaly_end", "sensor_missing", "sensor_back", "input_gap"),
    }
    assert source.waits == sum(not items for items in source) > 0
    by_hand.loop.begin()
    for items in by_hand.loop.source:
        by_hand.loop.turn(items)
    by_hand.loop.end()
    assert (by_hand.events, by_hand.words) == (whole.events, whole.words)
    assert by_hand.loop.summary() == whole.loop.summary() and by_hand.loop.samples == 160


def test_three_loops_in_turns_each_tell_what_they_would_alone(model: Path) -> None:
    alone = [Run(model, script(seed)) for seed in range(3)]
    together = [Run(model, script(seed)) for seed in range(3)]
    for run in alone:
        run.loop.run()
    open_ones = [(run.loop, iter(run.loop.source)) for run in together]
    while open_ones:
        for one in list(open_ones):
            loop, arriving = one
            if (items := next(arriving, None)) is None:
                open_ones.remove(one)
            else:
                loop.turn(items)
    assert [run.events for run in together] == [run.events for run in alone]
    assert len({str(run.events) for run in alone}) == 3


class Order(Watcher):
    """Writes down what it sees."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    def begin(self) -> None:
        self.seen.append("begin")

    def arrived(self, items: Items) -> None:
        self.seen.append(f"arrived {len(items)}")

    def sample(self, row: Row) -> None:
        self.seen.append("sample")

    def verdict(self, verdict: Verdict, row: Row) -> None:
        self.seen.append(f"verdict {verdict.sample}")

    def tick(self) -> None:
        self.seen.append("tick")

    def end(self) -> None:
        self.seen.append("end")


def test_a_watcher_sees_a_run_in_order(tmp_path: Path) -> None:
    model = step_file(tmp_path / "m.onnx", N, 2)
    one, two = [Row(values) for values in step_samples(N, 2)]
    watchers = Order(), Order()
    Run(model, Script([[one], [], [two]]), *watchers).loop.run()
    assert watchers[0].seen == watchers[1].seen == [
        *("begin", "arrived 1", "sample", "tick", "arrived 0", "tick"),
        *("arrived 1", "sample", "verdict 1", "tick", "end"),
    ]  # fmt: skip


def test_a_verdict_is_told_before_a_watcher_sees_it(model: Path) -> None:
    """So that the state that has seen it is saved after it was told."""
    told: list[int] = []

    class Last(Watcher):
        def verdict(self, verdict: Verdict, row: Row) -> None:
            told.append(run.events[-1]["sample"])
            assert verdict.sample == told[-1]

    run = Run(model, script(), Last())
    run.loop.run()
    assert len(told) == run.loop.verdicts > 30


def test_stop_ends_after_the_sample_in_hand_and_all_watchers_end(model: Path) -> None:
    class Stop(Order):
        def sample(self, row: Row) -> None:
            super().sample(row)
            if self.seen.count("sample") == 5:
                run.loop.stop()

    watcher = Stop()
    run = Run(model, Script([[Row(values) for values in step_samples(N, 40)]]), watcher)
    run.loop.run()
    assert run.loop.samples == 5 and watcher.seen[-2:] == ["tick", "end"]


def test_a_file_without_a_sample_is_an_error_after_all_was_told(model: Path) -> None:
    watcher = Order()
    with pytest.raises(UsageError, match="script: holds no samples"):
        Run(model, Script([[]]), watcher).loop.run()
    assert watcher.seen == ["begin", "arrived 0", "tick", "end"]


class Silent(Source):
    """An input that never says a word, and whose thread hangs there."""

    name = "silent"

    def __init__(self) -> None:
        self.rows = RowReader(step_manifest(N, HOP), {})
        self.over = threading.Event()

    def __iter__(self) -> Iterator[Items]:
        self.over.wait(PATIENCE_S)
        yield ()


@pytest.mark.parametrize("kind", ["read ahead", "pipe", "images"])
def test_a_source_that_has_nothing_says_so_at_once(model: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    silent, (out, into) = Silent(), os.pipe()
    source: Any = {
        "read ahead": lambda: ReadAhead(silent, step_manifest(N, HOP)),
        "pipe": lambda: Stdin(RowReader(step_manifest(N, HOP), {}), out),
        "images": lambda: Stdin(FrameReader((HOP, N)), out),
    }[kind]()
    run = Run(model, source)
    monkeypatch.setattr(time, "sleep", None)
    arriving = iter(source)
    began = time.monotonic()
    for _ in range(100):
        items = next(arriving)
        assert not items
        run.loop.turn(items)
    assert time.monotonic() - began < PATIENCE_S / 3  # only one that waits a tick each time takes so long
    source.wait(0.01)  # returns, too
    silent.over.set()
    os.close(into)
    source.wait(PATIENCE_S)  # there is news: the end
    assert not any(arriving)
    os.close(out)
    assert run.loop.samples == 0 and run.events == []


def test_run_waits_where_nothing_comes_and_not_longer_than_that(model: Path) -> None:
    out, into = os.pipe()
    source = Stdin(RowReader(step_manifest(N, HOP), {}), out)
    waited: list[float] = []
    wait = source.wait

    def waiting(seconds: float) -> None:
        began = time.monotonic()
        if not waited:
            threading.Timer(0.05, lambda: (os.write(into, b"1,2,3\n" * 8), os.close(into))).start()
        wait(PATIENCE_S)
        waited.append(time.monotonic() - began)

    source.wait = waiting  # type: ignore[method-assign]
    run = Run(model, source)
    run.loop.run()
    os.close(out)
    assert run.loop.samples == 8 and waited and max(waited) < PATIENCE_S / 2
