"""A serial line that is gone for good."""

from __future__ import annotations

from pathlib import Path

import pytest
from gateway_device import events_of, run
from step_models import step_file

pytest.importorskip("serial")


def test_given_up_after_the_time_that_was_allowed(tmp_path: Path) -> None:
    model = step_file(tmp_path / "m.onnx", 3, 4)
    done = run("--model", model, "--serial", tmp_path / "none", "--give-up-after", "0.5s")
    assert done.returncode == 4 and "gave up waiting for it" in done.stderr.splitlines()[-1]
    assert [event["event"] for event in events_of(done.stdout)] == ["input_waiting"]
