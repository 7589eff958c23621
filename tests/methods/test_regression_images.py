"""Score regression on images: reading the sets, training beside one teacher, and what cannot be is one line."""

from __future__ import annotations

import gzip
import json
import struct
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from sklearn.metrics import roc_auc_score

from edgekd import cli
from edgekd.checkpoint import Checkpoint
from edgekd.data import Recording, load
from edgekd.data import mnist as idx
from edgekd.distillation import distill, teacher_path
from edgekd.methods.interface import Training
from edgekd.methods.regression.config import PRESETS
from edgekd.methods.regression.image import AutoencoderStep
from edgekd.methods.regression.image_jobs import Group, ImageJob
from edgekd.methods.regression.image_outliers import KINDS, noisy
from edgekd.methods.regression.image_train import new_step, run, train_image, training_images
from edgekd.runtime.errors import RecordingError, UsageError

SIDE, PER_CLASS = 8, 60
TINY: dict[str, Any] = {"epochs": 2, "teacher_epochs": 1, "batch": 16, "teacher_batch": 16, "student": "our-S1"}


def pictures(seed: int, count: int = PER_CLASS) -> tuple[np.ndarray, np.ndarray]:
    """Ten classes of 8 x 8 grey images, uint8, mixed: a bright bar whose place is the class, on noise."""
    draw = np.random.default_rng(seed)
    labels = draw.permutation(np.repeat(np.arange(10), count)).astype(np.uint8)
    images = draw.integers(0, 60, (len(labels), SIDE, SIDE))
    for image, label in zip(images, labels):
        image[label % SIDE if label < 5 else slice(None), slice(None) if label < 5 else label % SIDE] += 180
    return images.astype(np.uint8), labels


def write(path: Path, array: np.ndarray) -> None:
    head = struct.pack(">BBBB", 0, 0, 8, array.ndim) + struct.pack(f">{array.ndim}I", *array.shape)
    data = head + array.tobytes()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)


def write_set(folder: Path, seed: int, suffix: str = "") -> Path:
    """The four files of a set."""
    folder.mkdir()
    for stem, count in (("train", PER_CLASS), ("t10k", 8)):
        images, labels = pictures(seed + count, count)
        write(folder / f"{stem}-images-idx3-ubyte{suffix}", images)
        write(folder / f"{stem}-labels-idx1-ubyte{suffix}", labels)
    return folder


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("sets")
    return write_set(folder / "one", 1, ".gz"), write_set(folder / "other", 2)


@pytest.fixture(scope="module")
def normal(sets: tuple[Path, Path]) -> Recording:
    return load(f"mnist:{sets[0]}#3", "train")


@pytest.fixture(scope="module")
def foreign(sets: tuple[Path, Path]) -> Recording:
    return load(f"fashion-mnist:{sets[1]}", "train")


# -- reading -----------------------------------------------------------------------------------------------------------


def test_a_class_is_normal_and_the_test_part_is_balanced_and_the_same_each_time(sets: tuple[Path, Path]) -> None:
    images, labels = idx.read(sets[0], "train")
    train = load(f"mnist:{sets[0]}#3", "train")
    assert train.frame == SIDE and train.values.dtype == np.float32
    assert np.array_equal(train.values.reshape(-1, SIDE, SIDE), images[labels == 3])
    test, again = (load(f"fashion-mnist:{sets[1]}#dress", "test") for _ in range(2))
    assert test.labels is not None and test.digest() == again.digest()
    assert test.labels.reshape(-1, SIDE).all(1).sum() == (~test.labels).reshape(-1, SIDE).all(1).sum() == 8
    assert len(load(f"mnist:{sets[0]}", "train")) == 10 * PER_CLASS * SIDE


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ("mnist:{0}#11", "no class '11'"),
        ("fashion-mnist:{0}#dres", "did you mean dress?"),
        ("{0}#3", "say which, mnist:"),
        ("mnist:{0}/train-images-idx3-ubyte.gz#3", "not of format mnist"),
    ],
)
def test_what_is_no_class_is_said(sets: tuple[Path, Path], spec: str, says: str) -> None:
    with pytest.raises(RecordingError, match=says) as error:
        load(spec.format(*sets), "train")
    assert "\n" not in str(error.value)


