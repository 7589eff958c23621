"""The manifest: one JSON object inside the model file that says what the file is and how to run it.

This is its only reader and its only writer. Everything in it is checked and bounded here, so that nobody else has to:
a file whose manifest is missing, given twice, newer than this reader, or not about these bytes is refused
(`ModelRefused`) with what is wrong and what to do.
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from edgekd.runtime.container import Container, container_of
from edgekd.runtime.container.entry import cut
from edgekd.runtime.digest import sha256
from edgekd.runtime.errors import ModelRefused, UsageError
from edgekd.runtime.json_fields import Fields, is_number, parse_object, shown

__all__ = ["Manifest", "SensorSpec", "StateSpec", "embed", "file_digest", "read"]

FORMAT = 1
MAX_FILE_BYTES = 512 * 2**20  # a gateway has about this much memory in all
MAX_MANIFEST_BYTES = 2**20
MAX_SENSORS = 4096
MAX_HOP = 100_000  # samples
MAX_STEP_VALUES = 2**22  # hop × sensors: 16 MiB of samples a step
MAX_STATE_BYTES = 64 * 2**20
MAX_WARMUP = 10**9  # samples
MAX_SELF_TEST_STEPS = 1000
LARGEST = 3.4e38  # float32's range: values beyond it cannot be fed to the graph
STATE_DTYPES = {"float32": 4, "int32": 4, "int64": 8}  # bytes of one element
_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_.]{0,127}", re.ASCII)
_DIGEST = re.compile(r"([0-9a-f]{64})?", re.ASCII)


@dataclass(frozen=True)
class SensorSpec:
    """One column of the samples."""

    name: str
    unit: str
    low: float
    """Smallest training value, raw units."""
    high: float
    """Largest training value, raw units."""
    fill: float
    """Training median: what stands in for a sensor that was never seen."""


@dataclass(frozen=True)
class StateSpec:
    """One state tensor: input `name`, output `next_{name}`; zeros are the cold state."""

    name: str
    shape: tuple[int, ...]
    dtype: str


@dataclass(frozen=True)
class AlarmRate:
    """Alarms per day on a normal part that set no threshold."""

    measured: float
    upper95: float
    """Upper end of the 95 % interval."""
    days: float
    """Length of that normal part."""


@dataclass(frozen=True)
class ThresholdSpec:
    """A verdict is an anomaly when its score is above `value`."""

    value: float
    rule: str = ""
    data: str = ""
    alarms_per_day: AlarmRate | None = None


@dataclass(frozen=True)
class ScoreSpec:
    """What the score means and what is normal."""

    scale: str = ""
    normal_median: float = 0.0
    normal_p99: float = 0.0
    normal_p90: float = 0.0
    """What a site's own scores are compared with by `edgekd-gateway`; 0 in files of earlier versions."""


@dataclass(frozen=True)
class QuantizationSpec:
    """Number format of the weights and where its ranges came from."""

    scheme: str = "float32"
    calibration: str = ""


@dataclass(frozen=True)
class SelfTestSpec:
    """Expected scores of the first `steps` steps over the generator's samples (`edgekd.runtime.selftest`)."""

    seed: int
    steps: int
    scores: tuple[float, ...]
    tolerance: float
    """Relative; the reader caps it."""


@dataclass(frozen=True)
class DigestSpec:
    """SHA-256, hexadecimal; empty where there is none."""

    student: str = ""
    data: str = ""
    file: str = ""
    """Of the file's bytes without the manifest; `embed` fills it in."""


