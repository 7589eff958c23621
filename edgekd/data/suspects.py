"""What is wrong with the sensors that were read, told before anything is trained on them.

Each check is silent on healthy data: bounds were set on the public recordings (SKAB, SMD, NAB, MSL, SMAP, ASD, UCR),
where what they find can be seen by eye.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import numpy as np

from edgekd.data.gaps import MAX_SHARE, bounds_of, true_runs
from edgekd.data.reading import Column, Reading
from edgekd.data.recording import Recording
from edgekd.runtime.json_fields import shown
from edgekd.runtime.sources.difference import parse

Range = tuple[int, int]
LISTED = 4
"""Sensors that a sentence names before it only counts."""
NOTES_CHARACTERS = 1400
"""Of all notes together: more is not read."""
SENTINELS = (
    *(-99999, -9999, -9999.9, -9999.99, -999, -999.9, -999.99, -99, -99.9, -99.99, 999, 999.9, 999.99, 9999, 9999.9),
    *(9999.99, 99999, 6999, -6999, 7999, -7999, 65535, 65534, 32767, 32766, -32768, 6553.5, 3276.7, -3276.8),
    *(2147483647, -2147483648, 4294967295, 655.35, 327.67, -327.68, -200, -270, 850, 1372, 1760, -127, -242, 988),
)
"""What loggers and transmitters write for "no value": all nines, the ends of 16 and 32 bits, Campbell's 6999 and 7999,
broken thermocouples and resistance thermometers."""
FAR, FAR_UNKNOWN = 0.5, 5.0
"""How far such a number, and any other, is from all other values, in ranges of those."""
RARE = 0.05
"""Share of the samples that a number of no known meaning may have."""
LEVELS = 12
"""Different values, and steps up, that a sensor has at least; a set point or a state has fewer."""
RESETS = 3
"""Times that a total begins anew at most; what does so more often, as a tank that is filled, is learned as it is."""
SPIKE, SPIKES = 4.0, 10
"""How far a spike is from the median, in distances of the farthest other sample, and how many they may be."""
STUCK, STUCK_SAMPLES = 10, 30
"""How long a sensor is stuck: in lengths of what it repeats otherwise (99.5 % of the times), and samples at least."""
JUMP = 6.0
"""A lasting change of level, in standard deviations on either side. A ramp has 3.5, a sine 4.1."""
NEAR = 20
"""Samples within which it happens."""
SHORTEST = 100
"""Samples from which on a recording can show a change."""
FLOAT32_LEVELS = 256
"""Steps of float32 in a sensor's range: with fewer, less is left than an int8 model sees."""


@dataclass(frozen=True)
class Suspect:
    """One thing that is wrong with one sensor."""

    sensor: str
    kind: str
    """A key of KINDS."""
    detail: str
    """What was seen, in words that follow the kind's; "" where there is nothing to add."""
    option: tuple[str, str] = ("", "")
    """The option that mends it, and its value."""
    ranges: tuple[Range, ...] = ()
    """[start, end) in samples, to be marked; () is all of them."""

    @property
    def words(self) -> str:
        """One plain sentence."""
        return sentences([self])[0]


KINDS = {
    "empty": "mostly empty",
    "late": "begins late",
    "out of step": "says something more rarely than the others and is held between",
    "constant": "constant, which teaches nothing",
    "switch": "like a switch that never switches, which teaches nothing",
    "counter": "counts samples or time",
    "float32": "too large for its small steps, which float32 loses",
    "grows": "only grows, so that every later day will be an alarm",
    "sentinel": "repeats a value far from all others, as loggers write for no value",
    "stuck": "moves, but repeats one value for long",
    "spike": "has single values far from all others",
    "level": "changes its level for good",
}
"""Each kind in words that follow a sensor's name."""
STILL = ("constant", "switch")
"""Kinds that training tells by itself, whatever a recording came from."""
READ = ("out of step",)
"""Kinds that the reader has noted."""
REMEDIES = {
    "--ignore": "leave out with {}",
    "--difference": "take the steps with {}",
    "--missing": "if it means none, {}",
    "--resample": "one rate for all with {}",
}


def sentences(found: Sequence[Suspect]) -> list[str]:
    """A line for each kind: its sensors, what is wrong, the option that mends it."""
    lines = []
    for kind, words in KINDS.items():
        mine = [s for s in found if s.kind == kind]
        if not mine:
            continue
        names = [shown(name, 40) for name in dict.fromkeys(s.sensor for s in mine)]
        more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
        detail = f" ({mine[0].detail})" if len(mine) == 1 and mine[0].detail else ""
        lines.append(f"{', '.join(names[:LISTED])}{more}: {words}{detail}{remedy(mine)}")
    return lines


