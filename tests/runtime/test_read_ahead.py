"""A live input that comes while the detector computes, or faster than it can."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from step_models import step_manifest

from edgekd.runtime.errors import InputLost
from edgekd.runtime.sources import InputEvent, Row, Source
from edgekd.runtime.sources.read_ahead import ReadAhead
from edgekd.runtime.sources.row_reader import RowReader

HOP = 4
PATIENCE_S = 30.0
Items = Sequence[Row | InputEvent]


class Script(Source):
    """A live source that yields what it is given, then what `then` does."""

    name = "script"

    def __init__(self, items: Sequence[Items], then: Callable[[], Items] | None = None) -> None:
        self.rows = RowReader(step_manifest(1, HOP), {})
        self._items, self._then = items, then
        self.done = threading.Event()

    def __iter__(self) -> Iterator[Items]:
        yield from self._items
        self.done.set()
        while self._then:
            yield self._then()


def rows(first: int, count: int) -> list[Row]:
    return [Row(np.array([i], np.float32)) for i in range(first, first + count)]


class Consumer:
    """The loop and its detector, as far as hops go; hops are lists of the values that came."""

    def __init__(self, seen: int = 0) -> None:
        self.seen, self.hop, self.hops = seen, [-1.0] * (seen % HOP), list[list[float]]()
        self.events: list[InputEvent] = []
        self.torn: list[list[float]] = []

    def take(self, items: Items) -> None:
        for item in items:
            if isinstance(item, InputEvent):
                self.events.append(item)
                if item.rewarm:  # Detector.rewarm
                    self.seen -= len(self.hop)
                    self.torn += [self.hop] if self.hop else []
                    self.hop = []
                continue
            self.hop.append(float(item.values[0]))
            self.seen += 1
            if len(self.hop) == HOP:
                self.hops.append(self.hop)
                self.hop = []


def test_what_is_not_outrun_comes_as_it_came() -> None:
    pieces: list[Items] = [rows(0, 3), [InputEvent("x", "")], rows(3, 30), rows(33, 1)]
    ahead = ReadAhead(Script(pieces), step_manifest(1, HOP))
    assert [items for items in ahead if items] == pieces and ahead.dropped == 0 and ahead.lag_s == 0


def test_what_is_outrun_is_dropped_and_told_how_many() -> None:
    source = Script([rows(0, 3), *(rows(3 + i, 1) for i in range(1000))])
    consumer = Consumer()
    ahead = ReadAhead(source, step_manifest(1, HOP), limit_rows=50)
    for i, items in enumerate(filter(None, ahead)):
        assert i or source.done.wait(PATIENCE_S)  # the first step takes as long as all the rest needs to come
        consumer.take(items)
        assert ahead.backlog <= 50
    assert ahead.dropped
    (told,) = [event for event in consumer.events if event.told]
    assert told.event == "samples_dropped" and told.fields["total"] <= ahead.dropped
    assert consumer.seen + sum(map(len, consumer.torn)) + ahead.dropped == 1003
    assert consumer.hops and all(hop == [hop[0] + i for i in range(HOP)] for hop in consumer.hops)  # none is mixed


pieces = st.lists(st.one_of(st.integers(0, 20), st.sampled_from(["event", "gap"])), min_size=1, max_size=60)


@given(pieces, st.lists(st.integers(0, 3), min_size=1, max_size=60), st.integers(0, 9), st.integers(1, 40))
def test_whatever_comes_when_no_event_is_lost_and_no_hop_is_mixed(
    script: list[int | str], turns: list[int], seen: int, limit: int
) -> None:
    """The two threads take turns as `turns` says: so many pieces come before the next is taken."""
    consumer = Consumer(seen)
    ahead = ReadAhead(Script([]), step_manifest(1, HOP), limit_rows=limit)
    sent = events = gaps = drops = 0
    todo = list(reversed(script))
    for turn in [*turns, *[1] * len(todo)]:
        for _ in range(turn if todo else 0):
            piece = todo.pop() if todo else 0
            if isinstance(piece, int):
                before = ahead.dropped
                ahead._put(rows(sent, piece))
                sent, drops = sent + piece, drops + (ahead.dropped > before)
            else:
                ahead._put([InputEvent(piece, "", rewarm=piece == "gap")])
                events, gaps = events + 1, gaps + (piece == "gap")
        consumer.take(ahead._next() if ahead._waiting else ())  # type: ignore[arg-type]
    while ahead._waiting:
        consumer.take(ahead._next() or ())
    came = sum(map(len, consumer.hops)) + len(consumer.hop) + sum(map(len, consumer.torn))
    assert came - seen % HOP + ahead.dropped == sent
    assert sum(event.event in ("event", "gap") for event in consumer.events) == events
    assert len(consumer.torn) <= gaps + drops
    for hop in consumer.hops:
        values = [value for value in hop if value >= 0]
        assert values == [values[0] + i for i in range(len(values))]


def test_lag_is_exposed_and_bounded() -> None:
    ahead = ReadAhead(Script([rows(0, 1), rows(1, 10)], lambda: ()), step_manifest(1, HOP), limit_rows=50)
    items = iter(ahead)
    next(filter(None, items))
    end = time.monotonic() + PATIENCE_S
    while ahead.backlog < 10 and time.monotonic() < end:
        time.sleep(0.01)
    assert ahead.backlog == 10 and 0 < ahead.lag_s < PATIENCE_S and time.monotonic() - ahead.turned_s < PATIENCE_S
    assert len(next(filter(None, items))) == 10 and ahead.backlog == 0
    assert next(items) == () and ahead.lag_s == 0
    items.close()  # type: ignore[attr-defined]


def test_an_input_that_fails_for_good_is_raised_after_its_last_sample() -> None:
    def fail() -> Items:
        raise InputLost("gone")

    items = iter(ReadAhead(Script([rows(0, 5)], fail), step_manifest(1, HOP)))
    assert len(next(filter(None, items))) == 5
    with pytest.raises(InputLost, match="gone"):
        list(items)


def test_a_source_that_hangs_does_not_keep_the_run_from_ending() -> None:
    release = threading.Event()

    def hang() -> Items:
        release.wait(PATIENCE_S)
        return ()

    items = iter(ReadAhead(Script([rows(0, 1)], hang), step_manifest(1, HOP)))
    next(items)
    began = time.monotonic()
    items.close()  # type: ignore[attr-defined]
    assert time.monotonic() - began < 2.0
    release.set()
