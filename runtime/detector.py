"""Samples in, verdicts out: the streaming detector around one step graph.

Its whole state is data (`snapshot`, `restore`). The same samples give the same verdicts in whatever calls they come.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from edgekd.runtime.engines import Engine, Stream, load_engine
from edgekd.runtime.errors import ModelRefused, UsageError
from edgekd.runtime.guard import admit
from edgekd.runtime.json_fields import shown
from edgekd.runtime.manifest import Manifest, threshold_at
from edgekd.runtime.selftest import check_self_test

LARGEST_SCORE = float(np.finfo(np.float32).max)
BY_SENSOR = ("valid", "last", "missing", "held")  # arrays of a snapshot, and attributes
MAX_CHANGES = 4096  # sensor changes kept for a caller that never asks for them
MAX_SEEN = 2**62  # samples, and counts do not overflow
MAX_FAILURES = 10  # steps that the engine fails at, or in a row without a finite score
FORGIVEN = 1e-3  # of one of the engine's, by each step that goes well: what comes again and again is not an accident


def severity_of(score: float, threshold: float) -> float | None:
    """Score over threshold, within what JSON's readers hold; None where the threshold is not above 0."""
    return max(-LARGEST_SCORE, min(LARGEST_SCORE, score / threshold)) if threshold > 0 else None


@dataclass(slots=True, eq=False)
class Verdict:
    """What the detector says at the end of one hop."""

    sample: int  # 0-based index of the newest sample that this verdict has seen
    score: float  # always finite
    threshold: float
    is_anomaly: bool  # score > threshold
    contributions: np.ndarray  # float32 (n,), each sensor's part of the score; they sum to it
    sensors: tuple[str, ...]  # n names, the columns of `contributions`
    slow: Verdict | None = None
    """Of a model that watches for slow faults: the same of its averages over many hops, 1 being the threshold."""

    @property
    def severity(self) -> float | None:
        """Score over threshold, 1 = alarm, for models to be compared by; None where the threshold is not above 0."""
        return severity_of(self.score, self.threshold)

    @property
    def top_sensors(self) -> tuple[str, ...]:
        """Up to three sensors that contribute most, the largest first; only those that contribute at all."""
        order = np.argsort(-self.contributions, kind="stable")[:3]
        return tuple(self.sensors[i] for i in order if self.contributions[i] > 0)


@dataclass(frozen=True)
class SensorChange:
    """A sensor went missing for longer than it may be held, or came back."""

    sample: int  # last sample of the hop in which this was found
    sensor: str
    missing: bool


@dataclass(frozen=True)
class StuckChange:
    """A sensor said the same for longer than is normal (`SensorSpec.longest_still_s`), or says something else again."""

    sample: int  # last sample of the hop in which this was found
    sensor: str
    stuck: bool
    value: float  # what it had said, raw units, since sample `start`
    start: int


class StateReset(NamedTuple):
    """From this sample on the graph's state is cold again, and no verdict comes for one warm-up."""

    sample: int
    reason: str


