"""Machines of a type: one teacher for all, each its own scaling and threshold, and none of another kind."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner, Result

from edgekd.checkpoint import Checkpoint
from edgekd.cli import cli
from edgekd.data import save
from edgekd.fleet import run as running
from edgekd.fleet import work
from edgekd.simulation.simulate import simulate

QUICK = ("epochs=1", "teacher_windows=8", "slow=false")


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Without processes and without torch's exporter; the jobs that were done."""
    done: list[str] = []

    def in_turn(do: Any, jobs: Any, *_: Any) -> Any:
        for job in jobs:
            done.append(f"share {job.key}" if job.share else job.key)
            yield job, do(job)

    def export(checkpoint: Checkpoint, path: Path, **_: Any) -> Any:
        path.write_bytes(checkpoint.digest().encode())
        manifest = SimpleNamespace(threshold=SimpleNamespace(value=checkpoint.threshold["value"]))
        return SimpleNamespace(file_bytes=64, manifest=manifest, written=SimpleNamespace(step_us=1.0))

    monkeypatch.setattr(running, "run", in_turn)
    monkeypatch.setattr(work, "export", export)
    return done


def distill(fleet: Path, site: Path, *more: str) -> Result:
    sets = [word for setting in QUICK for word in ("--set", setting)]
    return CliRunner().invoke(cli, ["fleet", "distill", str(fleet), "-o", str(site), "--json", *sets, *more])


def test_a_type_s_teacher_is_trained_once(tmp_path: Path, quick: list[str]) -> None:
    fleet, site = tmp_path / "fleet", tmp_path / "site"
    fleet.mkdir()
    for seed, sensors in enumerate((3, 3, 4)):
        recording = simulate(1600, sensors=sensors, seed=seed, faults=()).recording
        save(recording, fleet / f"m{seed}.csv")
    result = distill(fleet, site, "--one", "type")
    assert quick == ["share all", "m0", "m1", "m2"]
    assert list(json.loads(result.stdout)["made"]) == ["m0", "m1"]
    assert "other sensors or another period than the first machines of its type" in result.stderr
    students = [Checkpoint.load(site / "machines" / name / "student.pt") for name in ("m0", "m1")]
    shared = Checkpoint.load(site / "types" / "all" / "student.pt")
    network = [name for name in shared.weights if ".network.network." in name]
    for student in students:
        assert all(bool((student.weights[name] == shared.weights[name]).all()) for name in network)
    assert students[0].threshold["value"] != students[1].threshold["value"]
    quick.clear()
    (fleet / "m2.csv").unlink()
    save(simulate(1600, sensors=3, seed=7, faults=()).recording, fleet / "m3.csv")
    assert list(json.loads(distill(fleet, site, "--one", "type").stdout)["made"]) == ["m3"]
    assert quick == ["m3"], "the teacher is kept"
    assert not json.loads(distill(fleet, site, "--one", "type", "--sign-with", "no.pem").stdout or "{}")
    quick.clear()
    result = distill(fleet, site)  # each its own network, begun as that of the type
    assert json.loads(result.stdout)["made"] == dict.fromkeys(("m0", "m1", "m3"), "settings or version have changed")
    assert quick == ["m0", "m1", "m3"]
