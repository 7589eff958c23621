"""The manifest: one JSON object inside the model file that says what the file is and how to run it.

Its fields and their bounds: everything in it is checked here, so that nobody else has to. `edgekd.export.embed` writes
it, `edgekd.runtime.guard` reads it from a file.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from typing import Annotated, Any

import numpy as np

from edgekd.runtime import json_fields as read
from edgekd.runtime.errors import ModelRefused, UsageError
from edgekd.runtime.layout import Layout

FORMAT = 1
MAX_BYTES = 2**20  # of the manifest
MAX_SENSORS = 4096
MAX_HOP = 100_000  # samples
MAX_STEP_VALUES = 2**22  # hop × sensors: 16 MiB of samples a step
MAX_STATE_BYTES = 64 * 2**20
MAX_WARMUP = 10**9  # samples
MAX_SELF_TEST_STEPS = 1000
LARGEST = 3.4e38  # float32's range: values beyond it cannot be fed to the graph
STATE_DTYPES = {"float32": 4, "int32": 4, "int64": 8}  # bytes of one element
_STATE_NAME = re.compile(r"(?!next_|(samples|valid|(slow_)?(score|contributions))\Z)[A-Za-z_][\w.]{0,127}", re.ASCII)
FAST = ("score", "contributions")
SLOW = ("slow_score", "slow_contributions")
_DTYPE = re.compile("|".join(STATE_DTYPES), re.ASCII)
_DIGEST = re.compile(r"([0-9a-f]{64})?", re.ASCII)


def _format(value: Any, where: str) -> int:
    """The manifest's own version."""
    version = read.integer(value, where, 1, 2**31)
    if version > FORMAT:
        raise ModelRefused(
            f"manifest format {version} is newer than this EdgeKD reads ({FORMAT}); pip install -U edgekd"
        )
    return version


def _outputs(value: Any, where: str) -> tuple[str, ...]:
    """FAST, or both."""
    if value not in ([*FAST], [*FAST, *SLOW]):
        raise ModelRefused(f"manifest: '{where}' must be {[*FAST]}, or with {[*SLOW]} after them")
    return tuple(value)


Value = Annotated[float, read.number, -LARGEST, LARGEST]
Text = Annotated[str, read.text]
Point = tuple[float, ...]
"""Alarms a day, threshold."""
Digest = Annotated[str, read.matching, _DIGEST, "a SHA-256 in hexadecimal, or empty"]


@dataclass(frozen=True)
class SensorSpec:
    """One column of the samples."""

    name: Annotated[str, read.text, 200, 1]
    unit: Annotated[str, read.text, 40]
    low: Value  # smallest training value, raw units
    high: Value  # largest training value, raw units
    fill: Value  # training median: what stands in for a sensor that was never seen
    longest_still_s: Annotated[float, read.number, 0, LARGEST, read.OPTIONAL] = 0.0
    """A sensor that says the same for longer is stuck; 0: it is not watched, as in files of earlier versions."""


@dataclass(frozen=True)
class StateSpec:
    """One state tensor: input `name`, output `next_{name}`; zeros are the cold state."""

    name: Annotated[str, read.matching, _STATE_NAME, "a name for a state tensor"]
    shape: Annotated[tuple[int, ...], read.items, 0, 8, read.integer, 1, MAX_STATE_BYTES]
    dtype: Annotated[str, read.matching, _DTYPE, f"one of {list(STATE_DTYPES)}"]


@dataclass(frozen=True)
class AlarmRate:
    """Alarms per day on a normal part that set no threshold."""

    measured: Annotated[float, read.number, 0, 1e9]
    upper95: Annotated[float, read.number, 0, 1e9]  # upper end of the 95 % interval
    days: Annotated[float, read.number, 0, 1e6]  # length of that normal part


def threshold_at(points: tuple[Point, ...], per_day: float) -> float:
    """The threshold for a budget of false alarms a day, linear in log rate between `points`; raises UsageError."""
    if not points:
        raise UsageError("--false-alarms-per-day: this model has but one threshold; distill a series again")
    rates, values = zip(*points)
    if not rates[-1] <= per_day <= rates[0]:
        raise UsageError(f"--false-alarms-per-day {per_day:g}: this model knows {rates[-1]:g} to {rates[0]:g}")
    return float(np.interp(-math.log(per_day), [-math.log(rate) for rate in rates], values))


@dataclass(frozen=True)
class ThresholdSpec:
    """A verdict is an anomaly when its score is above `value`."""

    value: Value
    rule: Text = ""
    data: Text = ""
    alarms_per_day: Annotated[AlarmRate | None, read.or_null, read.record, AlarmRate, read.OPTIONAL] = None
    points: Annotated[
        tuple[Point, ...], read.items, 0, 100, read.items, 2, 2, read.number, -LARGEST, LARGEST, read.OPTIONAL
    ] = ()
    """Thresholds for budgets of false alarms a day, from many to few; none in files of earlier versions."""


@dataclass(frozen=True)
class ScoreSpec:
    """What the score means and what is normal."""

    scale: Text = ""
    normal_median: Value = 0.0
    normal_p99: Value = 0.0
    normal_p90: Annotated[Value, read.OPTIONAL] = 0.0
    """What a site's own scores are compared with by `edgekd-gateway`; 0 in files of earlier versions."""


@dataclass(frozen=True)
class QuantizationSpec:
    """Number format of the weights and where its ranges came from."""

    scheme: Annotated[str, read.text, 80, 1] = "float32"
    calibration: Text = ""


