"""The time of a step that `--check` says: of warm steps, within seconds, by a clock of the test's own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from step_models import step_file

from edgekd.runtime import step_cost
from edgekd.runtime.detector import Detector
from edgekd.runtime.engines import Engine, Feeds
from edgekd.runtime.errors import ModelRefused
from edgekd.runtime.manifest import Manifest


class Slow:
    """An engine whose steps take as long as it is told, by a clock of its own."""

    name = "slow"

    def __init__(self, engine: Engine, seconds: list[float]) -> None:
        self._engine, self._seconds, self.now, self.steps = engine, seconds, 0.0, 0

    def run(self, feeds: Feeds) -> list[np.ndarray]:
        """A step; the last of the seconds is that of all that follow."""
        self.now += self._seconds[min(self.steps, len(self._seconds) - 1)]
        self.steps += 1
        return list(self._engine.run(feeds))


@pytest.fixture
def model(tmp_path: Path) -> tuple[Engine, Manifest]:
    detector = Detector.load(step_file(tmp_path / "m.onnx"))
    return detector.engine, detector.manifest


def timed(model: tuple[Engine, Manifest], seconds: list[float], patch: pytest.MonkeyPatch) -> tuple[Slow, float, float]:
    """The engine, and median and 99th percentile in microseconds."""
    slow = Slow(model[0], seconds)
    patch.setattr(step_cost.time, "perf_counter", lambda: slow.now)
    found = step_cost.step_times(slow, model[1])
    return slow, found.median_us, found.p99_us


def test_cold_steps_are_not_in_the_time(model: tuple[Engine, Manifest], monkeypatch: pytest.MonkeyPatch) -> None:
    cold = [500e-6] * 40 + [100e-6] * 40
    _, median, p99 = timed(model, [*cold, 47e-6], monkeypatch)
    assert median == pytest.approx(47) and p99 == pytest.approx(47)


def test_a_rare_slow_step_shows_in_the_99th_percentile(
    model: tuple[Engine, Manifest], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, median, p99 = timed(model, [1e-3 if step % 40 == 39 else 50e-6 for step in range(5000)], monkeypatch)
    assert median == pytest.approx(50) and p99 == pytest.approx(1000)


def test_a_model_of_slow_steps_is_not_timed_for_minutes(
    model: tuple[Engine, Manifest], monkeypatch: pytest.MonkeyPatch
) -> None:
    slow, median, _ = timed(model, [0.9, 0.6], monkeypatch)
    assert slow.now <= step_cost.LONGEST_S + 0.6 and median == pytest.approx(0.6e6)


def test_an_engine_that_fails_at_a_later_step_refuses_the_model(model: tuple[Engine, Manifest]) -> None:
    class Fails(Slow):
        def run(self, feeds: Feeds) -> list[np.ndarray]:
            if self.steps == 100:
                raise RuntimeError("out of bounds")
            return super().run(feeds)

    with pytest.raises(ModelRefused, match="slow cannot run the graph"):
        step_cost.step_times(Fails(model[0], [0.0]), model[1])