def test_damaged_sets(tmp_path: Path) -> None:
    folder = write_set(tmp_path / "set", 1)
    labels = folder / "train-labels-idx1-ubyte"
    whole = labels.read_bytes()
    for content, says in (
        (whole[:-5], "stated; get the file again"),
        (b"\x00\x00\x0d\x01" + whole[4:], "not an idx file"),
        (b"", "not an idx file"),
        (struct.pack(">BBBBI", 0, 0, 8, 1, 3) + b"abc", "600 train images but 3 labels"),
    ):
        labels.write_bytes(content)
        with pytest.raises(RecordingError, match=says):
            load(f"mnist:{folder}#1", "train")
    labels.unlink()
    with pytest.raises(RecordingError, match=r"missing, and no train-labels-idx1-ubyte\.gz either"):
        load(f"mnist:{folder}#1", "train")
    labels.with_name(f"{labels.name}.gz").write_bytes(gzip.compress(whole)[:-20])
    with pytest.raises(RecordingError, match="cannot be read"):
        load(f"mnist:{folder}#1", "train")


# -- training ----------------------------------------------------------------------------------------------------------


def config(**settings: Any) -> Any:
    return replace(PRESETS["image"], rows=SIDE, **{**TINY, **settings})


def trained(normal: Recording, foreign: Recording, students: list[str], how: Training, **settings: Any) -> Any:
    """Co-learning with outliers: the teacher, and the students, trained at once."""
    plan = config(co_learning=True, **settings)
    images, scaler = training_images(normal, plan, foreign)
    teacher = new_step(plan.teacher(), normal, scaler, how.seed)
    assert isinstance(teacher, AutoencoderStep)
    steps: Any = [new_step(replace(plan, student=name), normal, scaler, how.seed) for name in students]
    run("student", images, plan, how, normal, [Group("all", steps, outliers=True)] if steps else [], teacher)
    return teacher, steps


def same(one: torch.nn.Module, other: torch.nn.Module) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), other.state_dict().values()))


def test_a_student_beside_others_is_the_one_alone_and_the_teacher_knows_of_none(
    normal: Recording, foreign: Recording
) -> None:
    how = Training(seed=3, outliers=foreign)
    teacher, (first, third) = trained(normal, foreign, ["our-S1", "our-S3"], how)
    same_teacher, (alone,) = trained(normal, foreign, ["our-S3"], how)
    assert same(third, alone) and same(teacher, same_teacher) and not same(first, third)
    by_itself, _ = trained(normal, foreign, [], how, teacher_epochs=2)
    assert same(teacher, by_itself)


def test_a_killed_training_goes_on_to_the_same_student(tmp_path: Path, normal: Recording, foreign: Recording) -> None:
    _, (whole,) = trained(normal, foreign, ["our-S1"], Training(outliers=foreign), epochs=5)

    def stop(event: dict[str, Any]) -> None:
        if event.get("epoch") == 3 and "validation" in event:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        trained(normal, foreign, ["our-S1"], Training(outliers=foreign, workdir=tmp_path, report=stop), epochs=5)
    told: list[dict[str, Any]] = []
    how = Training(outliers=foreign, workdir=tmp_path, resume=True, report=told.append)
    _, (resumed,) = trained(normal, foreign, ["our-S1"], how, epochs=5)
    assert same(whole, resumed)
    assert [event["epoch"] for event in told if "validation" in event] == [4, 5]


def test_every_student_keeps_its_own_best_epoch(normal: Recording, foreign: Recording) -> None:
    plan = config(epochs=4)
    images, scaler = training_images(normal, plan, None)
    students: Any = [new_step(replace(plan, student=name), normal, scaler, 0) for name in ("our-S1", "our-S2")]
    job = ImageJob("student", images, plan, 0, [Group("all", students)], teach=lambda rows: rows.mean((1, 2, 3)))
    job.number = 0
    job.best.offer(0, 1.0, always=True)
    job.best.offer(1, 1.0, always=True)
    before = [student.network.head.bias.item() for student in students]
    for student in students:
        student.network.head.bias.data += 5.0
    job.best.offer(0, 2.0, always=False)
    job.best.offer(1, 0.5, always=False)
    job.finish()
    gained = [student.network.head.bias.item() - bias for student, bias in zip(students, before)]
    assert gained == pytest.approx([0.0, 5.0])


