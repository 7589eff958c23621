"""What a detector is worth, in words for the people at the plant."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

import numpy as np

from edgekd.data.marks import Mark
from edgekd.data.recording import Recording
from edgekd.evaluation.alarms import SLOW, STUCK, Alarm
from edgekd.evaluation.judgement import CHANCE, FEW, FEWEST_FAULTS, GOOD, YARDSTICK, Judgement
from edgekd.progress import in_words
from edgekd.runtime.json_fields import shown

LISTED = 5  # alarms or missed faults whose times are told
MANY_A_DAY = 10.0  # alarms that nobody looks into any more; a bound above it comes from too short a stretch


def judged_in_words(judged: Judgement, recording: Recording, marks: Sequence[Mark] = ()) -> list[str]:
    """A line each for the faults found, the delay and the false alarms, then the judgement; without labels the alarms
    and when they come. marks: what people said of alarms, where the labels come from them."""
    unmarked = _unmarked(judged, recording, marks)
    if not judged.faults:
        return _without_faults(judged, recording) + unmarked
    lines = [_found(judged), _delay(judged, recording), _false_alarms(judged), *unmarked]
    return [*lines, f"Judgement: {_judgement(judged)}."]


def _unmarked(judged: Judgement, recording: Recording, marks: Sequence[Mark]) -> list[str]:
    """Of alarms that count as false because nobody said anything of them."""
    said = np.zeros(len(recording), bool)
    for mark in marks:
        said |= mark.covers(recording)
    silent = sum(alarm.false and not said[alarm.first : alarm.last + 1].any() for alarm in judged.alarms)
    if not marks or not silent:
        return []
    return [f"Nobody marked {silent} of these {judged.false_alarms}; they count as false until they are marked true."]


def _found(judged: Judgement) -> str:
    more = {STUCK: "only as a stuck sensor", SLOW: "only by slow alarms"}
    ways = [f"{judged.found_by[kind]} {words}" for kind, words in more.items() if judged.found_by[kind]]
    of_them = f" ({', '.join(ways)})" if ways else ""
    return f"{judged.found} of {count(judged.faults or 0, 'fault')} found{of_them}; by chance {judged.by_chance:.0f}."


def _delay(judged: Judgement, recording: Recording) -> str:
    missed = [begin for begin, _ in judged.missed]
    if judged.delay_median_s is None or judged.delay_max_s is None:
        return f"Missed: {_listed(missed, recording)}."
    typical, longest = in_words(judged.delay_median_s), in_words(judged.delay_max_s)
    said = f"Typical delay {typical}" + (f", longest {longest}" if longest != typical else "")
    return f"{said}; missed: {_listed(missed, recording)}." if missed else f"{said}."


def _false_alarms(judged: Judgement) -> str:
    per_day = judged.false_alarms_per_day
    if per_day is None:
        return "No normal operation to count false alarms in."
    span = f"{in_words(judged.normal_days * 86_400)} of normal operation"
    if not judged.false_alarms:
        return f"No false alarm in {span}."
    return f"{_rate(per_day)} false alarms a day ({judged.false_alarms} in {span})."


def _judgement(judged: Judgement) -> str:
    """One sentence, without its period."""
    outcome, yardstick, faults = judged.outcome, judged.yardstick, count(judged.faults or 0, "fault")
    if outcome == FEW:
        return f"{faults} decide{'s' * (judged.faults == 1)} nothing; judge it by {FEWEST_FAULTS} or more"
    if outcome == CHANCE:
        return "no better than chance, which is alarms as many and as long at random times"
    many = (judged.false_alarms_per_day or 0) > MANY_A_DAY
    reserve = ", but nobody looks into so many false alarms" if many else ""
    if yardstick is None:
        return f"better than chance{reserve}; no normal samples to fit a Mahalanobis distance on, as a yardstick"
    name = f"a Mahalanobis distance of {yardstick.fitted_on}"
    finds = f"finds {yardstick.found} of {judged.faults} at as many false alarms"
    if outcome == YARDSTICK:
        return f"no better than {name}, which {finds}"
    if outcome == GOOD:
        return f"good{reserve}; {name} {finds}"
    return f"better than chance{reserve}; {name} {finds}, and {faults} are too few to rank the two"


def _without_faults(judged: Judgement, recording: Recording) -> list[str]:
    """Alarms alone, and when they come."""
    alarms, span = len(judged.alarms), in_words(judged.normal_days * 86_400)
    lines = [f"No alarm in {span}."]
    if alarms and judged.false_alarms_per_day is not None:
        lines = [f"{count(alarms, 'alarm')} in {span}, {_rate(judged.false_alarms_per_day)} a day."]
        lines.append(f"They come at {_listed(judged.alarms, recording)}.")
    if recording.labels is None:
        return [*lines, "The data have no labels, so nothing says which alarms are true and which faults are missed."]
    false = "every alarm is false, and " if alarms else ""
    return [*lines, f"No fault is labeled, so {false}what it would find is not known."]


def _listed(what: Sequence[int] | Sequence[Alarm], recording: Recording) -> str:
    """When the first few come, alarms with what they are about."""
    said = [_when(one, recording) if isinstance(one, int) else _alarm(one, recording) for one in what[:LISTED]]
    if len(what) > LISTED:
        said.append(f"{len(what) - LISTED:,} more")
    listed = " and ".join(filter(None, (", ".join(said[:-1]), said[-1])))
    return listed if recording.times_s is not None else f"sample{'s' * (len(what) > 1)} {listed}"


def _alarm(alarm: Alarm, recording: Recording) -> str:
    about = {SLOW: "slow", STUCK: f"{shown(alarm.sensor)} stuck"}.get(alarm.kind, shown(alarm.sensor))
    return f"{_when(alarm.sample, recording)} ({about})"


def _when(sample: int, recording: Recording) -> str:
    """The source's own clock, else the sample's number."""
    if recording.times_s is None:
        return f"{sample:,}"
    return datetime.fromtimestamp(float(recording.times_s[sample]), UTC).strftime("%Y-%m-%d %H:%M")


def _rate(per_day: float) -> str:
    return f"{per_day:.2g}" if per_day < 10 else f"{per_day:,.0f}"


def count(number: int, noun: str) -> str:
    """ "1 fault", "2,000 samples"."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
