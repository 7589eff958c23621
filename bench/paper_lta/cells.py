"""The cells of the published LTA tables: one network, one data set, one window, one seed each.

A cell is trained, scores its test set once and keeps its figures as bench/results/lta/LABEL-DIGEST.json, where DIGEST
is of its data and settings: a changed setting is another cell, an unchanged one is never run again. Checkpoints, scores
and unfinished trainings lie under bench/trained/lta/; a training that was killed goes on after its last whole epoch.
Several processes may share the work: a cell that another one is busy with is passed over.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bench.paper_lta.published import TEACHER_WINDOWS
from bench.results import RESULTS, WORK, changed, digest
from edgekd.blocks.threshold import CALIBRATE, parts
from edgekd.checkpoint import Checkpoint, package
from edgekd.data import Recording, load
from edgekd.distillation import distill
from edgekd.evaluation.mscred_count import THETAS, exceedances
from edgekd.methods.interface import Training
from edgekd.methods.lta import LTAStep
from edgekd.methods.lta.config import PAPER, LTAConfig
from edgekd.methods.lta.distill import train_teacher
from edgekd.runtime.files import atomic
from edgekd.runtime.state import lock_state

CELLS = RESULTS / "lta"
TRAINED = WORK / "lta"

ROWS: dict[str, dict[str, Any]] = {
    "Base": {},
    "Base_small": {"distill": False, "accumulator": "none"},
    "full, GRU": {"accumulator": "gru"},
    "full, RNN": {"accumulator": "rnn"},
    "distillation only": {"accumulator": "none"},
    "RNN only": {"distill": False, "accumulator": "rnn"},
    "GRU only": {"distill": False, "accumulator": "gru"},
    "full, LSTM": {"accumulator": "lstm"},
    "LSTM only": {"distill": False, "accumulator": "lstm"},
}
"""What each row of the published tables changes; "Base" is the teacher."""

VARIANTS: dict[str, dict[str, Any]] = {
    "": {},
    "five epochs": {"epochs": 5},
    "nested windows": {},
    "nested windows, five epochs": {"epochs": 5},
    "entity resets": {"entity_resets": True},
    "attention scale": {"attention_scale": 0.0},
    "z-scored samples": {"scaling": "zscore"},
    "standardized matrices": {"standardize": "element", "output": "linear"},
    "beta per step": {"beta": "per_step"},
    "windows read again": {"feed": "window"},
    "target gradient": {"target_gradient": True},
    "vector summary": {"lts": "vector"},
    "pseudo-window summary": {"lts": "pseudo_window"},
    "learning rate x 5": {"learning_rate": 1e-3},
}
"""What the paper leaves open, one change each; the lengths of nested windows follow from w."""


def changes(variant: str, window: int) -> dict[str, Any]:
    """Settings of a variant for an input length."""
    if "nested windows" in variant:  # w / 4, w / 2 and w samples at five steps a hop apart, not all of it within w
        return VARIANTS[variant] | {"lengths": (window // 4, window // 2, window), "gap": LTAConfig.hop}
    return VARIANTS[variant]


@dataclass(frozen=True)
class Budget:
    """What the paper leaves open and a machine has to decide, the same for every cell."""

    epochs: int = 1
    teacher_epochs: int = 1
    training_hop: int = 50
    lanes: int = 4
    truncate_hops: int = 2
    teacher_batch: int = 16


@dataclass(frozen=True)
class Cell:
    """One figure of a table."""

    dataset: str
    row: str
    window: int
    seed: int
    budget: Budget = Budget()
    variant: str = ""

    @property
    def label(self) -> str:
        parts = (self.dataset, self.row, self.variant, f"w{self.window}", f"s{self.seed}")
        return "-".join(part.replace(",", "").replace(" ", "-") for part in parts if part)

    @cached_property
    def config(self) -> LTAConfig:
        """The student of this cell; the teacher's own for "Base"."""
        config = replace(
            PAPER,
            window=self.window,
            teacher_window=TEACHER_WINDOWS[self.dataset],
            epochs=self.budget.epochs,
            teacher_epochs=self.budget.teacher_epochs,
            training_hop=self.budget.training_hop,
            teacher_hop=self.budget.training_hop,
            lanes=self.budget.lanes,
            truncate_hops=self.budget.truncate_hops,
            teacher_batch=self.budget.teacher_batch,
            **ROWS[self.row],
        )
        config = replace(config, **changes(self.variant, self.window))
        return config.teacher() if self.row == "Base" else config

    @property
    def teacher(self) -> Cell | None:
        """The cell that a distilled one learns from."""
        if not self.config.distill:
            return None
        return replace(self, row="Base", window=TEACHER_WINDOWS[self.dataset])

    @cached_property
    def digest(self) -> str:
        """Of data, seed, teacher and the settings that are not the published ones."""
        return digest([self.dataset, changed(self.config), self.seed, self.teacher and self.teacher.digest])

    def file(self, kind: str) -> Path:
        """Where its checkpoint ("pt") or its scores ("npz") are; the figures ("json") are kept with the results."""
        return (CELLS if kind == "json" else TRAINED) / f"{self.label}-{self.digest}.{kind}"


