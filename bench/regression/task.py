"""One task of the grid of score regression: one class of one set as the normal one, one seed.

The teacher is trained once, with the students that learn together with it beside it; no gradient goes from them to it,
so it is the same teacher that the others are then distilled from. The students of a task differ in nothing but their
size and their training: same images, same order, same first weights.
"""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch

from bench.results import WORK
from edgekd.blocks.scaling import SampleScaler
from edgekd.checkpoint import package
from edgekd.data import Recording, load
from edgekd.data import mnist as idx
from edgekd.evaluation.fidelity import fidelity
from edgekd.methods.interface import Training
from edgekd.methods.regression.config import PRESETS, RegressionConfig
from edgekd.methods.regression.image import AutoencoderStep, ImageModule, ImageStep
from edgekd.methods.regression.image_jobs import Group, Images
from edgekd.methods.regression.image_train import new_step, run, training_images
from edgekd.methods.regression.networks import LADDER, parameters
from edgekd.runtime.errors import GateFailed
from edgekd.torch_file import weights_digest

SETS = {"mnist": "fashion-mnist", "fashion-mnist": "mnist"}
"""Each set, and the other one, whose images are its outliers."""
TOGETHER = ("co-learning", "both")
IN_TURN = ("baseline", "outliers", "noise")
TRAININGS = ("baseline", "co-learning", "outliers", "both", "noise")
OUTLIERS = 12_000
TOP = 0.01  # of the scores, where an alarm is decided and ties would hurt


@dataclass(frozen=True)
class Settings:
    """How every task of a grid is trained."""

    epochs: int = 8
    """Of the teacher, and of the students that learn together with it."""
    student_epochs: int = 0
    """Of the students that are taught after it; 0: as many."""
    students: tuple[str, ...] = tuple(LADDER)
    batch: int = 64
    learning_rate: float = 3e-3
    teacher_learning_rate: float = 2e-3
    outlier_share: float = 0.25

    def config(self) -> RegressionConfig:
        """Of the training together; the one in turn differs in its epochs."""
        return replace(
            PRESETS["image"], rows=28, noise="none", epochs=self.epochs, teacher_epochs=self.epochs, batch=self.batch,
            learning_rate=self.learning_rate, teacher_learning_rate=self.teacher_learning_rate,
            outlier_share=self.outlier_share,
        )  # fmt: skip

    @property
    def suffix(self) -> str:
        """What tells the cells of other settings apart, nothing for the default."""
        names = () if self.students == tuple(LADDER) else self.students
        longer = (str(self.student_epochs),) if self.student_epochs else ()
        return "".join(f"-{part}" for part in (*names, *longer))

    @classmethod
    def of(cls, values: dict[str, Any]) -> Settings:
        """What `asdict` made, from a file; a setting that is newer than the file has its default."""
        return cls(**{**values, "students": tuple(values.get("students", LADDER))})


@dataclass(frozen=True)
class Task:
    """One class of one set, one seed."""

    name: str
    """A key of SETS."""
    chosen: int
    seed: int

    @property
    def label(self) -> str:
        return f"{self.name}-{self.chosen}-s{self.seed}"


def folder(data: Path, name: str) -> Path:
    """Where a set lies: a folder of its name, with a dash or an underscore."""
    dashed = data / name
    return dashed if dashed.exists() else data / name.replace("-", "_")


def outliers_of(data: Path, name: str) -> Recording:
    """Training images of the other set, spread over it."""
    images, _ = idx.read(folder(data, SETS[name]), "train")
    return idx.recording(images[np.linspace(0, len(images) - 1, OUTLIERS).astype(int)], SETS[name])


def run_task(data: Path, task: Task, settings: Settings, report: Any = lambda event: None) -> dict[str, Any]:
    """Train and measure: everything that one cell file holds."""
    started = time.process_time()
    spec = f"{task.name}:{folder(data, task.name)}#{task.chosen}"
    recording, test = load(spec, "train"), load(spec, "test")
    config = settings.config()
    workdir = WORK / "regression" / (task.label + settings.suffix)
    workdir.mkdir(parents=True, exist_ok=True)
    how = Training(
        seed=task.seed, workdir=workdir, resume=True, outliers=outliers_of(data, task.name), report=report
    )  # fmt: skip
    images, scaler = training_images(recording, config, how.outliers)
    teacher = new_step(config.teacher(), recording, scaler, task.seed)
    assert isinstance(teacher, AutoencoderStep)
    groups = {name: _group(name, settings, recording, scaler, task.seed) for name in TRAININGS}
    together, in_turn = ([groups[name] for name in names] for names in (TOGETHER, IN_TURN))
    run("together", images, replace(config, co_learning=True), how, recording, together, teacher)
    taught = weights_digest("teacher", teacher.eval().state_dict())
    alone = replace(config, epochs=settings.student_epochs or settings.epochs)
    run("in-turn", images, alone, how, recording, in_turn, teach=teacher.scores, taught=taught)
    trained = time.process_time()
    figures = measured(teacher, groups, recording, images, test)
    for file in workdir.glob("*"):
        file.unlink()
    workdir.rmdir()
    seconds = {"training": trained - started, "measuring": time.process_time() - trained}
    return {"task": asdict(task), "settings": asdict(settings), "cpu_s": seconds, **figures}


