"""What grows with the square of the sensors is refused before any long work, or says so."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgekd.blocks.step import STATE_LIMIT_BYTES, too_much_state
from edgekd.data import Recording
from edgekd.distillation import configure, distill
from edgekd.methods import method
from edgekd.runtime.errors import RecordingError


def recording(n: int) -> Recording:
    values = np.random.default_rng(0).normal(size=(600, n)).astype(np.float32)
    return Recording(values, tuple(f"s{i}" for i in range(n)), 60.0, source="plant.csv")


@pytest.mark.parametrize("preset", [None, "edge", "ensemble"])
def test_too_many_sensors_are_refused_before_anything_trains(preset: str | None, tmp_path: Path) -> None:
    told: list[dict[str, object]] = []
    with pytest.raises(RecordingError, match=r"^plant\.csv: 300 sensors .* 256 .* --preset innovations"):
        distill(recording(300), tmp_path / "student.pt", preset=preset, report=told.append)
    assert all(event.keys() == {"doing"} for event in told)
    assert not list(tmp_path.iterdir())


def test_constant_sensors_do_not_count(tmp_path: Path) -> None:
    values = np.zeros((1500, 300), np.float32)
    values[:, :3] = np.random.default_rng(0).normal(size=(1500, 3))
    wide = Recording(values, tuple(f"s{i}" for i in range(300)), 60.0)
    assert distill(wide, tmp_path / "student.pt", preset="ensemble").role == "student"


@pytest.mark.parametrize(("preset", "most"), [("edge", 70), ("innovations", 200)])
def test_a_state_beyond_the_limit_is_told_with_what_keeps_less(preset: str, most: int) -> None:
    name, _, config = configure(None, preset, {})
    for n in (most, most + 72):
        step = method(name).STEP(config, n, n, 60.0)
        assert (step.state_bytes > STATE_LIMIT_BYTES) == bool(too_much_state(step)) == (n > most)
    assert "--preset innovations" in too_much_state(step)


def test_the_training_of_a_network_with_too_much_state_begins_with_a_note(tmp_path: Path) -> None:
    class Begun(Exception):
        pass

    def stop(event: dict[str, object]) -> None:
        if "note" in event:
            raise Begun(event["note"])

    with pytest.raises(Begun, match="its state is 492 KiB"):
        distill(recording(100), tmp_path / "student.pt", preset="edge", report=stop)