def test_groups_on_other_diets_are_trained_side_by_side(normal: Recording, foreign: Recording) -> None:
    plan, how = config(), Training(outliers=foreign)
    images, scaler = training_images(normal, plan, foreign)
    groups, alone = (
        [
            Group(noise, [new_step(replace(plan, student=name), normal, scaler, 0) for name in names], outliers, noise)  # type: ignore[misc]
            for names in (("our-S1", "our-S2"),)
            for noise, outliers in (("none", False), ("erase", True))
        ]
        for _ in range(2)
    )
    run("student", images, plan, how, normal, groups, teach=lambda rows: rows.mean((1, 2, 3)))
    for group in alone:
        run("student", images, plan, how, normal, [group], teach=lambda rows: rows.mean((1, 2, 3)))
    untrained = new_step(replace(plan, student="our-S2"), normal, scaler, 0)
    for one, other in zip(groups, alone):
        assert all(same(a, b) for a, b in zip(one.students, other.students))
        assert not same(one.students[1], untrained)


def test_outliers_make_up_their_share(normal: Recording, foreign: Recording) -> None:
    plan = config(outlier_share=0.25)
    images, scaler = training_images(normal, plan, foreign)
    assert images.outliers is not None and images.held_outliers is not None
    assert len(images.outliers) + len(images.held_outliers) == 10 * PER_CLASS
    step: Any = new_step(plan, normal, scaler, 0)
    job = ImageJob("student", images, plan, 0, [Group("all", [step], True)], teach=lambda rows: rows.mean((1, 2, 3)))
    assert job._extra_rows(48) == 16
    both = Group("all", [step], outliers=True, noise="mixed").extra(images, 17, torch.Generator().manual_seed(0))
    assert both is not None and len(both) == 17


@pytest.mark.parametrize("kind", [*KINDS, "mixed"])
def test_noise_damages_every_image_and_stays_an_image(kind: str) -> None:
    images = torch.rand(6, 1, 12, 8)
    damaged = noisy(images, kind, torch.Generator().manual_seed(1))
    assert damaged.shape == images.shape and damaged.min() >= 0 and damaged.max() <= 1
    assert (damaged != images).flatten(1).any(1).all()
    assert torch.equal(damaged, noisy(images, kind, torch.Generator().manual_seed(1)))
    if kind == "shuffle":
        assert torch.equal(damaged.flatten(1).sort(1).values, images.flatten(1).sort(1).values)


# -- the command -------------------------------------------------------------------------------------------------------


