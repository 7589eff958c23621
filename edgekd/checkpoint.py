"""The student checkpoint: a dict of tensors and JSON-able values with all that later commands need, and nothing else.

Opened only with `torch.load(weights_only=True)`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from edgekd import __version__
from edgekd.blocks.step import Scores, StepModule
from edgekd.blocks.stillness import longest_still_s
from edgekd.blocks.threshold import CALIBRATE, FIT, budget_in_words, calibrate, counted, evidence, parts, unseen
from edgekd.data.recording import Recording
from edgekd.data.save import layout_fields
from edgekd.file_kinds import CHECKPOINTS, require
from edgekd.methods import METHODS, method
from edgekd.runtime.errors import ModelRefused, UsageError
from edgekd.runtime.json_fields import record
from edgekd.runtime.layout import Layout
from edgekd.runtime.manifest import MAX_SENSORS, threshold_at
from edgekd.torch_file import first_line, load_safely, save_atomically, weights_digest

FORMAT = 1
REPLAY_LIMIT_BYTES = 4 * 2**20  # the replay stretch that calibrates int8 and proves parity
MAX_HELD = 10**6
PAPER = "paper"  # the preset whose threshold is the published one
NORMAL_SCORES = 4096  # at most so many scores of normal data are kept


class _OfSensors(TorchFunctionMode):
    """Under the device "meta", where tensors take no memory, makes those that are as large as the sensors are many.

    Torch would take seconds to load what it makes them with there.
    """

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        place = {"device": "cpu"} if function in (torch.arange, torch.eye) else {}
        return function(*args, **{**place, **(kwargs or {})})


@dataclass
class Checkpoint:
    """One trained detector, student or teacher."""

    method: str
    role: str
    """"student" or "teacher"."""
    preset: str
    config: dict[str, Any]
    sensors: list[dict[str, Any]]
    """name, unit, low, high, fill of each, raw units, and `longest_still_s` (`SensorSpec`)."""
    dropped: list[str]
    """Sensors that were constant in training and are left out."""
    period_s: float
    weights: dict[str, Tensor]
    replay_samples: Tensor
    """float32 (T, n): one contiguous stretch of normal samples, raw units."""
    replay_starts: list[int]
    """Where state is reset in it."""
    threshold: dict[str, Any]
    normal_scores: Tensor
    """float32: the newest of the normal scores that set the threshold, and those after them."""
    seed: int
    data: dict[str, Any]
    """source, digest, samples and entities of the training recording, and what its threshold rests on."""
    layout: dict[str, Any] | None = None
    """How the training's file was read (`edgekd.runtime.layout`); None where it was no table."""
    held_samples: int = 0
    """Samples over which a sensor was held in training because it speaks more rarely than the others."""
    histories: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, Any] = field(default_factory=dict)
    edgekd: str = __version__
    format: int = FORMAT

    def step(self) -> StepModule:
        """The detector, ready to score; raises ModelRefused where configuration and weights are not of one piece."""
        module = method(self.method)
        try:
            config = module.CONFIG.from_json(self.config)
            sizes = len(self.sensors), len(self.sensors) - len(self.dropped), self.period_s
            with torch.device("meta"), _OfSensors():  # settings that ask for more weights than there are end here
                module.STEP(config, *sizes).load_state_dict(self.weights, assign=True)
            step = module.STEP(config, *sizes)
            step.load_state_dict(self.weights, assign=True)  # a language model is held once
            if not ((step.scaler.kept >= 0) & (step.scaler.kept < len(self.sensors))).all():
                raise ValueError("it looks at sensors that there are not")
            if step.hop > len(self.replay_samples):  # it could not be exported; and costs of a step are counted by one
                raise ValueError("a hop is longer than all samples that it keeps")
        except (UsageError, RuntimeError, ValueError, TypeError) as error:
            raise ModelRefused(
                f"the checkpoint's settings and weights do not belong together ({first_line(error)}); distill it again"
            ) from None
        return step.eval()

    def set_budget(self, per_day: float) -> None:
        """Take the threshold for this many false alarms a day; raises UsageError where it knows no such one.

        What was counted on data that set nothing is that of the nearest budget that is no smaller.
        """
        points = [(rate, value) for rate, value, _ in self.threshold.get("points", ())]
        value = threshold_at(tuple(points), per_day)
        alarms = [alarms for rate, _, alarms in self.threshold["points"] if rate >= per_day][-1]
        self.threshold |= {
            "value": value,
            "rule": f"{budget_in_words(per_day)}, by scores on normal data",
            "alarms_per_day": counted(alarms, self.threshold["alarms_per_day"]["days"]),
        }

    def replay(self) -> Recording:
        """The replay stretch as a recording."""
        return Recording(
            values=self.replay_samples.numpy(),
            sensors=tuple(sensor["name"] for sensor in self.sensors),
            period_s=self.period_s,
            starts=tuple(self.replay_starts),
            entities=tuple("" for _ in self.replay_starts),
            source=f"replay stretch of {self.data['source']}",
        )

    def summary(self) -> dict[str, Any]:
        """What people ask first, JSON-able."""
        step = self.step()
        return {
            "method": self.method,
            "role": self.role,
            "preset": self.preset,
            "parameters": step.parameters_learned,
            "sensors": len(self.sensors),
            "dropped_sensors": self.dropped,
            "period_s": self.period_s,
            "hop": step.hop,
            "warmup_samples": step.warmup_samples,
            "threshold": self.threshold,
            "seed": self.seed,
            "data": self.data,
        }

    def digest(self) -> str:
        """SHA-256 over the weights and the configuration."""
        return weights_digest(repr((self.method, sorted(self.config.items()), self.period_s)), self.weights)

    def save(self, path: Path) -> None:
        """Write the file; an older one of that name stays whole if this is cut short."""
        save_atomically({field.name: getattr(self, field.name) for field in fields(self)}, path)

    @classmethod
    def load(cls, path: Path) -> Checkpoint:
        """Read a file written by `save`; anything else is refused with what it seems to be."""
        require(path, CHECKPOINTS)
        try:
            content = load_safely(path)
        except UsageError:
            raise
        except Exception as error:  # torch raises many kinds for what is not a checkpoint
            raise ModelRefused(
                f"{path}: not a student checkpoint ({first_line(error)}); give a file made by `edgekd distill`"
            ) from None
        if not isinstance(content, dict) or "method" not in content or "weights" not in content:
            raise ModelRefused(f"{path}: a torch file, but not a student checkpoint; give one made by `edgekd distill`")
        version = content.get("format")
        if isinstance(version, int) and version > FORMAT:
            raise ModelRefused(f"{path}: format {version} is newer than this EdgeKD reads ({FORMAT}); upgrade")
        for name, fits in CHECKS.items():
            try:
                whole = bool(fits(content))
            except (KeyError, TypeError, ValueError, AttributeError, IndexError, RuntimeError, ModelRefused):
                whole = False
            if not whole:
                raise ModelRefused(f"{path}: a damaged checkpoint, '{name}' is missing or wrong; distill it again")
        known = {field.name for field in fields(cls)}
        return cls(**{name: value for name, value in content.items() if name in known})