def remedy(found: Sequence[Suspect]) -> str:
    """What to do about one kind, to follow its words; "" where no option mends it."""
    option = found[0].option[0]
    if not option:
        return ""
    named = options_of(found) if len(found) == 1 or option == "--missing" else [option]  # their names stand before it
    return f"; {REMEDIES[option].format(' '.join(named))}"


def all_notes(notes: Sequence[str], found: Sequence[Suspect]) -> list[str]:
    """The reader's notes and what is wrong, few enough to be read."""
    lines = [*notes, *sentences([s for s in found if s.kind not in READ])]
    fit = int(np.searchsorted(np.cumsum([len(line) + 1 for line in lines]), NOTES_CHARACTERS))
    return lines if fit == len(lines) else [*lines[:fit], f"{len(lines) - fit} more notes; `edgekd look` tells them"]


def recording_of(reading: Reading) -> Recording:
    """What methods train on, with what is wrong among its notes; the reading's values are filled in place."""
    found = suspects(reading)  # before missing values are held, which would look stuck
    moving = [s for s in found if s.kind not in STILL]
    return replace(reading.recording(), notes=tuple(all_notes(reading.notes, moving)))


def options_of(found: Sequence[Suspect]) -> list[str]:
    """Options of a command line that mend what can be mended."""
    values: dict[str, list[str]] = {}
    for suspect in found:
        option, value = suspect.option
        if option and value not in values.setdefault(option, []):
            values[option].append(value)
    return [shlex.join((option, ",".join(each))) for option, each in values.items()]


def suspects(reading: Reading) -> list[Suspect]:
    """All that is wrong with the sensors of a reading, sensor by sensor, but for what is labeled anomalous."""
    counted = {parse(text, [c.name for c in reading.columns])[0] for text in reading.layout.difference}
    found: list[Suspect] = []
    for column, values in zip(reading.columns, reading.values.T):
        found += _Sensor(reading, column, np.ascontiguousarray(values), column.name in counted).suspects()
    return found


