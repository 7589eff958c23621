"""Score regression on series: any scorer teaches, from Python or from a file, and what cannot be is one line."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from device import ROOT, events_of
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.ensemble import IsolationForest

from edgekd import cli
from edgekd.blocks.damaged_recording import damaged
from edgekd.blocks.threshold import FIT, parts
from edgekd.checkpoint import Checkpoint
from edgekd.data import Recording, save
from edgekd.distillation import distill
from edgekd.export import export
from edgekd.methods.interface import Training
from edgekd.methods.regression import PRESETS, distill_from, train
from edgekd.methods.regression.scorers import ObjectScorer, Panel, at_windows
from edgekd.methods.regression.series_jobs import SeriesJob
from edgekd.runtime import Detector
from edgekd.runtime.errors import EdgeKDError, RecordingError, UsageError

TINY: dict[str, Any] = {"lengths": [4, 8, 16], "hop": 4, "epochs": 12, "batch": 32, "learning_rate": 1e-2}


class PCAScorer:
    """What a user might write: squared residual of a sample outside its first two principal axes."""

    def __init__(self, samples: np.ndarray) -> None:
        self.center = samples.mean(0)
        self.axes = np.linalg.svd(samples - self.center, full_matrices=False)[2][:2]

    def decision_function(self, rows: np.ndarray) -> np.ndarray:
        centered = rows - self.center
        return ((centered - centered @ self.axes.T @ self.axes) ** 2).sum(1)


def teacher(kind: str, recording: Recording) -> Any:
    if kind == "forest":
        return IsolationForest(n_estimators=20, random_state=0).fit(recording.values)
    return PCAScorer(recording.values)


def stranger(recording: Recording) -> Recording:
    """The recording with a shift of its first sensor in the middle of it."""
    values = recording.values.copy()
    middle = len(values) // 2
    values[middle : middle + 40, 0] += 8 * values[:, 0].std()
    labels = np.zeros(len(values), bool)
    labels[middle : middle + 40] = True
    return replace(recording, values=values, labels=labels)


# -- the user's own scorer ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["forest", "pca"])
def test_a_scorer_teaches_from_python_and_from_a_file_and_runs_without_it(
    kind: str, tiny_recording: Recording, tmp_path: Path
) -> None:
    scorer = teacher(kind, tiny_recording)
    settings = {**TINY, "damaged_copies": 0}  # a file says nothing of damage
    from_python = distill_from(scorer, tiny_recording, tmp_path / "python.pt", settings=settings)

    data, scores = tmp_path / "plant.csv", tmp_path / "scores.csv"
    save(tiny_recording, data)
    said = ObjectScorer(scorer)(tiny_recording)
    scores.write_text("score\n" + "\n".join(f"{score:.17g}" for score in said) + "\n")
    words = [f"--set={name}={json.dumps(value)}" for name, value in settings.items()]
    command = ["distill", str(data), "-o", str(tmp_path / "file.pt"), "--method", "regression", *words]
    assert _cli([*command, "--teacher-scores", str(scores)]) == 0
    from_file = Checkpoint.load(tmp_path / "file.pt")
    for name, weights in from_python.weights.items():
        assert torch.allclose(weights, from_file.weights[name], rtol=1e-3, atol=1e-4), name

    done = export(from_python, tmp_path / "s.onnx")
    assert done.parity.max_score_error < 1e-4
    test = stranger(tiny_recording)
    save(replace(test, labels=None), tmp_path / "test.csv")
    events = _run_without_scikit_learn(tmp_path / "s.onnx", tmp_path / "test.csv")
    found = np.array([event["score"] for event in events])
    newest = np.array([event["sample"] for event in events])
    taught = at_windows(ObjectScorer(scorer)(test), newest, 4)
    assert np.corrcoef(np.argsort(np.argsort(found)), np.argsort(np.argsort(taught)))[0, 1] > 0.4
    strange = test.labels[newest]
    assert np.median(found[strange]) > np.quantile(found[~strange], 0.9)


def _cli(arguments: list[str]) -> int:
    from click.testing import CliRunner

    return CliRunner().invoke(cli.cli, arguments, catch_exceptions=False).exit_code


def _run_without_scikit_learn(model: Path, samples: Path) -> list[dict[str, Any]]:
    """Score events of `edgekd-run` in a process that cannot import scikit-learn or torch."""
    blocked = "import sys; sys.modules.update({name: None for name in ('sklearn', 'torch', 'scipy', 'pandas', 'onnx')})"
    command = f"{blocked}; from edgekd.runtime.cli import main; sys.argv[0] = 'edgekd-run'; sys.exit(main())"
    done = subprocess.run(
        [sys.executable, "-c", command, "--model", str(model), "--csv", str(samples), "--scores"],
        cwd=ROOT, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return events_of(done.stdout, "score")


def test_larger_scores_are_strange_whatever_the_library_says(tiny_recording: Recording) -> None:
    forest = teacher("forest", tiny_recording)
    odd = stranger(tiny_recording)

    def contrast(scorer: ObjectScorer) -> float:
        scores = scorer(odd)
        return float(scores[odd.labels].mean() - scores[~odd.labels].mean())

    assert contrast(ObjectScorer(forest)) > 0 and contrast(ObjectScorer(teacher("pca", tiny_recording))) > 0
    assert contrast(ObjectScorer(forest, larger_is="strange")) < 0


def test_a_scorer_of_windows_sees_them_oldest_first() -> None:
    class Rows:
        def decision_function(self, rows: np.ndarray) -> np.ndarray:
            return rows[:, 0] * 1000 + rows[:, -1]

    values = np.arange(12, dtype=np.float32).reshape(6, 2)
    recording = Recording(values, ("a", "b"), 1.0, starts=(0, 4), entities=("x", "y"))
    scores = ObjectScorer(Rows(), window=3)(recording)
    assert np.array_equal(np.isfinite(scores), [False, False, True, True, False, False])  # the second is too short
    assert scores[2] == 0 * 1000 + 5 and scores[3] == 2 * 1000 + 7


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 9), st.integers(1, 9), st.integers(20, 60))
def test_teachers_of_any_hop_are_met_by_sample(teachers_hop: int, hop: int, length: int) -> None:
    scores = np.full(length, np.nan)
    scores[teachers_hop - 1 :: teachers_hop] = np.arange(1, length // teachers_hop + 1)
    newest = np.arange(hop, length + 1, hop) - 1
    for sample, score in zip(newest, at_windows(scores, newest, hop)):
        said = [scores[i] for i in range(sample + 1 - hop, sample + 1) if np.isfinite(scores[i])]
        assert score == pytest.approx(np.mean(said)) if said else np.isnan(score)


def test_several_teachers_agree_on_ranks_whatever_their_units() -> None:
    rng = np.random.default_rng(0)
    one, other = rng.lognormal(size=200), rng.normal(size=200)
    panel = Panel([ObjectScorer(PCAScorer(np.eye(3)))] * 2)
    panel.fit(np.stack([one, other]), np.ones(200, bool))
    together = panel(np.stack([one, other]))
    expected = np.log(one) / np.log(one).std() + other / other.std()
    assert (together > 0).all() and np.array_equal(np.argsort(together), np.argsort(expected))


# -- training ----------------------------------------------------------------------------------------------------------


def linear(recording: Recording, folder: Path) -> Path:
    path = folder / "linear.pt"
    distill(recording, path, method="linear", preset="ensemble", settings={"lengths": [4, 8, 16], "hop": 4})
    return path


@pytest.mark.parametrize("options", [{}, {"input": "window"}, {"accumulator": "gru", "epochs": 2}], ids=str)
def test_a_student_learns_the_score_of_a_checkpoint(
    options: dict[str, Any], tiny_recording: Recording, tmp_path: Path
) -> None:
    path = linear(tiny_recording, tmp_path)
    student = distill(
        tiny_recording, tmp_path / "s.pt", method="regression", teacher=path, settings={**TINY, **options}
    ).step()  # fmt: skip
    test = stranger(tiny_recording)
    mine, theirs = student.score(test), Checkpoint.load(path).step().score(test)
    shared = np.isin(theirs.samples, mine.samples)
    assert np.array_equal(theirs.samples[shared], mine.samples)
    ranks = [np.argsort(np.argsort(scores)) for scores in (mine.scores, theirs.scores[shared])]
    assert np.corrcoef(*ranks)[0, 1] > (0.6 if options else 0.8)


def test_a_killed_training_goes_on_and_a_teacher_that_has_scored_is_not_asked_again(
    tiny_recording: Recording, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    teacher = Checkpoint.load(linear(tiny_recording, tmp_path)).step()
    config = type(PRESETS["signature"]).from_json({**PRESETS["signature"].to_json(), **TINY})

    def run(**how: Any) -> dict[str, torch.Tensor]:
        return train(tiny_recording, config, Training(teachers=(teacher,), **how)).step.state_dict()

    whole = run()
    epoch = SeriesJob.epoch

    def killed(self: SeriesJob, number: int) -> Any:
        if number == 3:
            raise KeyboardInterrupt
        return epoch(self, number)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(SeriesJob, "epoch", killed)
        run(workdir=tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(teacher, "score", None)
        resumed = run(workdir=tmp_path, resume=True)
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


@pytest.mark.parametrize(("windows", "times"), [(0, 1), (300, 2), (10_000, 4)])
@pytest.mark.parametrize("resets", [True, False])
def test_a_teacher_scores_a_recording_as_often_as_it_takes_to_have_the_windows(
    resets: bool, windows: int, times: int
) -> None:
    """Each time begun a part of a hop later; never more often than a hop has samples."""
    values = np.random.default_rng(0).normal(size=(800, 2)).astype(np.float32)
    recording = Recording(values, ("a", "b"), 1.0, starts=(0, 401), entities=("x", "y"), source="noise")
    seen: list[int] = []

    class Whole:
        name = "the teacher"

        def __call__(self, asked: Recording) -> np.ndarray:
            (later,) = np.flatnonzero((values[:4] == asked.values[0]).all(1)) if asked.source == "noise" else [-1]
            if later >= 0:
                again = later if resets else 0  # of the second entity, where state begins anew with it
                assert asked.starts == (0, 401 - later) and len(asked) == 800 - later - again
                assert np.array_equal(asked.values[asked.starts[1]], values[401 + again])
            seen.append(int(later))
            return np.abs(asked.values[:, 0]) + 1.0

    settings = replace(PRESETS["window"], **{**TINY, "epochs": 1, "windows": windows, "entity_resets": resets})
    trained = train(recording, settings, Training(scorers=(Whole(),)))
    assert sorted(seen) == sorted([*range(0, 4, 4 // times), *[-1] * times])
    assert len(trained.histories["student"]) == 1


def test_damage_is_in_stretches_and_leaves_the_rest_and_constant_sensors_alone(tiny_recording: Recording) -> None:
    still = replace(tiny_recording, values=np.c_[tiny_recording.values, np.ones(len(tiny_recording), np.float32)],
                    sensors=(*tiny_recording.sensors, "still"))  # fmt: skip
    copy = damaged(still, 16, seed=3)
    assert np.array_equal(copy.values, damaged(still, 16, seed=3).values)
    assert not np.array_equal(copy.values, damaged(still, 16, seed=4).values)
    hit = (copy.values != still.values).any(1)
    assert 0.1 < hit.mean() < 0.6
    assert np.isfinite(copy.values).all() and (copy.values[:, -1] == 1).all()


# -- what cannot be ----------------------------------------------------------------------------------------------------


class Says:
    """A scorer that says what it was told to."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer

    def decision_function(self, rows: np.ndarray) -> Any:
        return self.answer(rows)