def _finite(*values: Any) -> bool:
    return all(isinstance(value, (int, float)) and math.isfinite(value) for value in values)


def _sensor(sensor: dict[str, Any]) -> bool:
    words = isinstance(sensor, dict) and isinstance(sensor["name"], str) and isinstance(sensor["unit"], str)
    still_s = sensor.get("longest_still_s", 0.0)  # students of earlier versions have none
    numbers = sensor["low"], sensor["high"], sensor["fill"], still_s
    return words and _finite(*numbers) and still_s >= 0 and len(sensor.keys() - {"longest_still_s"}) == 5


def _threshold(threshold: dict[str, Any]) -> bool:
    rate = dict(threshold)["alarms_per_day"]
    measured = not rate["days"] or _finite(rate["measured"], rate["upper95"], rate["days"])
    points = threshold.get("points", [])
    falling = all(one[0] > other[0] and one[1] <= other[1] for one, other in pairwise(points))
    known = falling and all(len(point) == 3 and _finite(*point) and point[0] > 0 for point in points)
    return measured and known and _finite(threshold["value"]) and isinstance(threshold["rule"] + threshold["data"], str)


def _starts(starts: list[int], samples: int) -> bool:
    rising = all(one < other for one, other in zip(starts, [*starts[1:], samples]))
    return rising and starts[0] == 0 and all(isinstance(start, int) for start in starts)


