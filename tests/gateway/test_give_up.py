"""A serial line that is gone for good."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from device import Port
from gateway_device import Gateway, events_of, run
from step_models import step_file

pytest.importorskip("serial")


def test_given_up_after_the_time_that_was_allowed(tmp_path: Path) -> None:
    model = step_file(tmp_path / "m.onnx", 3, 4)
    done = run("--model", model, "--serial", tmp_path / "none", "--give-up-after", "0.5s")
    assert done.returncode == 4 and "gave up waiting for it" in done.stderr.splitlines()[-1]
    assert re.search(r"gone for \d+ s \(.*No such file", done.stderr)
    assert [event["event"] for event in events_of(done.stdout)] == ["input_waiting"]


def test_a_port_that_is_silent_is_opened_again_and_one_that_is_back_is_not_given_up(tmp_path: Path) -> None:
    model = step_file(tmp_path / "m.onnx", 3, 4)
    port = Port(tmp_path / "tty")
    arguments = ("--model", model, "--serial", tmp_path / "tty", "--idle-timeout", "0.3s", "--give-up-after", "2s")
    with Gateway(*arguments) as device:
        for _ in range(3):
            assert "said nothing for 0.3 s" in device.wait_for("input_lost")["reason"]
            device.wait_for("input_back")
        port.unplug()
        assert device.end() == 4
        assert "gave up waiting for it" in device.words