class _Sensor:
    """One sensor's samples, without the missing ones."""

    def __init__(self, reading: Reading, column: Column, values: np.ndarray, steps_taken: bool) -> None:
        self._reading, self._column, self._steps_taken = reading, column, steps_taken
        self._samples = len(values)
        self._at = np.flatnonzero(np.isfinite(values))
        """Sample of each value."""
        self._values = values if len(self._at) == len(values) else values[self._at]

    def suspects(self) -> Iterator[Suspect]:
        yield from self._presence()
        if self._reading.labels is not None:  # what is labeled anomalous is known to be wrong
            normal = ~self._reading.labels[self._at]
            self._at, self._values = self._at[normal], self._values[normal]
        if len(self._values) < 2:
            return
        low, high = self._ends()
        if low == high:
            constant = self._suspect("switch" if low in (0, 1) else "constant", f"always {_number(low)}")
            yield self._beyond_float32() or constant
            return
        yield from self._sentinels()
        if len(self._values) < LEVELS:
            return
        steps = np.diff(self._values)
        borders = np.searchsorted(self._at, self._reading.starts[1:])
        steps[borders[(borders > 0) & (borders < len(self._at))] - 1] = np.nan  # neither up nor down, nor a rest
        alike = next(filter(None, (self._counter(steps), self._beyond_float32(), self._grows(steps))), None)
        if alike is not None:
            yield alike
        elif _levels(self._values) >= LEVELS:
            yield from filter(None, (self._stuck(steps), self._spikes(steps), self._level()))

    def _suspect(
        self, kind: str, detail: str = "", option: str = "", value: str = "", ranges: Sequence[Range] = ()
    ) -> Suspect:
        name = self._column.name
        return Suspect(name, kind, detail, (option, value or name) if option else ("", ""), tuple(ranges))

    def _ends(self) -> tuple[float, float]:
        """Lowest and highest value."""
        return float(self._values.min()), float(self._values.max())

    def _presence(self) -> Iterator[Suspect]:
        """Whether it says something, and from when on."""
        every = self._column.every
        first = int(self._at[0]) if len(self._at) else self._samples
        expected = (self._samples - first) // every
        missing = 1 - len(self._at) / max(1, self._samples // every)
        if every > 1:
            yield self._suspect(
                "out of step", f"every {every} samples", "--resample", f"{every * self._reading.period_s:g}s"
            )
        if len(self._at) > 0 and first > MAX_SHARE * self._samples and len(self._at) > (1 - MAX_SHARE) * expected:
            yield self._suspect("late", f"at {self._when(first)}", "--ignore", ranges=[(0, first)])
        elif missing > MAX_SHARE:
            gone = np.ones(self._samples, bool)
            gone[self._at] = False
            yield self._suspect("empty", f"{missing:.0%} missing", "--ignore", ranges=true_runs(gone))

    def _sentinels(self) -> Iterator[Suspect]:
        """What repeats exactly at an end of the range, far from all else; taken out for the other checks."""
        for _ in range(3):
            low, high = self._values.min(), self._values.max()
            rest = self._values[(self._values > low) & (self._values < high)]
            if len(rest) < LEVELS:
                return
            least, most = float(rest.min()), float(rest.max())
            ends = ((low, least - float(low)), (high, float(high) - most))
            found = [value for value, gap in ends if self._is_sentinel(value, gap, rest)]
            for value in found:
                same = self._values == value
                text = _number(value)
                times = f"{text} {int(same.sum())} times, others {_number(least)} to {_number(most)}"
                ranges = self._ranges(same)
                yield self._suspect("sentinel", times, "--missing", text, ranges)
                self._values, self._at = self._values[~same], self._at[~same]
            if not found:
                return

    def _is_sentinel(self, value: np.float32, gap: float, rest: np.ndarray) -> bool:
        known = any(np.float32(each) == value for each in SENTINELS)
        if gap <= (FAR if known else FAR_UNKNOWN) * float(np.ptp(rest)):
            return False
        same = self._values == value
        times = int(same.sum())
        if known:
            return times > 1
        brief = 2 < times <= RARE * len(same) and times <= 3 * len(true_runs(same))
        return brief and value != 0 and _levels(rest) >= LEVELS

    def _counter(self, steps: np.ndarray) -> Suspect | None:
        """Steps up of one size, and down from the top to the bottom only."""
        up, down = steps[steps > 0], steps[steps < 0]
        if len(up) < LEVELS or len(down) > len(up) / 6 or self._steps_taken:
            return None
        low, high = self._ends()
        step, slack = float(np.median(up)), 2 * float(np.spacing(np.float32(max(abs(low), abs(high)))))
        whole = len(up) >= 0.98 * len(steps)  # each sample one more, or each second, minute, hour
        period = self._reading.period_s
        of_time = any(abs(step - period / unit) <= 1e-3 * step + slack for unit in (1e-3, 1, 60, 3600, 86400))
        even = (np.abs(up - step) <= slack).mean() > 0.98
        wraps = high - low > (LEVELS - 2) * step and len(down) > 0 and bool((np.abs(down + high - low) <= slack).all())
        if even and (wraps or (not len(down) and (step == 1 or of_time) and whole)):
            return self._suspect("counter", f"{_number(low)} to {_number(high)}", "--ignore")
        return None

    def _beyond_float32(self) -> Suspect | None:
        """Steps as they were written, of which float32 shows none."""
        low, high = self._ends()
        held, spread = float(np.spacing(np.float32(max(abs(low), abs(high))))), high - low
        if self._steps_taken or not 0 < self._column.least_step < held or spread > FLOAT32_LEVELS * held:
            return None
        words = f"{_number(low)} to {_number(high)} in steps of {self._column.least_step:.3g}, float32 has {held:g}"
        return self._suspect("float32", words, "--difference")

    def _grows(self, steps: np.ndarray) -> Suspect | None:
        """A total: never less than before, but where it begins anew."""
        up, down = np.flatnonzero(steps > 0), np.flatnonzero(steps < 0)
        if len(up) < LEVELS or len(down) > RESETS or self._steps_taken:
            return None
        low, high = self._ends()
        if len(down) and float(self._values[down + 1].max()) > low + 0.02 * (high - low):
            return None
        if len(np.unique(up * 4 // len(steps))) < 4 and not len(down):  # a warm-up ends
            return None
        resets = f", anew {len(down)} times" if len(down) else ""
        return self._suspect("grows", f"{_number(low)} to {_number(high)}{resets}", "--difference")

    def _stuck(self, steps: np.ndarray) -> Suspect | None:
        ends = np.flatnonzero(np.append(steps != 0, True))
        lengths = np.diff(ends, prepend=-1)
        usual = 1 + int(np.searchsorted(np.cumsum(np.bincount(lengths)[1:]), 0.995 * len(lengths)))
        long = np.flatnonzero(lengths > max(STUCK_SAMPLES, STUCK * usual))
        if len(lengths) < len(self._values) / 3 and lengths[long].sum() < len(self._values) / 2:  # it seldom moves
            return None
        low, high = self._values.min(), self._values.max()
        inside = [i for i in long if low < self._values[ends[i]] < high]  # at an end it is off, or full
        if not inside:
            return None
        ranges = [(int(self._at[ends[i] - lengths[i] + 1]), int(self._at[ends[i]]) + 1) for i in inside]
        start, end = max(ranges, key=lambda r: r[1] - r[0])
        value = _number(self._values[np.searchsorted(self._at, start)])
        words = f"{value} for {end - start:,} samples from {self._when(start)}"
        return self._suspect("stuck", words, ranges=ranges)

    def _spikes(self, steps: np.ndarray) -> Suspect | None:
        if len(self._values) < SHORTEST or (steps == 0).mean() > 0.8:  # what rests most of the time, moves in bursts
            return None
        middle = float(np.median(_some(self._values)))
        distance = np.abs(self._values - np.float32(middle))
        most = min(SPIKES, len(distance) // SHORTEST)
        if distance.max() <= SPIKE * np.sort(_some(distance))[-most - 1]:  # sorting all takes long, and finds no less
            return None
        order = np.argpartition(distance, -most - 1)[-most - 1 :]
        order = order[np.argsort(-distance[order])]
        far = np.flatnonzero(distance[order[:-1]] > SPIKE * distance[order[1:]])
        if not len(far):
            return None
        apart = np.sort(order[: far[-1] + 1])
        first = int(self._at[apart[0]])
        words = f"{_number(self._values[apart[0]])} at {self._when(first)}, usually about {_number(middle)}"
        ranges = [(int(self._at[i]), int(self._at[i]) + 1) for i in apart]
        return self._suspect("spike", words, ranges=ranges)

    def _level(self) -> Suspect | None:
        for start, end in bounds_of(self._reading.starts, self._samples):
            a, b = np.searchsorted(self._at, (start, end))
            if b - a >= SHORTEST and (change := _change(self._values[a:b])) is not None:
                at, before, after = change
                sample = int(self._at[a + at])
                words = f"about {_number(before)}, from {self._when(sample)} on {_number(after)}"
                return self._suspect("level", words, ranges=[(sample, sample + 1)])
        return None

    def _ranges(self, same: np.ndarray) -> list[Range]:
        return [(int(self._at[a]), int(self._at[b - 1]) + 1) for a, b in true_runs(same)]

    def _when(self, sample: int) -> str:
        """The time of a sample, its number where there is no clock."""
        if self._reading.times_s is None or not self._reading.dated:
            return f"sample {sample:,}"
        moment = datetime.fromtimestamp(float(self._reading.times_s[sample]), UTC)
        return moment.strftime("%Y-%m-%d %H:%M")


def _change(values: np.ndarray) -> tuple[int, float, float] | None:
    """Where the mean changes most, and both means, if both sides are quiet beside the change and it is sudden."""
    stride = _stride(values)
    some = values[::stride].astype(float)
    count = len(some)
    left = np.arange(1, count)
    between = np.cumsum(some - some.mean())[:-1] ** 2 / (left * (count - left) / count)
    edge = max(NEAR, count // 20)
    at = edge + int(np.argmax(between[edge - 1 : count - edge]))
    before, after = float(some[:at].mean()), float(some[at:].mean())
    inside = max(float(some.var()) - float(between[at - 1]) / count, 0.0) ** 0.5
    if abs(after - before) <= JUMP * inside:
        return None
    first, last = (at - 1) * stride + 1, at * stride  # it is between these
    sudden = np.median(values[last : last + NEAR]) - np.median(values[max(0, first - NEAR) : first])
    return (last, before, after) if abs(sudden) >= 0.7 * abs(after - before) else None


def _stride(values: np.ndarray) -> int:
    """Step that leaves some ten thousand of many values."""
    return 1 + len(values) // 10_000


def _some(values: np.ndarray) -> np.ndarray:
    return values[:: _stride(values)]


def _levels(values: np.ndarray) -> int:
    """Different values, as far as some thousand show."""
    return len(np.unique(_some(values)))


def _number(value: float) -> str:
    """As a person would write it: a known sentinel in full, else the shortest text of the float32."""
    known = next((each for each in SENTINELS if np.float32(each) == np.float32(value)), None)
    return f"{float(str(np.float32(value))) if known is None else known:.15g}"