@dataclass(frozen=True)
class SelfTestSpec:
    """Expected scores of the first `steps` steps over the generator's samples (`edgekd.runtime.selftest`)."""

    seed: Annotated[int, read.integer, 0, 2**63 - 1]
    steps: Annotated[int, read.integer, 1, MAX_SELF_TEST_STEPS]
    scores: Annotated[tuple[float, ...], read.items, 1, MAX_SELF_TEST_STEPS, read.number]
    tolerance: Annotated[float, read.number, 0, 1]  # relative; the reader caps it


@dataclass(frozen=True)
class DigestSpec:
    """SHA-256, hexadecimal; empty where there is none."""

    student: Digest = ""
    data: Digest = ""
    file: Digest = ""  # of the file's bytes without the manifest; `embed` fills it in


@dataclass(frozen=True)
class Manifest:
    """All that a reader needs to run the file; `from_json` has checked every field."""

    format: Annotated[int, _format] = field(default=FORMAT, kw_only=True)
    """Read first: a newer one may have changed all else."""
    method: Annotated[str, read.text, 80, 1]
    preset: Annotated[str, read.text, 80]
    sensors: Annotated[tuple[SensorSpec, ...], read.items, 1, MAX_SENSORS, read.record, SensorSpec]
    period_s: Annotated[float, read.number, 1e-6, 1e8]
    hop: Annotated[int, read.integer, 1, MAX_HOP]  # samples from one step to the next
    warmup_samples: Annotated[int, read.integer, 0, MAX_WARMUP]
    """The first verdict comes at the first hop end at which this many samples have been seen."""
    max_hold_s: Annotated[float, read.number, 0, 1e9]
    """A missing sensor keeps its last value for this long, then it goes invalid."""
    state: Annotated[tuple[StateSpec, ...], read.items, 0, 256, read.record, StateSpec]
    threshold: ThresholdSpec
    self_test: SelfTestSpec
    outputs: Annotated[tuple[str, ...], _outputs, read.OPTIONAL] = FAST
    """Of the graph before the next state: the score, and of a model that watches for slow faults theirs, 1 = alarm."""
    score: ScoreSpec = ScoreSpec()
    quantization: QuantizationSpec = QuantizationSpec()
    digests: DigestSpec = DigestSpec()
    system: Text = ""  # the published system that this is or descends from, in one line
    dropped: Annotated[tuple[str, ...], read.items, 0, MAX_SENSORS, read.text, 200, read.OPTIONAL] = ()
    """Sensors that were constant in training: columns of the samples, but without a part in the score."""
    layout: Annotated[Layout | None, read.or_null, read.record, Layout, read.OPTIONAL] = None
    """How the training's file was read; None in files of earlier versions, and where it was no table."""
    parity: Annotated[dict[str, Any], read.free, read.OPTIONAL] = field(default_factory=dict)
    metrics: Annotated[dict[str, Any], read.free, read.OPTIONAL] = field(default_factory=dict)
    cost: Annotated[dict[str, Any], read.free, read.OPTIONAL] = field(default_factory=dict)
    edgekd: Annotated[str, read.text, 40] = ""  # version that wrote the file

    @property
    def names(self) -> tuple[str, ...]:
        """Sensor names in column order."""
        return tuple(sensor.name for sensor in self.sensors)

    def cold_state(self) -> dict[str, np.ndarray]:
        """The state tensors by name, zeros."""
        return {spec.name: np.zeros(spec.shape, spec.dtype) for spec in self.state}

    @property
    def max_hold_samples(self) -> int:
        """Longest run of missing samples over which a sensor stays valid."""
        return math.floor(min(self.max_hold_s / self.period_s + 1e-9, 2.0**40))

    @staticmethod
    def from_json(text: str | bytes) -> Manifest:
        """Parse and check; raises ModelRefused naming the field, its bounds and what it holds."""
        if len(text) > MAX_BYTES:
            raise ModelRefused(f"manifest is larger than {MAX_BYTES} bytes")
        manifest: Manifest = read.record(read.parse_object(text), "", Manifest)
        _check_together(manifest)
        return manifest


def _check_together(manifest: Manifest) -> None:
    """What no field can be checked for alone."""
    for i, sensor in enumerate(manifest.sensors):
        if sensor.low > sensor.high:
            found = f"low {sensor.low:g} above high {sensor.high:g}"
            raise ModelRefused(f"manifest: sensors[{i}] ('{sensor.name}') has {found}")
    rates, values = zip(*manifest.threshold.points) if manifest.threshold.points else ((1.0,), (0.0,))
    if list(rates) != sorted(set(rates), reverse=True) or rates[-1] <= 0 or list(values) != sorted(values):
        raise ModelRefused("manifest: threshold.points are not of falling rates above 0 and rising thresholds")
    names, states, dropped = manifest.names, [spec.name for spec in manifest.state], manifest.dropped
    for given, what in ((names, "sensor"), (states, "state tensor")):
        if (twice := read.repeated(given)) is not None:
            raise ModelRefused(f"manifest: {what} '{twice}' is given twice")
    known = set(names)
    unknown = [name for name in dropped if name not in known]
    if unknown or read.repeated(dropped) is not None:
        what = f"'{unknown[0]}', which is no sensor" if unknown else "a sensor twice"
        raise ModelRefused(f"manifest: dropped names {what}")
    if manifest.hop * len(names) > MAX_STEP_VALUES:
        raise ModelRefused(f"manifest: hop × sensors is above {MAX_STEP_VALUES}, too much for one step")
    state_bytes = sum(math.prod(s.shape) * STATE_DTYPES[s.dtype] for s in manifest.state)
    if state_bytes > MAX_STATE_BYTES:
        raise ModelRefused(f"manifest: state of {state_bytes} bytes is above {MAX_STATE_BYTES}")
    test = manifest.self_test
    if len(test.scores) != test.steps:
        raise ModelRefused(f"manifest: self_test has {len(test.scores)} scores for {test.steps} steps")