@pytest.fixture
def edgekd(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """Run the command in this process: its exit code and what it wrote on stderr."""

    def call(*arguments: object) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["edgekd", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        return int(ended.value.code or 0), capsys.readouterr().err

    return call


def settings(**given: Any) -> list[str]:
    return [f"--set={name}={value}" for name, value in {**TINY, **given}.items() if name != "student"]


def test_the_command_trains_teacher_and_student_together(tmp_path: Path, sets: tuple[Path, Path], edgekd: Any) -> None:
    student = tmp_path / "student.pt"
    code, said = edgekd(
        "distill", f"mnist:{sets[0]}#3", "--method", "regression", "--student", "our-S3", "--co-learning",
        "--outliers", f"fashion-mnist:{sets[1]}", "-o", student, *settings(),
    )  # fmt: skip
    assert code == 0, said
    kept, teacher = Checkpoint.load(student), Checkpoint.load(teacher_path(student))
    assert (kept.role, kept.preset, teacher.role) == ("student", "image", "teacher")
    assert kept.config["co_learning"] is True and kept.step().hop == SIDE
    assert len(kept.replay_samples) % SIDE == 0
    assert "0.99 quantile of" in kept.threshold["rule"] and not kept.threshold["alarms_per_day"]["days"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["student-teacher.pt", "student.pt"]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--outliers", "csv:{small}"], "outliers of 8 x 2 pixels, but mnist#3 train has images of 8 x 8"),
        (["--outliers", "mnist:{0}#3"], "these outliers are the normal images"),
        (["--co-learning", "--teacher", "{teacher}"], "co-learning trains its own teacher"),
        (["--teacher", "{teacher}", "--teacher", "{teacher}"], "2 teachers were given; images are taught by one"),
        (["--teacher-scores", "{scores}"], "4 scores, but mnist#3 train has 480 samples"),
        (["--student", "our-S9"], "'our-S9' is none of our-S1"),
        (["--student", "our-S2", "--set", "student=our-S1"], "student is given as an option and by --set"),
        (["--set", "rows=7"], "images of 8 x 8 pixels, 7 rows are expected"),
    ],
)
def test_what_cannot_be_trained_is_one_line(
    tmp_path: Path, sets: tuple[Path, Path], normal: Recording, edgekd: Any, arguments: list[str], says: str
) -> None:
    (tmp_path / "small.csv").write_text("a,b\n" + "1,2\n3,4\n" * 8)
    (tmp_path / "scores.csv").write_text("1\n2\n3\n4\n")
    if any("{teacher}" in argument for argument in arguments):
        distill(
            normal, tmp_path / "s.pt", method="regression", settings={**TINY, "epochs": 1}
        )  # fmt: skip
    names = {"small": tmp_path / "small.csv", "teacher": tmp_path / "s-teacher.pt", "scores": tmp_path / "scores.csv"}
    given = [argument.format(*sets, **names) for argument in arguments]
    code, said = edgekd("distill", f"mnist:{sets[0]}#3", "--method", "regression", "-o", tmp_path / "x.pt", *given)
    assert code == 2 and says in said.splitlines()[-1]
    assert "Traceback" not in said and not (tmp_path / "x.pt").exists()


def test_other_methods_refuse_images_and_what_only_regression_takes(sets: tuple[Path, Path], edgekd: Any) -> None:
    code, said = edgekd("distill", f"mnist:{sets[0]}#3", "--method", "lta")
    assert code == 2 and "lta takes no images; --method regression does" in said
    with pytest.raises(UsageError, match="linear does not learn from --outliers"):
        distill(load_series(), Path("x.pt"), method="linear", outliers=load_series())


def load_series() -> Recording:
    values = np.random.default_rng(0).normal(size=(200, 2)).astype(np.float32)
    return Recording(values=values, sensors=("a", "b"), period_s=60.0)


def test_a_given_teacher_teaches(normal: Recording) -> None:
    first = train_image(normal, config(), Training())
    kept: list[Any] = []
    teacher = train_image(normal, config(student="autoencoder"), Training()).step
    again = train_image(normal, config(), Training(teachers=(teacher,), keep_teacher=kept.append))
    assert same(first.step, again.step) and not kept


def test_images_are_evaluated_one_by_one_and_against_their_teacher(
    tmp_path: Path,
    sets: tuple[Path, Path],
    normal: Recording,
    edgekd: Any,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    student = tmp_path / "s.pt"
    distill(normal, student, method="regression", settings={**TINY, "teacher_epochs": 3})
    test = load(f"mnist:{sets[0]}#3", "test")
    capsys.readouterr()
    arguments = ["evaluate", student, f"mnist:{sets[0]}#3", "--teacher", teacher_path(student), "--json"]
    monkeypatch.setattr(sys, "argv", ["edgekd", *map(str, arguments)])
    with pytest.raises(SystemExit):
        cli.main()
    report = json.loads(capsys.readouterr().out)
    step = Checkpoint.load(student).step()
    found = step.score(test)
    assert test.labels is not None
    assert report["images"] == 16 and report["anomalous"] == 8
    assert report["figures"]["roc_auc"] == pytest.approx(roc_auc_score(test.labels[found.samples], found.scores))
    taught = Checkpoint.load(teacher_path(student)).step().score(test).scores
    assert report["fidelity"]["rank_correlation"] == pytest.approx(spearmanr(taught, found.scores).statistic)
    code, said = edgekd("evaluate", student, f"mnist:{sets[0]}#3")
    assert code == 0, said
