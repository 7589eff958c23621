"""What systemd is told of an input that a thread opens: not before it was tried, and nothing where the thread hangs."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from device import PATIENCE_S
from step_models import step_manifest

from edgekd.runtime.gateway.watchers import systemd
from edgekd.runtime.gateway.watchers.systemd import Service
from edgekd.runtime.sources import Items, Row, Source, Tally
from edgekd.runtime.sources.read_ahead import ReadAhead


class Opening(Source):
    """An input that takes long to open."""

    name = "opening"

    def __init__(self) -> None:
        self.rows = Tally()
        self.go = threading.Event()

    def __iter__(self) -> Iterator[Items]:
        self.go.wait(PATIENCE_S)
        yield [Row(np.zeros(1, np.float32))]
        while True:
            yield ()


def watched(ahead: ReadAhead) -> tuple[Service, list[Any], list[str]]:
    """What tells of this source, and what it has told."""
    told: list[str] = []
    service = SimpleNamespace(
        feed=lambda: told.append("alive"), ready=lambda status: told.append("ready"), status_is_due=False
    )
    loop = SimpleNamespace(source=ahead, samples=0, anomalies=0, last=None, watchers=[])
    all_streams = Service(service, lambda: [("input", ahead.turned_s)])  # type: ignore[arg-type]
    all_streams.watch("one", SimpleNamespace(loop=loop))  # type: ignore[arg-type]
    return all_streams, loop.watchers, told


def test_an_input_is_tried_once_it_was_opened_or_could_not_be() -> None:
    source = Opening()
    ahead = ReadAhead(source, step_manifest(1, 1))
    service, (progress,), told = watched(ahead)
    items = iter(ahead)
    for go, want in ((False, ["alive"]), (True, ["ready"])):
        told.clear()
        if go:
            source.go.set()
        progress.arrived(next(filter(None, items)) if go else next(items))
        service.tick()
        assert told == want
    items.close()  # type: ignore[attr-defined]


def test_one_that_takes_long_is_ready_and_one_that_hangs_starves_the_watchdog(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(systemd, "TRIED_S", -1.0)
    monkeypatch.setattr(systemd, "HUNG_S", 0.0)
    source = Opening()
    ahead = ReadAhead(source, step_manifest(1, 1))
    service, (progress,), told = watched(ahead)
    items = iter(ahead)
    progress.arrived(next(items))
    service.tick()
    assert told == ["ready"]
    source.go.set()
    items.close()  # type: ignore[attr-defined]
