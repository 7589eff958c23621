"""Method `patches`: its teacher looks back only, its student is a detector like any other, both say what is strange."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from edgekd.checkpoint import Checkpoint
from edgekd.data import Recording
from edgekd.distillation import distill, teacher_path
from edgekd.export import export
from edgekd.runtime import Detector
from edgekd.runtime.errors import UsageError

TINY: dict[str, Any] = {"patch": 24, "hop": 4, "teacher_width": 16, "width": 8, "iterations": 40, "updates": 200}
KINDS = ("teacher", "student")


def taught(recording: Recording, path: Path, **options: Any) -> Checkpoint:
    return distill(recording, path, method="patches", settings=TINY, **options)


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory, tiny_recording: Recording) -> dict[str, Checkpoint]:
    path = tmp_path_factory.mktemp("patches") / "student.pt"
    student = taught(tiny_recording, path)
    return {"student": student, "teacher": Checkpoint.load(teacher_path(path))}


@pytest.mark.parametrize("kind", KINDS)
def test_what_comes_later_changes_no_score(kind: str, pair: dict[str, Checkpoint], tiny_recording: Recording) -> None:
    step = pair[kind].step()
    middle = len(tiny_recording) // 2
    values = tiny_recording.values.copy()
    values[middle:] += 5 * values.std(0)
    before, after = step.score(tiny_recording), step.score(replace(tiny_recording, values=values))
    earlier = before.samples < middle
    assert np.array_equal(before.scores[earlier], after.scores[earlier])
    assert not np.array_equal(before.scores[~earlier], after.scores[~earlier])


@pytest.mark.parametrize("kind", KINDS)
def test_a_stream_gives_the_scores_of_the_whole_over_an_entitys_border(
    kind: str, pair: dict[str, Checkpoint], tiny_recording: Recording
) -> None:
    step = pair[kind].step()
    two = replace(tiny_recording, starts=(0, 203), entities=("a", "b"))
    whole, stream = step.score(two), step.replay(two)
    assert np.array_equal(whole.samples, stream.samples)
    assert not ((whole.samples >= 203) & (whole.samples < 203 + 24 - 1)).any()
    assert np.allclose(whole.scores, stream.scores, rtol=1e-4, atol=1e-6)
    assert np.allclose(whole.contributions.sum(1), whole.scores, rtol=1e-4)


@pytest.mark.parametrize("kind, format", [("student", "onnx"), ("student", "tflite"), ("teacher", "onnx")])
def test_an_exported_file_says_what_torch_says(
    kind: str, format: str, pair: dict[str, Checkpoint], tiny_recording: Recording, tmp_path: Path
) -> None:
    if format == "tflite":
        pytest.importorskip("litert_torch")
    export(pair[kind], tmp_path / f"s.{format}", format=format)  # its gate proves parity
    detector = Detector.load(tmp_path / f"s.{format}")
    rows = tiny_recording.values[:200].copy()
    rows[80:, 1] = np.nan
    verdicts = [verdict for row in rows if (verdict := detector.update(row))]
    whole = pair[kind].step().score(replace(tiny_recording, values=tiny_recording.values[:80], starts=(0,)))
    assert len(verdicts) > 40 and not any(verdict.contributions[1] for verdict in verdicts[-10:])
    assert np.allclose([verdict.score for verdict in verdicts[: len(whole.scores)]], whole.scores, rtol=1e-3)


def test_an_int8_file_passes_its_gate(pair: dict[str, Checkpoint], tmp_path: Path) -> None:
    export(pair["student"], tmp_path / "s.onnx", int8="auto")
    assert (tmp_path / "s.onnx").stat().st_size < 200_000


@pytest.mark.parametrize("kind", KINDS)
def test_a_missing_sensor_has_no_say(kind: str, pair: dict[str, Checkpoint], tiny_recording: Recording) -> None:
    step = pair[kind].step()
    valid = torch.ones(step.n_sensors)
    valid[0] = 0

    def told(first: float) -> tuple[Tensor, Tensor]:
        values = torch.from_numpy(tiny_recording.values[:40].copy())
        values[:, 0] = first
        state = step.initial_state()
        for hop in values.split(step.hop):
            score, shares, *state = step(hop, valid, *state)
        return score, shares

    (score, shares), (other, _) = told(0.0), told(1e6)
    assert torch.equal(score, other) and shares[0] == 0 and torch.isfinite(score)
    nothing = step(torch.full((step.hop, step.n_sensors), 1e6), torch.zeros(step.n_sensors), *step.initial_state())
    assert nothing[0] == 0


def test_a_fault_is_as_strange_to_the_student_as_to_its_teacher_and_both_name_the_sensor(
    pair: dict[str, Checkpoint], tiny_recording: Recording
) -> None:
    strangeness = {}
    for kind in KINDS:
        values = tiny_recording.values.copy()
        values[300:324, 2] += 6 * values[:, 2].std() * np.random.default_rng(0).standard_normal(24)
        found = pair[kind].step().score(replace(tiny_recording, values=values))
        faulty, normal = (found.samples >= 308) & (found.samples < 324), found.samples < 300
        assert (found.contributions[faulty].argmax(1) == 2).all()
        assert found.scores[faulty].min() > np.quantile(found.scores[normal], 0.95)
        strangeness[kind] = np.median(found.scores[faulty]) / np.median(found.scores[normal])
    assert strangeness["student"] == pytest.approx(strangeness["teacher"], rel=0.25)


def test_a_sensor_that_is_not_judged_is_not_looked_at(tiny_recording: Recording, tmp_path: Path) -> None:
    few = {**TINY, "iterations": 10, "updates": 10, "judged": [tiny_recording.sensors[1]]}
    step = distill(tiny_recording, tmp_path / "s.pt", method="patches", settings=few).step()
    assert set(np.flatnonzero(step.score(tiny_recording).contributions.any(0))) == {1}


def test_where_nothing_moves_in_training_what_moves_later_is_told(tiny_recording: Recording, tmp_path: Path) -> None:
    still = replace(tiny_recording, values=np.ones_like(tiny_recording.values))
    few = {**TINY, "iterations": 10, "updates": 10, "judged": [still.sensors[1]]}
    step = distill(still, tmp_path / "s.pt", method="patches", settings=few).step()
    values = still.values.copy()
    values[300:, 1] += 0.5
    found = step.score(replace(still, values=values))
    moved = found.samples >= 300
    assert found.scores[moved].min() > 2 * found.scores[~moved].max()


def test_the_seed_decides_alone(pair: dict[str, Checkpoint], tiny_recording: Recording, tmp_path: Path) -> None:
    again = taught(tiny_recording, tmp_path / "again.pt")
    other = taught(tiny_recording, tmp_path / "other.pt", seed=1)
    assert all(torch.equal(weights, again.weights[name]) for name, weights in pair["student"].weights.items())
    assert not all(torch.equal(weights, other.weights[name]) for name, weights in pair["student"].weights.items())


def test_a_kept_teacher_teaches_again_and_one_of_another_method_is_refused(
    pair: dict[str, Checkpoint], tiny_recording: Recording, tiny_student: Path, tmp_path: Path
) -> None:
    kept = tmp_path / "kept-teacher.pt"
    pair["teacher"].save(kept)
    again = taught(tiny_recording, tmp_path / "s.pt", teacher=kept)
    assert all(torch.equal(weights, again.weights[name]) for name, weights in pair["student"].weights.items())
    with pytest.raises(UsageError, match="teacher"):
        taught(tiny_recording, tmp_path / "s.pt", teacher=teacher_path(tiny_student))
