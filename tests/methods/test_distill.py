"""`edgekd distill`: the same seed gives the same student, a killed run goes on, and what cannot be is one line."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from edgekd import cli
from edgekd.blocks.step import Scores
from edgekd.blocks.threshold import AUDIT, CALIBRATE, FIT, calibrate, parts
from edgekd.checkpoint import CHECKS, Checkpoint
from edgekd.data import Recording, load, save
from edgekd.distillation import distill, teacher_path
from edgekd.runtime.errors import ModelRefused, UsageError
from edgekd.simulation.simulate import simulate

TINY: dict[str, Any] = {
    "epochs": 6, "teacher_epochs": 1, "teacher_hop": 25, "teacher_batch": 8, "channels": 2, "lengths": [4, 8, 16],
}  # fmt: skip


def plant(seed: int = 1, samples: int = 600, sensors: int = 3) -> Recording:
    return simulate(samples=samples, sensors=sensors, seed=seed, faults=()).recording


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A small normal recording as a CSV."""
    save(plant(), tmp_path / "plant.csv")
    return tmp_path / "plant.csv"


@pytest.fixture
def edgekd(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """Run the command in this process: its exit code and what it wrote on stderr."""

    def run(*arguments: object) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["edgekd", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        return int(ended.value.code or 0), capsys.readouterr().err

    return run


def test_the_same_seed_and_teacher_give_the_same_student(
    tmp_path: Path, tiny_student: Path, tiny_recording: Recording
) -> None:
    kept = Checkpoint.load(tiny_student)
    again, other = (
        distill(
            tiny_recording, tmp_path / "s.pt", preset="quick", settings=kept.config, seed=seed,
            teacher=teacher_path(tiny_student),
        )
        for seed in (kept.seed, kept.seed + 1)
    )  # fmt: skip
    assert again.digest() == kept.digest() != other.digest()
    assert again.threshold == kept.threshold
    assert Checkpoint.load(tmp_path / "s.pt").digest() == other.digest()
    assert [path.name for path in tmp_path.iterdir()] == ["s.pt"]  # no copy of the teacher, nothing unfinished


# -- interrupted -----------------------------------------------------------------------------------------------------


STAYING = """
import time
from edgekd.progress import TrainingProgress
tell = TrainingProgress._epoch
def stay(self, event):
    tell(self, event)
    if (event["job"], event["epoch"]) == ("student", {epoch}):
        time.sleep(60)
TrainingProgress._epoch = stay
from edgekd.cli import main
main()
"""


def interrupt(data: Path, student: Path, epoch: int, signum: int, *more: str) -> tuple[int, str]:
    """Distill in a process of its own, which stays where the student's epoch is reported, and send a signal then."""
    settings = [f"--set={name}={value}".replace(" ", "") for name, value in TINY.items()]
    command = [sys.executable, "-c", STAYING.format(epoch=epoch), "distill", str(data), "-o", str(student)]
    process = subprocess.Popen(
        [*command, "--preset", "quick", *settings, *more],
        stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, cwd=Path(__file__).parents[2], env=os.environ,
        # a shell that runs the tests in the background has them ignore Ctrl-C, and children inherit that
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
    words = ""
    assert process.stderr is not None
    for line in process.stderr:
        words += line
        if line.startswith(f"student epoch {epoch}/"):
            process.send_signal(signum)
            break
    words += process.stderr.read()
    return process.wait(60), words


def test_killed_and_resumed_it_is_the_uninterrupted_student(data: Path, tmp_path: Path) -> None:
    student, work = tmp_path / "student.pt", tmp_path / "student.pt.work"
    code, words = interrupt(data, student, 1, signal.SIGINT)
    assert code == 130, words
    assert "--resume" in words
    assert "Traceback" not in words
    assert not student.exists()
    assert {path.name for path in work.iterdir()} >= {"teacher.training", "student.training"}

    code, words = interrupt(data, student, 3, signal.SIGKILL, "--resume")
    assert code == -signal.SIGKILL, words
    assert "student epoch 1/" not in words  # that one was kept
    assert "teacher epoch" not in words
    assert not student.exists()

    recording = load(str(data), "train")
    resumed = distill(recording, student, preset="quick", settings=TINY, resume=True)
    whole = distill(recording, tmp_path / "whole.pt", preset="quick", settings=TINY)
    assert resumed.digest() == whole.digest()
    assert resumed.threshold == whole.threshold
    assert torch.equal(resumed.normal_scores, whole.normal_scores)
    assert [row["loss"] for row in resumed.histories["student"]] == [row["loss"] for row in whole.histories["student"]]
    assert not work.exists()


# -- what cannot be --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--method", "lta", "--preset", "huge"], "lta has no preset 'huge'; it has joint, quick, edge, paper"),
        (["--preset", "huge"], "there is no preset 'huge': lta has joint, quick, edge, paper; linear has "),
        (["--set", "epochs"], "write it as NAME=VALUE"),
        (["--set", "epoch=3"], "lta has no setting 'epoch'"),
        (["--set", "epochs=many"], "setting epochs: 'many' is not a whole number from 1"),
        (["--set", "epochs=0"], "setting epochs: 0 is not a whole number from 1"),
        (["--set", "accumulator=transformer"], "is none of none, rnn, lstm, gru"),
        (["--set", "lengths=[9,3,1]"], "is not three rising numbers"),
        (["--set", "window=7"], "at least 10 samples"),
        (["--set", "distill=yes"], "neither true nor false"),
        (["--set", "learning_rate=NaN"], "is not a number"),
        (["--set", "levels=1"], "distillation matches level 2"),
        (["--method", "linear", "--set", "detector=best"], "is none of mahalanobis"),
        (["--method", "linear", "--teacher", "STUDENT"], "not a teacher"),
        (["--teacher", "missing.pt"], "missing.pt: no such file"),
        (["--teacher", "DATA"], "is a recording; distill it first"),
        (["--teacher", "STUDENT"], "a student, not a teacher"),
        (["-o", "DATA/student.pt"], "cannot be written"),
        (["--period-s", "-1"], "give a number of seconds above 0"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_cannot_be_is_refused_in_one_line_before_any_work(
    arguments: list[str], said: str, data: Path, tmp_path: Path, tiny_student: Path, edgekd: Any
) -> None:
    before = sorted(tmp_path.rglob("*"))
    words = [word.replace("DATA", str(data)).replace("STUDENT", str(tiny_student)) for word in arguments]
    code, text = edgekd("distill", data, "-o", tmp_path / "student.pt", *words)
    assert code in (2, 3)
    assert said in text
    assert text.startswith("edgekd: ")
    assert len(text.splitlines()) == 1
    assert sorted(tmp_path.rglob("*")) == before


def test_a_teacher_that_does_not_fit_is_refused(tmp_path: Path, tiny_student: Path) -> None:
    teacher = teacher_path(tiny_student)
    fitting = plant(sensors=4)

    def refused(recording: Recording, **settings: Any) -> str:
        with pytest.raises(UsageError) as error:
            distill(recording, tmp_path / "s.pt", preset="quick", settings={**TINY, **settings}, teacher=teacher)
        assert not list(tmp_path.iterdir())
        return str(error.value)

    assert "other sensors" in refused(plant(sensors=3))
    assert "one sample each" in refused(replace(fitting, period_s=fitting.period_s * 2))
    still = fitting.values.copy()
    still[:, 1] = 5.0
    assert "other sensors were constant" in refused(replace(fitting, values=still))
    assert "fitted, not distilled" in _linear_with_teacher(fitting, tmp_path, teacher)


def _linear_with_teacher(recording: Recording, folder: Path, teacher: Path) -> str:
    with pytest.raises(UsageError) as error:
        distill(recording, folder / "s.pt", method="linear", teacher=teacher)
    return str(error.value)


def test_labels_and_constant_sensors_are_pointed_out(tmp_path: Path, edgekd: Any) -> None:
    recording = simulate(samples=900, sensors=3, seed=2, faults=("spike-burst",)).recording
    values = recording.values.copy()
    values[:, 2] = 1.0
    save(replace(recording, values=values), tmp_path / "plant.csv")
    assert recording.labels is not None
    code, text = edgekd("distill", tmp_path / "plant.csv", "-o", tmp_path / "s.pt", "--method", "linear")
    assert code == 0
    assert f"{int(recording.labels.sum())} samples are labeled anomalous" in text
    assert f"1 constant sensors: {recording.sensors[2]}" in text
    assert Checkpoint.load(tmp_path / "s.pt").dropped == [recording.sensors[2]]


# -- the threshold ---------------------------------------------------------------------------------------------------


def fitted(recording: Recording, folder: Path) -> Checkpoint:
    return distill(recording, folder / "linear.pt", method="linear", preset="ensemble")


def test_labels_are_never_used(tmp_path: Path) -> None:
    recording = plant(samples=900)
    plain = fitted(recording, tmp_path)
    labeled = fitted(replace(recording, labels=np.arange(900) % 2 == 0), tmp_path)
    assert labeled.digest() == plain.digest()
    assert labeled.threshold == plain.threshold


def test_the_threshold_comes_from_the_part_that_is_kept_for_it(tmp_path: Path) -> None:
    recording = plant(samples=900)
    plain, part = fitted(recording, tmp_path), parts(recording)

    def shifted(which: int) -> Checkpoint:
        values = recording.values.copy()
        values[part == which] += 2 * np.ptp(values, axis=0)
        return fitted(replace(recording, values=values), tmp_path)

    audited, calibrated = shifted(AUDIT), shifted(CALIBRATE)
    assert audited.digest() == calibrated.digest() == plain.digest()  # the weights know the first part alone
    assert audited.threshold["value"] == plain.threshold["value"]
    assert audited.threshold["alarms_per_day"]["measured"] > 0
    assert calibrated.threshold["value"] > plain.threshold["value"]
    assert shifted(FIT).digest() != plain.digest()


def test_alarms_a_day_are_counted_in_episodes_on_the_last_part() -> None:
    recording = replace(plant(samples=1000), period_s=86.4)  # a thousand samples a day
    samples = np.arange(9, 1000, 10)
    scores = np.linspace(0.5, 1.0, 100, dtype=np.float32)
    scores[[92, 96]] = 5.0  # in the part that sets the threshold, and in the one that counts
    scores[97] = 9.0
    found = Scores(samples, scores, np.zeros((100, 3), np.float32))
    threshold = calibrate(found, recording, 10, per_day=None)  # the published rule
    assert threshold["value"] == 7.5
    assert threshold["alarms_per_day"]["days"] == pytest.approx(0.05)
    assert threshold["alarms_per_day"]["measured"] == pytest.approx(20.0)  # one episode in a twentieth of a day
    assert threshold["alarms_per_day"]["upper95"] == pytest.approx(4.744 / 0.05, rel=1e-3)  # Poisson, one seen


# -- the file --------------------------------------------------------------------------------------------------------


def test_a_checkpoint_opens_without_running_code(tmp_path: Path, tiny_student: Path) -> None:
    content = torch.load(tiny_student, weights_only=True)  # tensors and plain values: nothing else would open
    assert set(CHECKS) <= set(content)
    marker = tmp_path / "code ran"

    class Hostile:
        def __reduce__(self) -> Any:
            return os.mkdir, (str(marker),)

    torch.save({**content, "metrics": Hostile()}, tmp_path / "hostile.pt")
    with pytest.raises(ModelRefused, match="not a student checkpoint"):
        Checkpoint.load(tmp_path / "hostile.pt")
    assert not marker.exists()


@pytest.mark.parametrize("name", CHECKS)
def test_a_checkpoint_with_a_missing_or_odd_field_is_refused(name: str, tmp_path: Path, tiny_student: Path) -> None:
    content = torch.load(tiny_student, weights_only=True)
    for odd in (None, "x" if name not in ("method", "preset") else 7, [1, "x"], {"a": float("nan")}, torch.ones(2, 2)):
        if name == "layout" and odd is None:  # a recording that was no table
            continue
        torch.save({**content, name: odd}, tmp_path / "odd.pt")
        if name == "config" and isinstance(odd, dict):
            with pytest.raises(ModelRefused, match="do not belong together"):
                Checkpoint.load(tmp_path / "odd.pt").step()
            continue
        with pytest.raises(ModelRefused, match=f"'{name}'"):
            Checkpoint.load(tmp_path / "odd.pt")
    del content[name]
    torch.save(content, tmp_path / "odd.pt")
    if name in ("layout", "held_samples"):  # 0.1.0 did not write them
        Checkpoint.load(tmp_path / "odd.pt")
        return
    with pytest.raises(ModelRefused, match=rf"'{name}'|not a student checkpoint"):
        Checkpoint.load(tmp_path / "odd.pt")


def test_weights_of_another_configuration_are_refused(tiny_student: Path) -> None:
    checkpoint = Checkpoint.load(tiny_student)
    for change in (
        {"config": {**checkpoint.config, "channels": 8}},
        {"config": {**checkpoint.config, "epochs": "x"}},
        {"weights": {**checkpoint.weights, "scaler.kept": torch.tensor([0, 1, 2, 4])}},
        {"weights": {name: w for name, w in checkpoint.weights.items() if name != "residual.variance"}},
    ):
        with pytest.raises(ModelRefused, match="do not belong together"):
            replace(checkpoint, **change).step()


def test_a_checkpoint_cut_anywhere_is_refused_in_one_line(tmp_path: Path, tiny_student: Path) -> None:
    content, cut = tiny_student.read_bytes(), tmp_path / "cut.pt"
    for size in (0, 1, 4, 100, len(content) // 2, len(content) - 30, len(content) - 1):
        cut.write_bytes(content[:size])
        with pytest.raises(ModelRefused) as error:
            Checkpoint.load(cut)
        assert len(str(error.value).splitlines()) == 1
    cut.write_bytes(b"t,a,b\n0,1,2\n")
    with pytest.raises(ModelRefused, match="is a recording"):
        Checkpoint.load(cut)


def test_a_newer_checkpoint_says_upgrade(tmp_path: Path, tiny_student: Path) -> None:
    torch.save({**torch.load(tiny_student, weights_only=True), "format": 2}, tmp_path / "new.pt")
    with pytest.raises(ModelRefused, match=r"format 2 is newer.*upgrade"):
        Checkpoint.load(tmp_path / "new.pt")