@lru_cache(maxsize=4)
def recording(data: Path, dataset: str, part: str) -> Recording:
    return load(str(data / "smap_msl" / f"{dataset}.npz"), part)


def trained(cell: Cell, data: Path, device: str, report: Callable[[dict[str, Any]], None]) -> Checkpoint:
    """The cell's network, trained where it is missing, and its teacher before it."""
    path = cell.file("pt")
    if path.exists():
        return Checkpoint.load(path)
    train = recording(data, cell.dataset, "train")
    if cell.row == "Base":
        work = path.with_name(f"{path.name}.work")
        work.mkdir(parents=True, exist_ok=True)
        how = Training(seed=cell.seed, workdir=work, resume=True, device=device, report=report)
        step, history = train_teacher(train, cell.config, how)
        about = {"method": "lta", "role": "teacher", "preset": "paper", "seed": cell.seed}
        checkpoint = package(step, train, **about, histories={"teacher": history})
        checkpoint.save(path)
        shutil.rmtree(work)
        return checkpoint
    if cell.teacher is not None and not cell.teacher.file("pt").exists():
        with lock_state(str(cell.teacher.file("pt")), print):
            trained(cell.teacher, data, device, report)
    return distill(
        train,
        path,
        preset="paper",
        settings={name: value for name, value in cell.config.to_json().items() if value is not None},
        teacher=cell.teacher and cell.teacher.file("pt"),
        seed=cell.seed,
        resume=True,
        device=device,
        report=report,
    )


@torch.inference_mode()
def scored(cell: Cell, data: Path, checkpoint: Checkpoint) -> dict[str, np.ndarray]:
    """What a cell says of every window, computed once and kept.

    thetas float64 (K,), the grid and the calibrated one last; held_counts int32 (H, K) elements above each theta in
    the normal windows that set thresholds; samples int64 (V,) newest sample of each test window; scores float32 (V,);
    counts int32 (V, K).
    """
    path = cell.file("npz")
    if path.exists():
        with np.load(path) as arrays:
            return dict(arrays)
    step = checkpoint.step()
    assert isinstance(step, LTAStep)
    train, test = (recording(data, cell.dataset, part) for part in ("train", "test"))
    held = np.concatenate([residuals for _, _, residuals in _windows(step, train, parts(train) == CALIBRATE)])
    thetas = np.append(THETAS, np.quantile(held, 0.999))
    found = [(samples, scores, exceedances(r, thetas)) for samples, scores, r in _windows(step, test, None)]
    samples, scores, counts = (np.concatenate(column) for column in zip(*found))
    kept = {
        "thetas": thetas,
        "held_counts": exceedances(held, thetas),
        "samples": samples,
        "scores": scores,
        "counts": counts,
    }
    with atomic(path) as file:
        np.savez_compressed(file, **kept)  # type: ignore[arg-type]
    return kept


def _windows(
    step: LTAStep, data: Recording, wanted: np.ndarray | None
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Newest sample (B,), score (B,) and squared residuals of the shortest scale (B, n, n) of the wanted windows."""
    live = torch.ones(step.m)
    for start, end in step.entities(data):
        chosen = None if wanted is None else torch.from_numpy(wanted[start:end])
        for ends, target, output, recent in step.reconstructions(torch.from_numpy(data.values[start:end]), chosen):
            residual = target - output
            score, _ = step.verdict(residual, recent, live)
            yield ends.numpy() + start - 1, score.numpy(), residual[:, 0].square().numpy()
