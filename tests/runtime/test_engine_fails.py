"""An engine that fails while it runs, and a state that becomes infinite: told, warm again, never a crash loop."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from device import events_of, run, write_csv
from failing_models import FUSE, WARMUP, N, looking_model, model
from onnx import helper

from edgekd.runtime import Detector, ModelRefused, StateReset, UsageError
from edgekd.runtime.detector import FORGIVEN, MAX_FAILURES
from edgekd.runtime.manifest import StateSpec


@pytest.fixture
def counting(tmp_path: Path) -> Path:
    """Counts its steps in its state, and looks up a number by that; there are FUSE + 1 of them."""
    nodes = [
        helper.make_node("Add", ["count", "one"], ["next_count"]),
        helper.make_node("Gather", ["table", "count"], ["found"], axis=0),
        helper.make_node("ReduceSum", ["found"], ["more"], keepdims=0),
    ]
    constants = {"one": np.array([1]), "table": np.zeros(FUSE + 1, np.float32)}
    return model(tmp_path / "counting.onnx", StateSpec("count", (1,), "int64"), nodes, constants)


@pytest.fixture
def looking(tmp_path: Path) -> Path:
    """Looks up a number by its first sample."""
    return looking_model(tmp_path / "looking.onnx")


@pytest.fixture
def adding(tmp_path: Path) -> Path:
    """Adds squares up in its state, which its score does not see."""
    nodes = [
        helper.make_node("Mul", ["mean", "mean"], ["squares"]),
        helper.make_node("Add", ["squares", "total"], ["next_total"]),
        helper.make_node("Mul", ["sum", "nothing"], ["more"]),
    ]
    constants = {"nothing": np.zeros((), np.float32)}
    return model(tmp_path / "adding.onnx", StateSpec("total", (N,), "float32"), nodes, constants)


def test_a_failed_step_is_told_and_costs_a_warm_up(counting: Path, tmp_path: Path) -> None:
    """Also after a restart: the state that led there is not taken up again."""
    csv = write_csv(tmp_path / "x.csv", np.full((120, N), 0.5, np.float32))
    arguments = ("--model", counting, "--csv", csv, "--scores", "--state", tmp_path / "state", "--state-every", 0)
    done = run(*arguments)
    assert done.returncode == 0 and "Traceback" not in done.stderr
    resets = events_of(done.stdout, "state_reset")
    assert [event["sample"] for event in resets] == [FUSE + 1, 2 * (FUSE + 1) + 1]
    assert "failed" in resets[0]["reason"] and resets[0]["reason"].isprintable()
    scored = {event["sample"] for event in events_of(done.stdout, "score")}
    lost = {sample for at in (FUSE + 1, 2 * FUSE + 3) for sample in range(at, at + WARMUP)}
    assert scored == set(range(WARMUP - 1, 120)) - lost
    write_csv(csv, np.full((200, N), 0.5, np.float32))
    again = run(*arguments)
    assert again.returncode == 0 and events_of(again.stdout, "score")[-1]["sample"] == 199


def test_an_engine_that_fails_again_and_again_ends_the_run_though_steps_between_go_well(
    counting: Path, tmp_path: Path
) -> None:
    csv = write_csv(tmp_path / "x.csv", np.full((1000, N), 0.5, np.float32))
    done = run("--model", counting, "--csv", csv)
    assert done.returncode == 3 and len(events_of(done.stdout, "state_reset")) == MAX_FAILURES - 1


def test_too_many_failed_steps_end_the_run_in_one_line(looking: Path, tmp_path: Path) -> None:
    """And a restart on another input goes on from what was saved at that end."""
    good, bad = np.full((20, N), 1.0, np.float32), np.full((30, N), 1e6, np.float32)
    csv = write_csv(tmp_path / "x.csv", np.vstack([good, bad]))
    arguments = ("--model", looking, "--csv", csv, "--quiet", "--state", tmp_path / "state")
    done = run(*arguments)
    assert done.returncode == 3
    (line,) = done.stderr.splitlines()
    assert "failed" in line and f"as in {MAX_FAILURES - 1} steps before" in line and line.isprintable()
    assert len(events_of(done.stdout, "state_reset")) == MAX_FAILURES - 1
    write_csv(csv, np.vstack([good, bad[:MAX_FAILURES], good]))
    again = run(*arguments, "--scores")
    assert again.returncode == 0, again.stderr
    assert events_of(again.stdout, "resumed") and len(events_of(again.stdout, "score")) > 10


def test_a_failure_here_and_there_ends_nothing(looking: Path) -> None:
    detector = Detector.load(looking, probe=False)
    rare = round(1 / FORGIVEN) + 1
    samples = np.full((2 * MAX_FAILURES * rare, N), 1.0, np.float32)
    samples[::rare] = 1e6
    assert len(detector.update_block(samples)) == len(samples) - 2 * MAX_FAILURES * WARMUP
    assert len(detector.state_resets()) == 2 * MAX_FAILURES and detector.state_resets() == []
    with pytest.raises(ModelRefused, match="steps before"):
        detector.update_block(np.full((MAX_FAILURES, N), 1e6, np.float32))


def test_a_state_that_becomes_infinite_is_reset_and_told(adding: Path) -> None:
    detector = Detector.load(adding, probe=False)
    samples = np.full((20, N), 1.0, np.float32)
    samples[10] = 2e19  # its square is beyond float32, its score is not
    verdicts = {verdict.sample: verdict for verdict in detector.update_block(samples)}
    assert detector.state_resets() == [StateReset(10, "it became infinite")]
    assert verdicts[10].is_anomaly and [sample for sample in verdicts if sample > 10] == [*range(14, 20)]
    assert detector.snapshot()["state.total"].tolist() == [9.0] * N


def test_a_score_that_stays_infinite_costs_the_state_too(adding: Path) -> None:
    """Maybe it comes of the state; an alarm is what is said of it until then."""
    detector = Detector.load(adding, probe=False)
    verdicts = detector.update_block(np.full((MAX_FAILURES + 1, N), 3e38, np.float32))
    assert all(verdict.is_anomaly for verdict in verdicts)
    (reset,) = detector.state_resets()
    assert reset.sample == MAX_FAILURES - 1 and "no score was finite" in reset.reason


@pytest.mark.parametrize(
    ("name", "bad"),
    [("state.total", np.inf), ("state.total", np.nan), ("last", np.nan), ("seen", 2**62), ("seen", -1),
     ("warm_at", 2**40), ("warm_at", -1), ("diverged", 2**63 - 1)],
)  # fmt: skip
def test_a_snapshot_that_would_blind_is_refused(adding: Path, name: str, bad: float) -> None:
    detector = Detector.load(adding, probe=False)
    detector.update_block(np.full((7, N), 1.0, np.float32))
    snapshot = detector.snapshot()
    snapshot[name] = np.full_like(snapshot[name], bad)
    with pytest.raises(UsageError, match="saved state"):
        detector.restore(snapshot)
    assert detector.samples_seen == 7
