"""The training loop that every network shares: epochs, the best weights, early stopping, resuming, progress."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import nn

from edgekd.runtime.errors import GateFailed, ModelRefused, UsageError
from edgekd.torch_file import first_line, load_safely, save_atomically

FEW_UPDATES = 100  # optimizer steps; a network that makes fewer is close to the weights that it began with


class Job(Protocol):
    """One training: a module, its optimizer, and what an epoch is."""

    name: str
    module: nn.Module
    optimizer: torch.optim.Optimizer

    def epoch(self, number: int) -> Iterator[tuple[int, int, float | None]]:
        """Train one epoch; yields (steps done, steps in all, loss) after every step, None where no window counted."""

    def validate(self) -> float:
        """Loss on held-out normal windows."""


def learning_rate(schedule: str, peak: float, progress: float) -> float:
    """Rate at `progress` (0..1) of a training: "constant", or "one-cycle" (linear rise over 30 %, cosine fall)."""
    if schedule == "constant":
        return peak
    if progress < 0.3:
        return peak * (0.04 + 0.96 * progress / 0.3)
    return peak * max(1e-4, 0.5 + 0.5 * math.cos(math.pi * (progress - 0.3) / 0.7))


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = rate


def autocast(precision: str, device: torch.device) -> AbstractContextManager[object]:
    """bfloat16 products in training where `in_half` says so.

    Only around a network: sums whose differences count stay outside. Scores are always in float32.
    """
    return torch.autocast(device.type, torch.bfloat16) if in_half(precision, device) else nullcontext()


def in_half(precision: str, device: torch.device) -> bool:
    """Whether a setting "float32", "bf16" or "auto" means bfloat16 on a device."""
    if precision != "auto":
        return precision == "bf16"
    # AVX-512 has products of bfloat16 too, but a training with them takes longer than one in float32
    return device.type == "cpu" and torch.cpu._is_amx_tile_supported()


def generator(seed: int, epoch: int) -> torch.Generator:
    """Random numbers of one epoch: the same whether the run was interrupted before it or not."""
    return torch.Generator().manual_seed(seed * 1_000_003 + epoch)


def length(epochs: int, patience: int, updates: int, batches: int) -> tuple[int, int]:
    """Epochs and patience of a training with so many batches an epoch: as they are set, or as many epochs more as it
    takes to make so many updates, which then are all run."""
    needed = -(-updates // batches)
    return (needed, needed) if needed > epochs else (epochs, patience)


def fit(
    job: Job,
    *,
    epochs: int,
    patience: int,
    checkpoint: Path | None,
    resume: bool,
    digest: str,
    report: Callable[[dict[str, Any]], None],
    keep_from: int = 0,
) -> list[dict[str, float]]:
    """Train `job` and leave the weights of its best epoch in `job.module`; returns the history, one row an epoch.

    Epochs before number `keep_from` cannot be the best: they aim at a target that still moves.

    `checkpoint` is rewritten after every epoch, so a kill loses at most one. `digest` names data and configuration:
    a checkpoint of another training is not resumed. Stops after `patience` epochs without a better one; raises
    GateFailed where a loss is no longer a number, UsageError under `torch.inference_mode` or `no_grad`, where nothing
    would be learned.
    """
    if not torch.is_grad_enabled():
        raise UsageError(
            f"training of the {job.name}: no gradients under torch.no_grad or inference_mode; leave it first"
        )
    course = (_resumed(job, checkpoint, digest, report) if resume else None) or _Course([], _weights(job.module))
    for number in range(len(course.history), epochs):
        if course.history and number - _best_epoch(course.history, keep_from) >= patience:
            break
        started = time.monotonic()
        loss, validation = _train(job, number, epochs, report), job.validate()
        if not (math.isfinite(loss) and math.isfinite(validation)):
            raise GateFailed(
                f"the training of the {job.name} diverged in epoch {number + 1} (loss {loss:g}, validation "
                f"{validation:g}); lower its learning rate, for example --set learning_rate=1e-4"
            )
        course.history.append({"loss": loss, "validation": validation, "seconds": time.monotonic() - started})
        if number <= keep_from or validation < course.best_loss:
            course.best, course.best_loss = _weights(job.module), validation
        if checkpoint is not None:
            course.save(job, checkpoint, digest)
        report({"job": job.name, "epoch": number + 1, "epochs": epochs, **course.history[-1]})  # said when it is kept
    job.module.load_state_dict(course.best)
    return course.history


@dataclass
class _Course:
    """What a training has come to: a row for each epoch, and the weights of the best."""

    history: list[dict[str, float]]
    best: dict[str, torch.Tensor]
    best_loss: float = math.inf

    def save(self, job: Job, path: Path, digest: str) -> None:
        """Keep it, with all that the next epoch goes on from."""
        content = {
            "name": job.name,
            "digest": digest,
            **vars(self),
            "module": job.module.state_dict(),
            "optimizer": job.optimizer.state_dict(),
        }
        save_atomically(content, path)


def _train(job: Job, number: int, epochs: int, report: Callable[[dict[str, Any]], None]) -> float:
    """One epoch, with a report on every step; its mean loss."""
    started = time.monotonic()
    losses: list[float] = []
    for done, steps, loss in job.epoch(number):
        if loss is not None:
            losses.append(loss)
            if number == 0 and len(losses) == 1 and steps * epochs < FEW_UPDATES:
                report({"job": job.name, "note": _too_few(job.name, epochs, steps)})
        if not losses:
            continue
        spent = time.monotonic() - started
        report(
            {
                "job": job.name,
                "epoch": number + 1,
                "epochs": epochs,
                "step": done,
                "steps": steps,
                "loss": sum(losses[-50:]) / len(losses[-50:]),
                "steps_per_s": done / spent,
            }
        )
    return sum(losses) / max(1, len(losses))


def _too_few(name: str, epochs: int, batches: int) -> str:
    return (
        f"the {name} learns little from {epochs * batches} optimizer steps (epochs: {epochs}, batches in each: "
        f"{batches}); train on a longer recording, or for longer with --set updates=600"
    )


def _weights(module: nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.detach().clone() for name, tensor in module.state_dict().items()}


def _best_epoch(history: list[dict[str, float]], keep_from: int = 0) -> int:
    """Number of epochs up to the best one that counts, 0 before the first."""
    if not history:
        return 0
    return 1 + min(range(min(keep_from, len(history) - 1), len(history)), key=lambda i: history[i]["validation"])


def _resumed(
    job: Job, checkpoint: Path | None, digest: str, report: Callable[[dict[str, Any]], None]
) -> _Course | None:
    """What a killed training left, put into the job, where it is this one's."""
    if checkpoint is None or not checkpoint.exists():
        return None
    try:
        saved = load_safely(checkpoint)
        same = (saved["name"], saved["digest"]) == (job.name, digest)
    except UsageError:
        raise
    except Exception as error:  # torch raises many kinds for what it has not written
        raise ModelRefused(
            f"{checkpoint}: cannot be resumed ({first_line(error)}); start anew without --resume"
        ) from None
    if not same:
        report({"job": job.name, "note": f"{checkpoint} is of other data, settings, seed or teacher: starting anew"})
        return None
    job.module.load_state_dict(saved["module"])
    job.optimizer.load_state_dict(saved["optimizer"])
    return _Course(saved["history"], saved["best"], saved["best_loss"])
