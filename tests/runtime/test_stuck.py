"""A sensor that says the same for longer than it ever did in training is told once, and again when it moves."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from step_models import step_file, step_samples

from edgekd.data.recording import Recording
from edgekd.evaluation.score_model import score_detector
from edgekd.export.embed import embed
from edgekd.runtime.detector import Detector, StuckChange
from edgekd.runtime.episodes import Episodes
from edgekd.runtime.guard import admit
from edgekd.runtime.loop import Loop
from edgekd.runtime.sources.csv_file import CsvFile

HOP, PERIOD_S, LONGEST_S = 4, 10.0, 200.0
HELD, SWITCH, STUCK_AT, MOVES_AT = 0, 1, 60, 120


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of three sensors the first and the last are watched."""
    path = step_file(tmp_path_factory.mktemp("stuck") / "m.onnx", 3, HOP, period_s=PERIOD_S)
    manifest, data = admit(path)
    first, switch, last = manifest.sensors
    watched = [replace(sensor, longest_still_s=LONGEST_S) for sensor in (first, last)]
    path.write_bytes(embed(data, replace(manifest, sensors=(watched[0], switch, watched[1]))))
    return path


def samples() -> np.ndarray:
    """The first sensor is stuck for a while, with a gap in it; the second is a switch; the third is away for long."""
    x = step_samples(3, 160)
    x[STUCK_AT:MOVES_AT, HELD] = x[STUCK_AT, HELD]
    x[70:90, HELD] = np.nan
    x[:, SWITCH] = x[0, SWITCH]
    x[40:130, 2] = np.nan
    return x


def changes(detector: Detector, x: np.ndarray) -> list[StuckChange]:
    return [change for sample in x for change in (detector.update(sample), *detector.stuck_changes())[1:]]


def test_it_is_told_once_and_ended_and_neither_a_switch_nor_a_missing_sensor_is(model: Path) -> None:
    told, ended = changes(Detector.load(model), samples())
    value = float(samples()[STUCK_AT, HELD])
    # it says the value throughout from 64 on: 6 times, then it is missing, then 18 times more: 200 s are 20
    assert told == StuckChange(107, "s0", True, value, 64)
    assert (ended.sample, ended.sensor, ended.stuck, ended.start) == (123, "s0", False, 64)


@pytest.mark.parametrize("cut", range(50, 130, 3))
def test_a_resume_in_the_middle_tells_neither_twice_nor_never(model: Path, cut: int) -> None:
    x, before = samples(), Detector.load(model)
    found = changes(before, x[:cut])
    after = Detector.load(model)
    after.restore(before.snapshot())
    assert found + changes(after, x[cut:]) == changes(before.stream(), x)


def test_the_events_of_a_file_say_since_when_its_value_and_what_was_normal(model: Path, tmp_path: Path) -> None:
    rows = [",".join("" if np.isnan(value) else f"{value:.9g}" for value in row) for row in samples()]
    (tmp_path / "x.csv").write_text("\n".join(["s0,s1,s2", *rows]))
    detector, events, words = Detector.load(model), list[Any](), list[str]()
    Loop(CsvFile(tmp_path / "x.csv", detector.manifest, {}), detector, Episodes(), events.append, words.append).run()
    told, ended = (event for event in events if event["event"].startswith("sensor_stuck"))
    spec, value = detector.manifest.sensors[HELD], pytest.approx(float(samples()[STUCK_AT, HELD]))
    same = {"time": None, "sensor": "s0", "start": 64, "value": value, "low": spec.low, "high": spec.high}
    assert told == {"event": "sensor_stuck", "sample": 107, "duration_s": 440.0, **same}
    assert ended == {"event": "sensor_stuck_end", "sample": 123, "duration_s": 600.0, **same}
    assert sum("'s0' has said" in line or "'s0' moves again" in line for line in words) == 2


def test_an_evaluation_of_the_file_names_it(model: Path) -> None:
    x = np.where(np.isnan(samples()), 0, samples())
    x[70:90, HELD] = x[STUCK_AT, HELD]
    twice = Recording(np.concatenate([x, x]), ("s0", "s1", "s2"), PERIOD_S, starts=(0, 160), entities=("", ""))
    notes = score_detector(Detector.load(model), twice).notes
    assert "sensor 's0' is stuck from sample 64 on, 2 times in all" in notes