@pytest.mark.parametrize(
    ("answer", "line"),
    [
        (lambda rows: np.where(np.arange(len(rows)) == 17, np.nan, 1.0), r"Says gave nan for sample 17 of .*"),
        (lambda rows: np.ones(3), r"Says gave scores of shape \(3,\) for 1200 rows"),
        (lambda rows: np.full(len(rows), 2.5), r"Says gave the same score, 2.5, for all \d+ windows that train"),
    ],
    ids=["nan", "length", "constant"],
)
def test_a_scorer_that_cannot_teach_is_refused(
    answer: Any, line: str, tiny_recording: Recording, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=line) as refused:
        distill_from(Says(answer), tiny_recording, tmp_path / "s.pt", settings=TINY)
    assert "\n" not in str(refused.value)
    assert not list(tmp_path.iterdir())


def test_what_has_no_scores_is_no_scorer() -> None:
    with pytest.raises(UsageError, match="list has neither score_samples nor decision_function"):
        ObjectScorer([])


def test_outliers_of_another_shape_are_refused(tiny_recording: Recording, tmp_path: Path) -> None:
    other = replace(tiny_recording, values=tiny_recording.values[:, :3], sensors=tiny_recording.sensors[:3], source="o")
    with pytest.raises(RecordingError, match=r"o: 3 sensors, .* has 4"):
        distill_from(PCAScorer(tiny_recording.values), tiny_recording, tmp_path / "s.pt", settings=TINY, outliers=other)


