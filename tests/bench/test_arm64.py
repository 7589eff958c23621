"""The runtime in emulated ARM user spaces, and that its comparison with x86 cannot pass on nothing."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from bench.promises.arm64.compare import Replay, compare

CHECK = {"ok": True, "quantization": "float32", "engine": "e", "threshold": 2.0,
         "self_test": {"worst_error": 0.0, "tolerance": 0.01}}  # fmt: skip
GOOD = Replay(CHECK, {9: [1.0, 0.1], 19: [4.0, 0.5]}, [{"event": "anomaly", "sample": 19, "sensors": ["a"]}])


@pytest.mark.nightly
def test_arm_scores_and_events_are_those_of_x86(request: pytest.FixtureRequest) -> None:
    if "nightly" not in request.config.option.markexpr:
        pytest.skip("builds emulated Debian roots; run with -m nightly")
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-m", "bench.promises.arm64"], capture_output=True, text=True, cwd=root)
    if done.returncode == 77:
        pytest.skip(done.stderr.splitlines()[-1])
    assert done.returncode == 0, done.stderr


def test_equal_runs_miss_nothing() -> None:
    assert compare(replace(GOOD, scores={9: [1.0, 0.1], 19: [4.0003, 0.5]}), GOOD)["missed"] == ""


@pytest.mark.parametrize(
    ("found", "expected", "missed"),
    [
        (replace(GOOD, scores={9: [1.0, 0.1], 19: [4.001, 0.5]}), GOOD, "scores"),
        (replace(GOOD, scores={9: [1.0, 0.1], 19: [4.0, 0.501]}), GOOD, "scores"),
        (replace(GOOD, scores={9: [float("nan"), 0.1], 19: [4.0, 0.5]}), GOOD, "scores"),
        (replace(GOOD, scores={9: [1.0, 0.1]}), GOOD, "scores of the same samples"),
        (replace(GOOD, scores={}), replace(GOOD, scores={}), "scores of the same samples"),
        (replace(GOOD, events=[]), GOOD, "events"),
        (replace(GOOD, events=[]), replace(GOOD, events=[]), "an anomaly in the recording"),
        (replace(GOOD, check={**CHECK, "ok": False}), GOOD, "self-test"),
    ],
)
def test_a_difference_is_told(found: Replay, expected: Replay, missed: str) -> None:
    assert missed in compare(found, expected)["missed"].split(", ")
