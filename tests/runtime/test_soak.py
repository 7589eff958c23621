"""A run does not grow, and costs next to nothing while it waits. Days and weeks of it: `bench.promises.soak`."""

from __future__ import annotations

from pathlib import Path

import pytest
from step_models import step_file

from bench.promises.soak import RUN, STUBBED, idle, lines, soak

SAMPLES, N = 60_000, 4


@pytest.mark.parametrize("command", [RUN, STUBBED], ids=["engine", "stub"])
def test_memory_does_not_grow_with_the_samples(tmp_path: Path, command: list[str]) -> None:
    """Half of so short a run is warm-up; in the other half 40 bytes a sample would show."""
    model = step_file(tmp_path / "m.onnx", N, 10, threshold=3.0)
    found = soak(command, model, lines(N), SAMPLES, tmp_path, warm_up=0.5)
    assert found["samples"] == SAMPLES and found["verdicts"] == SAMPLES // 10
    assert found["drift MiB"] < 1.0, found


def test_waiting_for_a_silent_line_costs_next_to_nothing(tmp_path: Path) -> None:
    pytest.importorskip("serial")
    model = step_file(tmp_path / "m.onnx", N, 10)
    assert idle(model, tmp_path, 4.0) < 0.05  # 1 % is promised; whoever else uses this machine disturbs its caches