def _group(name: str, settings: Settings, recording: Recording, scaler: SampleScaler, seed: int) -> Group:
    """The students of one training, untrained."""
    config = settings.config()
    students = [new_step(replace(config, student=rung), recording, scaler, seed) for rung in settings.students]
    noise = "mixed" if name == "noise" else "none"
    return Group(name, students, outliers=name in ("outliers", "both"), noise=noise)  # type: ignore[arg-type]


def measured(
    teacher: ImageModule, groups: dict[str, Group], recording: Recording, images: Images, test: Recording
) -> dict[str, Any]:
    """ROC-AUC of the teacher and of every student, its fidelity, and what int8 does to it."""
    assert test.labels is not None
    anomalous = test.labels[teacher.hop - 1 :: teacher.hop]
    taught = teacher.score(test).scores
    with torch.inference_mode():
        normal = torch.cat([teacher.scores(some) for some in images.normal.split(128)]).numpy()
    rows: dict[str, Any] = {}
    for name, group in groups.items():
        rows[name] = {}
        for student in group.students:
            student.eval()
            found = student.score(test).scores
            rows[name][student.config.student] = {
                "auc": auc(anomalous, found),
                **fidelity(taught, found, anomalous, normal).to_json(),
                "int8": int8(student, recording, test, anomalous, found),
            }
    return {
        "teacher": {"auc": auc(anomalous, taught), "parameters": parameters(teacher.network)},
        "parameters": {student.config.student: student.parameters_learned for student in groups["baseline"].students},
        "students": rows,
    }


def auc(anomalous: np.ndarray, scores: np.ndarray) -> float:
    from sklearn.metrics import roc_auc_score

    return float(roc_auc_score(anomalous, scores))


# -- int8 --------------------------------------------------------------------------------------------------------------

_FLOAT: dict[str, bytes] = {}
"""The float graph of each student; the next one of its size gets its own weights put in, which takes no time."""
FLOAT_BOUND = 1e-4  # worst score error of a graph with other weights put in; the exporter joins tensors that are equal


def int8(
    step: ImageStep, recording: Recording, test: Recording, anomalous: np.ndarray, scores: np.ndarray
) -> dict[str, float]:
    """The default int8 file's ROC-AUC, its rank correlation with float, and the share of its top scores that tie."""
    from edgekd.export.onnx import schemes
    from edgekd.export.parity import spearman

    checkpoint = package(step, recording, method="regression", role="student", preset="image", seed=0, histories={})
    scale = np.maximum(scores, checkpoint.threshold["value"])
    for _ in range(2):
        model = float_graph(step)
        error = float(np.max(np.abs(engine_scores(model, step, test) - scores) / scale))
        if error <= FLOAT_BOUND:
            break
        _FLOAT.pop(step.config.student)  # what was one tensor in another student is two in this one: export it itself
    else:
        raise GateFailed(f"{step.config.student}: the float file's scores are off by {error:.2g}")
    scheme = next(iter(schemes().values()))
    quantized = scheme.quantize(model, step, step.calibration(checkpoint.replay()))
    found = engine_scores(quantized, step, test)
    top = np.sort(found)[-max(2, round(TOP * len(found))) :]
    return {
        "auc": auc(anomalous, found),
        "rank_correlation": spearman(scores, found),
        "ties_in_top": 1.0 - len(np.unique(top)) / len(top),
        "float_file_error": error,
    }


def float_graph(step: ImageStep) -> bytes:
    """The exported float graph of a student."""
    from edgekd.export.onnx import float_model

    name = step.config.student
    if name not in _FLOAT:
        _FLOAT[name] = float_model(step)
    model = onnx.load_from_string(_FLOAT[name])
    weights = step.state_dict()
    for tensor in model.graph.initializer:
        if tensor.name in weights:
            tensor.CopyFrom(onnx.numpy_helper.from_array(weights[tensor.name].contiguous().numpy(), tensor.name))
    return model.SerializeToString()


def engine_scores(model: bytes, step: ImageStep, test: Recording) -> np.ndarray:
    """Scores of all images, one after the other as on a device: float64 (N,)."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    valid = np.ones(step.n_sensors, np.float32)
    images = test.values.reshape(-1, step.hop, step.n_sensors)
    return np.array([float(session.run(["score"], {"samples": image, "valid": valid})[0]) for image in images])