@dataclass(frozen=True)
class Manifest:
    """All that a reader needs to run the file; `from_json` has checked every field."""

    method: str
    preset: str
    sensors: tuple[SensorSpec, ...]
    period_s: float
    hop: int
    """Samples from one step to the next."""
    warmup_samples: int
    """The first verdict comes at the first hop end at which this many samples have been seen."""
    max_hold_s: float
    """A missing sensor keeps its last value for this long, then it goes invalid."""
    state: tuple[StateSpec, ...]
    threshold: ThresholdSpec
    self_test: SelfTestSpec
    score: ScoreSpec = ScoreSpec()
    quantization: QuantizationSpec = QuantizationSpec()
    digests: DigestSpec = DigestSpec()
    system: str = ""
    """The published system that this is or descends from, in one line."""
    dropped: tuple[str, ...] = ()
    """Sensors that were constant in training: columns of the samples, but without a part in the score."""
    parity: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, Any] = field(default_factory=dict)
    cost: dict[str, Any] = field(default_factory=dict)
    edgekd: str = ""
    """Version that wrote the file."""
    format: int = FORMAT

    @property
    def names(self) -> tuple[str, ...]:
        """Sensor names in column order."""
        return tuple(sensor.name for sensor in self.sensors)

    @property
    def max_hold_samples(self) -> int:
        """Longest run of missing samples over which a sensor stays valid."""
        return math.floor(min(self.max_hold_s / self.period_s + 1e-9, 2.0**40))

    def to_json(self) -> str:
        """The manifest as compact JSON; raises ModelRefused where the reader would."""
        try:
            text = json.dumps(asdict(self), ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        except (TypeError, ValueError) as error:
            raise ModelRefused(f"manifest cannot be written as JSON: {shown(error)}") from None
        Manifest.from_json(text)
        return text

    @staticmethod
    def from_json(text: str | bytes) -> Manifest:
        """Parse and check; raises ModelRefused naming the field, its bounds and what it holds."""
        if isinstance(text, bytes):
            if len(text) > MAX_MANIFEST_BYTES:
                raise ModelRefused(f"manifest is larger than {MAX_MANIFEST_BYTES} bytes")
            try:
                text = text.decode()
            except UnicodeDecodeError:
                raise ModelRefused("manifest is not UTF-8") from None
        if len(text) > MAX_MANIFEST_BYTES:
            raise ModelRefused(f"manifest is larger than {MAX_MANIFEST_BYTES} bytes")
        top = Fields(parse_object(text))
        version = top.integer("format", 1, 2**31)
        if version > FORMAT:
            raise ModelRefused(
                f"manifest format {version} is newer than this EdgeKD reads ({FORMAT}); pip install -U edgekd"
            )
        manifest = Manifest(
            format=version,
            edgekd=top.text("edgekd", 40),
            method=top.text("method", 80, empty=False),
            preset=top.text("preset", 80),
            system=top.text("system"),
            sensors=top.items("sensors", 1, MAX_SENSORS, _sensor),
            dropped=top.items("dropped", 0, MAX_SENSORS, _dropped) if top.has("dropped") else (),
            period_s=top.number("period_s", 1e-6, 1e8),
            hop=top.integer("hop", 1, MAX_HOP),
            warmup_samples=top.integer("warmup_samples", 0, MAX_WARMUP),
            max_hold_s=top.number("max_hold_s", 0.0, 1e9),
            state=top.items("state", 0, 256, _state),
            threshold=_threshold(top.child("threshold")),
            score=_score(top.child("score")),
            quantization=_quantization(top.child("quantization")),
            parity=top.free("parity"),
            self_test=_self_test(top.child("self_test")),
            digests=_digests(top.child("digests")),
            metrics=top.free("metrics"),
            cost=top.free("cost"),
        )
        top.done()
        _check_together(manifest)
        return manifest


def read(source: str | Path | bytes, signed_by: str | Path | None = None) -> tuple[Manifest, bytes]:
    """The manifest and the bytes of a model file, given as a path or as those bytes.

    signed_by: public key that must have signed the file; its signature is beside it.
    Raises ModelRefused for a file that cannot be read, is too large, damaged, not signed, holds what no exporter
    writes, or is not what its manifest says.
    """
    if isinstance(source, bytes):
        if signed_by is not None:
            raise UsageError("a signature lies beside a file; give the file's path, not its bytes")
        return _read_bytes(source)
    path = Path(source)
    try:
        with path.open("rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise ModelRefused(f"{shown(str(path), 300)}: {reason}; give a file written by edgekd export") from None
    try:
        if signed_by is not None:
            from edgekd.runtime.guard.signature import verify

            verify(data, path, Path(signed_by))
        return _read_bytes(data)
    except ModelRefused as error:
        raise ModelRefused(f"{shown(str(path), 300)}: {error}") from None


def embed(model: bytes, manifest: Manifest) -> bytes:
    """The model file with this manifest inside, `digests.file` filled in; one that was there before is replaced.

    The file is laid out with a manifest of the final length first, since all but the manifest itself counts for the
    digest. Raises ModelRefused for a manifest or a file that the reader would refuse.
    """
    container = container_of(model)
    bare = container.bare(model)

    def with_digest(digest: str) -> bytes:
        text = replace(manifest, digests=replace(manifest.digests, file=digest)).to_json()
        return container.append(bare, text.encode())

    return with_digest(file_digest(with_digest("0" * 64)))


def file_digest(model: bytes) -> str:
    """SHA-256 of a model file's bytes without the manifest: of what `container.Entry.span` leaves of it."""
    return sha256(*cut(model, container_of(model).entries(model)))


def _read_bytes(data: bytes) -> tuple[Manifest, bytes]:
    if len(data) > MAX_FILE_BYTES:
        raise ModelRefused(f"file is larger than {MAX_FILE_BYTES // 2**20} MiB, no model for a device")
    container: Container = container_of(data)
    entries = container.entries(data)
    if not entries:
        raise ModelRefused("there is no manifest in this file; write it with edgekd export")
    if len(entries) > 1:
        raise ModelRefused(f"there are {len(entries)} manifests in this file, one is meant; export it again")
    manifest = Manifest.from_json(entries[0].value)
    digest = sha256(*cut(data, entries))
    if manifest.digests.file != digest:
        raise ModelRefused(
            f"the file was changed after export (SHA-256 {digest[:12]}…, manifest says"
            f" {manifest.digests.file[:12] or 'nothing'}…); copy or export it again"
        )
    container.check(data)
    return manifest, data


def _sensor(value: object, where: str) -> SensorSpec:
    f = Fields(value, where)
    sensor = SensorSpec(
        name=f.text("name", 200, empty=False),
        unit=f.text("unit", 40),
        low=f.number("low", -LARGEST, LARGEST),
        high=f.number("high", -LARGEST, LARGEST),
        fill=f.number("fill", -LARGEST, LARGEST),
    )
    f.done()
    if sensor.low > sensor.high:
        raise ModelRefused(f"manifest: {where} ('{sensor.name}') has low {sensor.low:g} above high {sensor.high:g}")
    return sensor


def _dropped(value: object, where: str) -> str:
    if not isinstance(value, str):
        raise ModelRefused(f"manifest: {where} should be the name of a sensor, got {shown(value)}")
    return value  # `_check_together` finds it among the sensors, whose names are bounded


def _state(value: object, where: str) -> StateSpec:
    f = Fields(value, where)
    state = StateSpec(
        name=f.text("name", 128),
        shape=f.items("shape", 0, 8, _dimension),
        dtype=f.text("dtype", 16),
    )
    f.done()
    taken = ("samples", "valid", "score", "contributions")
    if not _IDENTIFIER.fullmatch(state.name) or state.name in taken or state.name.startswith("next_"):
        raise ModelRefused(f"manifest: {where}.name '{shown(state.name)}' is no name for a state tensor")
    if state.dtype not in STATE_DTYPES:
        raise f.refuse("dtype", f"one of {', '.join(STATE_DTYPES)}", state.dtype)
    return state


def _dimension(value: object, where: str) -> int:
    if type(value) is not int or not 1 <= value <= MAX_STATE_BYTES:
        raise ModelRefused(f"manifest: {where} should be an integer in [1, {MAX_STATE_BYTES}], got {shown(value)}")
    return value


def _threshold(f: Fields) -> ThresholdSpec:
    rate = None
    if f.has("alarms_per_day"):
        g = f.child("alarms_per_day")
        rate = AlarmRate(g.number("measured", 0, 1e9), g.number("upper95", 0, 1e9), g.number("days", 0, 1e6))
        g.done()
    threshold = ThresholdSpec(f.number("value", -LARGEST, LARGEST), f.text("rule"), f.text("data"), rate)
    f.done()
    return threshold


def _score(f: Fields) -> ScoreSpec:
    bounds = (-LARGEST, LARGEST)
    score = ScoreSpec(
        f.text("scale"),
        f.number("normal_median", *bounds),
        f.number("normal_p99", *bounds),
        f.number("normal_p90", *bounds) if f.has("normal_p90") else 0.0,
    )
    f.done()
    return score


def _quantization(f: Fields) -> QuantizationSpec:
    quantization = QuantizationSpec(f.text("scheme", 80, empty=False), f.text("calibration"))
    f.done()
    return quantization


def _self_test(f: Fields) -> SelfTestSpec:
    test = SelfTestSpec(
        seed=f.integer("seed", 0, 2**63 - 1),
        steps=f.integer("steps", 1, MAX_SELF_TEST_STEPS),
        scores=f.items("scores", 1, MAX_SELF_TEST_STEPS, _self_test_score),
        tolerance=f.number("tolerance", 0.0, 1.0),
    )
    f.done()
    if len(test.scores) != test.steps:
        raise ModelRefused(f"manifest: self_test has {len(test.scores)} scores for {test.steps} steps")
    return test


def _self_test_score(value: object, where: str) -> float:
    if not is_number(value):
        raise ModelRefused(f"manifest: {where} should be a finite number, got {shown(value)}")
    return float(value)  # type: ignore[arg-type]


def _digests(f: Fields) -> DigestSpec:
    digests = DigestSpec(f.text("student", 80), f.text("data", 80), f.text("file", 80))
    f.done()
    for value in (digests.student, digests.data, digests.file):
        if not _DIGEST.fullmatch(value):
            raise ModelRefused(f"manifest: digests hold '{shown(value)}', which is no SHA-256")
    return digests


def _check_together(manifest: Manifest) -> None:
    """What no field can be checked for alone."""
    names = manifest.names
    if len(set(names)) != len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise ModelRefused(f"manifest: sensor '{twice}' is given twice")
    known = set(names)
    unknown = [name for name in manifest.dropped if name not in known]
    if unknown or len(set(manifest.dropped)) != len(manifest.dropped):
        what = f"'{shown(unknown[0])}', which is no sensor" if unknown else "a sensor twice"
        raise ModelRefused(f"manifest: dropped names {what}")
    states = [state.name for state in manifest.state]
    if len(set(states)) != len(states):
        raise ModelRefused("manifest: a state tensor is given twice")
    if manifest.hop * len(names) > MAX_STEP_VALUES:
        raise ModelRefused(f"manifest: hop × sensors is above {MAX_STEP_VALUES}, too much for one step")
    state_bytes = sum(math.prod(s.shape) * STATE_DTYPES[s.dtype] for s in manifest.state)
    if state_bytes > MAX_STATE_BYTES:
        raise ModelRefused(f"manifest: state of {state_bytes} bytes is above {MAX_STATE_BYTES}")
