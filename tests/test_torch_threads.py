from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from edgekd.checkpoint import Checkpoint
from edgekd.export.parity import Reference
from edgekd.threads import wait_briefly


def test_a_small_detector_computes_on_one_thread_and_gives_the_others_back(
    tiny_student: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = Checkpoint.load(tiny_student)
    step, replay = checkpoint.step(), checkpoint.replay()
    seen = []
    for name in ("forward", "batch"):
        own = getattr(type(step), name)
        monkeypatch.setattr(type(step), name, lambda *a, own=own: (seen.append(torch.get_num_threads()), own(*a))[1])
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        step.score(replay), step.replay(replay), Reference(step, replay, 1.0, steps=2)
        assert set(seen) == {1} and torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_waiting_is_brief_unless_the_environment_says_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY"):
        monkeypatch.setenv(name, "x")  # so that it is put back
        monkeypatch.delenv(name)
    monkeypatch.setenv("OMP_WAIT_POLICY", "active")
    wait_briefly()
    assert "GOMP_SPINCOUNT" not in os.environ
    monkeypatch.delenv("OMP_WAIT_POLICY")
    wait_briefly()
    assert os.environ["GOMP_SPINCOUNT"] == "1000"