@pytest.mark.parametrize(
    ("how", "settings", "line"),
    [
        ({}, {}, "regression trains no teacher of a series"),
        ({}, {"accumulator": "gru", "input": "window"}, "setting accumulator: .* set input=signature"),
        ({}, {"student": "autoencoder"}, "autoencoder is for images"),
        ({}, {"co_learning": True}, "setting co_learning: is for images"),
    ],
    ids=str,
)
def test_what_does_not_go_together_is_said(
    how: dict[str, Any], settings: dict[str, Any], line: str, tiny_recording: Recording, tmp_path: Path
) -> None:
    with pytest.raises(EdgeKDError, match=line):
        distill(tiny_recording, tmp_path / "s.pt", method="regression", settings={**TINY, **settings}, **how)


def test_a_file_that_scores_too_little_is_refused(tiny_recording: Recording) -> None:
    scores = np.where(parts(tiny_recording) == FIT, np.arange(len(tiny_recording)) + 1.0, np.nan)
    config = type(PRESETS["signature"]).from_json({**PRESETS["signature"].to_json(), **TINY})
    with pytest.raises(RecordingError, match="no score for a window in the part that tells when to stop"):
        train(tiny_recording, config, Training(teacher_scores=scores))


# -- on the device -----------------------------------------------------------------------------------------------------


def test_the_int8_file_keeps_the_ranks_and_the_tail(tiny_recording: Recording, tmp_path: Path) -> None:
    student = distill_from(PCAScorer(tiny_recording.values), tiny_recording, tmp_path / "s.pt", settings=TINY)
    files = [export(student, tmp_path / f"{int8}.onnx", int8=int8).path for int8 in (None, "default")]
    values = stranger(tiny_recording).values
    one, other = (np.array([v.score for v in Detector.load(path).update_block(values)]) for path in files)
    ranks = [np.argsort(np.argsort(scores)) for scores in (one, other)]
    assert np.corrcoef(*ranks)[0, 1] > 0.99
    top = np.sort(other)[-max(3, len(other) // 100) :]
    assert len(np.unique(top)) == len(top)