# What a file must hold to be taken for a checkpoint: one predicate a field, so that everything behind `load` can trust
# it. A field that is missing, or of a kind that the predicate cannot look at, does not hold either.
CHECKS: dict[str, Callable[[dict[str, Any]], bool]] = {
    "format": lambda c: isinstance(c["format"], int),
    "method": lambda c: c["method"] in METHODS,
    "role": lambda c: c["role"] in ("student", "teacher"),
    "preset": lambda c: isinstance(c["preset"], str),
    "sensors": lambda c: len(c["sensors"]) <= MAX_SENSORS and all(_sensor(sensor) for sensor in c["sensors"]),
    "config": lambda c: len(c["config"].get("judged") or ()) <= len(c["sensors"]),
    "dropped": lambda c: set(c["dropped"]) < {sensor["name"] for sensor in c["sensors"]},
    "period_s": lambda c: _finite(c["period_s"]) and c["period_s"] > 0,
    "weights": lambda c: all(isinstance(name, str) and bool(w.isfinite().all()) for name, w in c["weights"].items()),
    "replay_samples": lambda c: (
        c["replay_samples"].dtype == torch.float32
        and c["replay_samples"].shape[1:] == (len(c["sensors"]),)
        and bool(c["replay_samples"].isfinite().all())
    ),
    "replay_starts": lambda c: _starts(c["replay_starts"], len(c["replay_samples"])),
    "threshold": lambda c: _threshold(c["threshold"]),
    "normal_scores": lambda c: (
        c["normal_scores"].is_floating_point()
        and c["normal_scores"].dim() == 1
        and bool(c["normal_scores"].isfinite().all())
    ),
    "seed": lambda c: isinstance(c["seed"], int),
    "layout": lambda c: c.get("layout") is None or bool(record(c["layout"], "layout", Layout)),
    "held_samples": lambda c: type(found := c.get("held_samples", 0)) is int and 0 <= found <= MAX_HELD,
    "data": lambda c: isinstance(dict(c["data"])["source"] + c["data"]["digest"], str),
}


def package(
    step: StepModule,
    recording: Recording,
    *,
    method: str,
    role: str,
    preset: str,
    seed: int,
    histories: dict[str, Any],
    normal: Scores | None = None,
    false_alarms_per_day: float = 1.0,
) -> Checkpoint:
    """A trained step with its threshold and the replay stretch; preset `paper` has the published threshold.

    normal: cross-fitted scores, see `edgekd.methods.interface.Trained`.
    """
    part = parts(recording)
    # a teacher's own threshold is not worth the time that its scores of everything take
    budget = role == "student" and preset != PAPER and step.false_alarm_rate is None
    scores = unseen(step.score(recording, part != FIT if normal or not budget else None), normal)
    kept = set(step.scaler.kept.tolist())
    replay = _replay_stretch(recording, part)
    units = recording.units or [""] * recording.n_sensors
    threshold = calibrate(
        scores, recording, step.hop, step.false_alarm_rate,
        per_day=None if preset == PAPER else false_alarms_per_day, cross_fitted=normal is not None,
    )  # fmt: skip
    low, high, fill = recording.values.min(0), recording.values.max(0), np.median(recording.values, axis=0)
    return Checkpoint(
        method=method,
        role=role,
        preset=preset,
        config=step.config.to_json(),
        sensors=[
            dict(zip(("name", "unit", "low", "high", "fill", "longest_still_s"), (name, unit, *map(float, numbers))))
            for name, unit, *numbers in zip(recording.sensors, units, low, high, fill, longest_still_s(recording))
        ],
        dropped=[name for i, name in enumerate(recording.sensors) if i not in kept],
        period_s=float(recording.period_s),
        weights={name: tensor.detach().clone().contiguous() for name, tensor in step.state_dict().items()},
        replay_samples=torch.from_numpy(np.ascontiguousarray(replay.values)),
        replay_starts=list(replay.starts),
        threshold=threshold,
        normal_scores=torch.from_numpy(scores.scores[-NORMAL_SCORES:].copy()),
        seed=seed,
        data={
            "source": recording.source,
            "digest": recording.digest(),
            "samples": len(recording),
            "entities": len(recording.starts),
            **evidence(scores, recording, step.hop, threshold["value"]),
        },
        layout=None if recording.layout is None else layout_fields(recording.layout),
        held_samples=recording.held_samples,
        histories=histories,
    )


def _replay_stretch(recording: Recording, part: np.ndarray) -> Recording:
    """The longest stretch within the limit that ends where the audit part of the last entity begins."""
    rows = REPLAY_LIMIT_BYTES // (4 * recording.n_sensors)
    end = int(np.flatnonzero(part <= CALIBRATE)[-1]) + 1
    if recording.frame is not None:  # whole images
        rows, end = rows // recording.frame * recording.frame, end // recording.frame * recording.frame
    return recording.slice(max(0, end - rows), end)
