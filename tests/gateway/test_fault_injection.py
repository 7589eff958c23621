"""System calls fail, the outbox goes away, the gateway is killed: no alarm is lost, and none comes under two names."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

from bench.promises.fault_injection import injected_run


@pytest.mark.parametrize("seed", [1])
def test_no_alarm_is_lost_whatever_fails(tmp_path: Path, seed: int) -> None:
    if not shutil.which("cc") or sys.platform != "linux":
        pytest.skip("there is no C compiler, or no preloading")
    found = injected_run(tmp_path, seed, harms=6)
    assert found["alarms"] > 20 and len(found["deeds"]) == 6
    assert found["missing"] == found["told_as_lost"] == 0, found
    assert found["others"] == found["with_two_ids"] == found["ids_of_two"] == 0, found
    assert found["tracebacks"] == 0