class Detector:
    """One stream through one model.

    Missing (NaN, infinite) values: the sensor's last good value is held; once it has been missing for longer than the
    manifest's `max_hold_s`, or was never seen, the graph is told so (`valid` 0) and leaves it out of the score.
    A stuck sensor changes no score. An engine that fails at a step, or a state that becomes infinite, costs the state.
    """

    def __init__(self, engine: Engine, manifest: Manifest, threshold: float | None = None) -> None:
        self.engine = engine
        self.manifest = manifest
        self.threshold = manifest.threshold.value if threshold is None else float(threshold)
        self._names = manifest.names
        self._n = len(manifest.sensors)
        self._shape = (self._n,)
        self._hop = manifest.hop
        self._max_hold = manifest.max_hold_samples
        still = np.array([sensor.longest_still_s for sensor in manifest.sensors]) / manifest.period_s
        self._longest_still = np.where(still > 0, np.minimum(still, MAX_SEEN), MAX_SEEN).astype(np.int64)
        self._watched = ("still", "since") if (still > 0).any() else ()  # of a snapshot too, where a sensor is watched
        self._state_names = [spec.name for spec in manifest.state]
        self._told = len(manifest.outputs)
        self._zeros = [
            (i, np.zeros(s.shape, "f")) for i, s in enumerate(manifest.state, self._told) if s.dtype[0] == "f"
        ]
        self._samples = np.zeros((self._hop, self._n), np.float32)
        self._newest = self._samples[-1]  # (n,), a view: the hop's last row
        self._finite = np.empty((self._hop, self._n), bool)
        self._valid = np.ones(self._n, np.float32)
        self.reset()

    @classmethod
    def load(
        cls,
        path: str | Path | bytes,
        check: bool = True,
        threshold: float | None = None,
        *,
        false_alarms_per_day: float | None = None,
        probe: bool | None = None,
        signed_by: str | Path | None = None,
    ) -> Detector:
        """The detector in a model file.

        check: replay the file's self-test on this machine's engine first.
        threshold: instead of the manifest's.
        false_alarms_per_day: the manifest's threshold for another budget than its own.
        probe: try a file that is new on this machine in a child process first, once; see `admit`. The child is this
        Python anew, not a fork of your program and its threads.
        signed_by: public key (a PEM file) that must have signed the file; the signature is beside it, in FILE.sig.
        Raises ModelRefused (file), GateFailed (self-test), MissingExtra or UsageError (engine).
        """
        found, model = admit(path, signed_by, try_first=probe)
        engine = load_engine(model, found)
        if check:
            check_self_test(engine, found)
        if false_alarms_per_day is not None:
            threshold = threshold_at(found.threshold.points, false_alarms_per_day)
        return cls(engine, found, threshold)

    def stream(self) -> Detector:
        """Another stream, cold, over the same engine session."""
        return Detector(self.engine, self.manifest, self.threshold)

    def reset(self) -> None:
        """Back to the cold state, as after `load`."""
        self._feeds = Stream(self.manifest.cold_state() | {"samples": self._samples, "valid": self._valid})
        self.samples_seen = 0  # samples since the cold start
        self.diverged_steps = 0
        """Steps whose score was not finite: their state was thrown away, their verdict an anomaly."""
        self._failures = 0.0  # of the engine, those forgiven taken off
        self._diverged = 0  # steps in a row
        self._filled = 0
        self._warm_at = self.manifest.warmup_samples
        self._valid[:] = 1.0
        self._last = np.array([sensor.fill for sensor in self.manifest.sensors], np.float32)
        self._missing = np.full(self._n, self._max_hold + 1, np.int64)  # never seen: already held for too long
        self._held = np.zeros(self._n, np.int64)
        self._still = np.zeros(self._n, np.int64)  # values since then; those that are missing are none
        self._since = np.zeros(self._n, np.int64)  # first sample of the hops in which it has said one value
        self._clean = False
        self._changes: deque[SensorChange] = deque(maxlen=MAX_CHANGES)
        self._stuck: deque[StuckChange] = deque(maxlen=MAX_CHANGES)
        self._resets: deque[StateReset] = deque(maxlen=MAX_CHANGES)

    def rewarm(self) -> None:
        """After a gap of unknown length: keep the state, drop the open hop, and give no verdict for one warm-up."""
        self.samples_seen -= self._filled
        self._filled = 0
        self._warm_at = self.samples_seen + self.manifest.warmup_samples

    @property
    def image(self) -> tuple[int, int] | None:
        """(rows, columns) of an image where every hop is judged by itself, so that `update` takes one whole."""
        alone = not self.manifest.state and self.manifest.warmup_samples <= self._hop and self._hop > 1
        return (self._hop, self._n) if alone else None

    @property
    def held_values(self) -> dict[str, int]:
        """Missing values so far, by sensor; sensors without any are left out. Counted at hop ends."""
        return {self._names[i]: int(self._held[i]) for i in np.flatnonzero(self._held)}

    @property
    def missing_sensors(self) -> tuple[str, ...]:
        """Sensors that are left out of the score now."""
        return tuple(self._names[i] for i in np.flatnonzero(self._valid == 0))

    def update(self, sample: Any) -> Verdict | None:
        """One sample, (n,) raw units, NaN = missing; a verdict at the end of a hop, else None.

        A model of images takes a whole one too, (hop, n), and gives its verdict.
        Raises UsageError for another shape or for what is no number, and leaves the state as it was.
        """
        if type(sample) is not np.ndarray or sample.dtype.kind not in "fiu":
            sample = _as_numbers(sample)
        if sample.shape != self._shape:
            return self._update_image(sample)
        self._samples[self._filled] = sample
        return self._advance(1)

    def _update_image(self, image: np.ndarray) -> Verdict | None:
        """What `update` does with what is no single sample."""
        if self.image is None:
            raise UsageError(f"a sample has {self._n} values, one for each sensor; got shape {image.shape}")
        if image.shape != self.image:
            raise UsageError(
                f"an image of this model has shape {self.image}, rows and columns; got {image.shape}: resize or crop it"
            )
        if self._filled:
            raise UsageError(f"{self._filled} rows of an image were given one by one; give the rest of it, or reset()")
        self._samples[:] = image
        return self._advance(self._hop)

    def update_block(self, samples: Any) -> list[Verdict]:
        """k samples at once, (k, n) raw units: the verdicts that `update` would have given one by one."""
        samples = _as_numbers(samples)
        if samples.ndim != 2 or samples.shape[1] != self._n:
            raise UsageError(f"a block of samples has shape (k, {self._n}); got {samples.shape}")
        verdicts = []
        while len(samples):
            open_rows = self._samples[self._filled :]
            part, samples = samples[: len(open_rows)], samples[len(open_rows) :]
            open_rows[: len(part)] = part
            verdicts.append(self._advance(len(part)))
        return [verdict for verdict in verdicts if verdict is not None]

    def sensor_changes(self) -> list[SensorChange]:
        """Sensors that went missing or came back since the last call, in order."""
        return [self._changes.popleft() for _ in range(len(self._changes))]

    def stuck_changes(self) -> list[StuckChange]:
        """Sensors that got stuck or move again since the last call, in order."""
        return [self._stuck.popleft() for _ in range(len(self._stuck))]

    def state_resets(self) -> list[StateReset]:
        """Losses of the graph's state since the last call, in order."""
        return [self._resets.popleft() for _ in range(len(self._resets))]

    def _advance(self, count: int) -> Verdict | None:
        """So many samples more are in the hop: run the graph once it is full."""
        self.samples_seen += count
        self._filled += count
        if self._filled < self._hop:
            return None
        self._filled = 0
        np.isfinite(self._samples, self._finite)
        # Searching bytes for a zero takes a fifth of the time of ndarray.all(), which counts on a device's every step.
        whole = b"\0" not in self._finite.tobytes()
        if self._watched:
            self._watch(whole)
        if self._clean and whole:
            self._last[:] = self._newest
        else:
            self._mend()
        try:
            found = self.engine.run(self._feeds)
        except Exception as error:  # the engines' own, of many kinds
            self._failures += 1
            self._forget(reason := f"{self.engine.name} failed ({shown(str(error), 200)})")
            if self._failures > MAX_FAILURES - 1:
                raise ModelRefused(f"{reason}, as in {MAX_FAILURES - 1} steps before; export the model again") from None
            return None
        warm = self.samples_seen >= self._warm_at
        score, contributions, slow, threshold = float(found[0]), found[1], None, self.threshold
        is_anomaly = score > threshold
        of_slow = float(found[2]) if self._told > 2 else 0.0
        if (score - score) + (of_slow - of_slow) == 0.0:
            self._failures, self._diverged = max(0.0, self._failures - FORGIVEN), 0
            # a product with zeros is no number where there is one that is infinite: faster than to look at each
            if all(np.vdot(found[i], zeros) == 0.0 for i, zeros in self._zeros):
                self._feeds.update(zip(self._state_names, found[self._told :]))
            else:
                self._forget("it became infinite")
            if self._told > 2:
                slow = Verdict(self.samples_seen - 1, of_slow, 1.0, of_slow > 1.0, found[3], self._names)
        else:  # NaN or infinite, from values beyond what the graph can digest: its state would be poisoned for good
            self.diverged_steps, self._diverged = self.diverged_steps + 1, self._diverged + 1
            score, is_anomaly, contributions = LARGEST_SCORE, True, np.zeros(self._n, np.float32)
            if self._diverged % MAX_FAILURES == 0:  # maybe it is the state that no score comes of
                self._forget(f"no score was finite in {MAX_FAILURES} steps")
        verdict = Verdict(self.samples_seen - 1, score, threshold, is_anomaly, contributions, self._names, slow)
        return verdict if warm else None

    def _forget(self, reason: str) -> None:
        """The graph's state is of no use: begin with a cold one, and tell."""
        self._feeds |= self.manifest.cold_state()
        self.rewarm()
        self._resets.append(StateReset(self.samples_seen - 1, reason))

    def _mend(self) -> None:
        """Hold missing values and find out which sensors are valid, for the hop in `_samples` (hop, n)."""
        finite = self._finite
        rows = np.arange(self._hop)[:, None]
        source = np.maximum.accumulate(np.where(finite, rows, -1), axis=0)  # (hop, n) last good row or -1
        run = np.where(source >= 0, rows - source, self._missing + rows + 1)  # (hop, n) samples missing so far
        held = np.take_along_axis(self._samples, np.maximum(source, 0), axis=0)  # (hop, n)
        np.copyto(self._samples, np.where(source >= 0, held, self._last))
        self._last[:] = self._newest
        self._missing[:] = run[-1]
        self._held += self._hop - finite.sum(axis=0)
        valid = (run.max(axis=0) <= self._max_hold).astype(np.float32)
        for i in np.flatnonzero(valid != self._valid):
            self._changes.append(SensorChange(self.samples_seen - 1, self._names[i], not valid[i]))
        self._valid[:] = valid
        self._clean = bool(valid.all() and not run[-1].any())

    def _watch(self, whole: bool) -> None:
        """Find out which sensors are stuck, by the hop in `_samples` (hop, n) as it came. whole: nothing is missing."""
        differs = self._samples != self._last
        moved = np.logical_or.reduce(differs if whole else differs & self._finite)
        before = self._still > self._longest_still
        self._still += self._hop if whole else self._finite.sum(axis=0)
        self._still[moved] = 0
        stuck = self._still > self._longest_still
        for i in np.flatnonzero(stuck != before) if stuck.tobytes() != before.tobytes() else ():
            told = self._names[i], bool(stuck[i]), float(self._last[i]), int(self._since[i])
            self._stuck.append(StuckChange(self.samples_seen - 1, *told))
        self._since[moved] = self.samples_seen

    def snapshot(self) -> dict[str, np.ndarray]:
        """The complete state as named arrays, copied, of the same shapes at any time; `restore` takes it back."""
        arrays = {f"state.{name}": np.array(self._feeds[name]) for name in self._state_names}
        arrays["samples"] = self._samples.copy()
        arrays["samples"][self._filled :] = 0.0  # of the hop before: equal states are equal bytes
        counts = {"seen": self.samples_seen, "warm_at": self._warm_at, "diverged": self.diverged_steps}
        arrays |= {name: np.array(count, np.int64) for name, count in counts.items()}
        return arrays | {name: getattr(self, f"_{name}").copy() for name in (*BY_SENSOR, *self._watched)}

    def restore(self, snapshot: dict[str, np.ndarray]) -> None:
        """Go on from a snapshot; raises UsageError, and changes nothing, where it is not one of this model's."""
        wanted = self.snapshot()
        for name, now in wanted.items():
            got = snapshot.get(name)
            if got is None or got.shape != now.shape or got.dtype != now.dtype:
                raise UsageError(f"saved state does not fit the model: '{name}' is missing or has another shape")
        counts = seen, warm_at, diverged = [int(snapshot[name]) for name in ("seen", "warm_at", "diverged")]
        if min(counts) < 0 or max(counts) >= MAX_SEEN or warm_at > seen + self.manifest.warmup_samples:
            raise UsageError(f"saved state does not fit the model: {seen} samples seen, warm at {warm_at}")
        if bad := [name for name, array in snapshot.items() if name != "samples" and not np.isfinite(array).all()]:
            raise UsageError(f"saved state is of no use: '{bad[0]}' is not finite")
        self.samples_seen, self._filled = seen, seen % self._hop
        self._warm_at, self.diverged_steps = warm_at, diverged
        self._feeds.update((name, snapshot[f"state.{name}"].copy()) for name in self._state_names)
        for name in ("samples", *BY_SENSOR, *self._watched):
            getattr(self, f"_{name}")[:] = snapshot[name]
        self._clean = bool(self._valid.all() and not self._missing.any())


def _as_numbers(values: Any) -> np.ndarray:
    """Lists, tuples, booleans and None as an array; raises UsageError for anything that is no number."""
    try:
        array = np.asarray(values)
        if array.dtype.kind in "fiub":
            return array
        if array.dtype.kind == "O" and all(v is None or isinstance(v, (int, float, np.number)) for v in array.flat):
            return array.astype(np.float64)  # None becomes NaN
    except (TypeError, ValueError, OverflowError):
        pass
    raise UsageError("samples must be numbers (NaN or None where a value is missing), all rows of one length")
