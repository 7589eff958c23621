"""What a new detector is good for, in words: was the recording long enough, is the threshold to be trusted, how many
false alarms a day to expect, what was left out.

Median alarms on the normal time that followed, linear detectors of 3 simulated plants and 5 machines of SMD: 4 a day
after a day of recording, 2 a day after a week, and after two weeks, the plants alone, one in two days.
"""

from __future__ import annotations

from edgekd.blocks.step import StepModule
from edgekd.blocks.threshold import CALIBRATE_SHARE
from edgekd.checkpoint import Checkpoint
from edgekd.data.request import shorten
from edgekd.evaluation.words import MANY_A_DAY, count
from edgekd.progress import in_words
from edgekd.runtime.duration import duration

DAY_S = 86_400.0
LEAST_S = DAY_S  # nothing shorter shows a whole day ...
GOOD_S = 14 * DAY_S  # ... or every weekday twice
FEW_SCORES = 5  # the largest of fewer says little about the next one


def verdict(checkpoint: Checkpoint) -> list[str]:
    """Lines for the owner of a checkpoint that has just been distilled, one for each thing to know."""
    step, scores = checkpoint.step(), checkpoint.data["threshold_scores"]
    lines = []
    if step.false_alarm_rate is None:  # images have no time
        lines = [_enough(checkpoint, step.hop * checkpoint.period_s), _false_alarms(checkpoint)]
    if scores < FEW_SCORES:
        lines.insert(
            1, f"The threshold is useless: only {count(scores, 'score')} of normal data set it. Record longer."
        )
    if checkpoint.config.get("slow"):
        lines.append(_slow(checkpoint, step))
    if dropped := checkpoint.dropped:
        lines.append(f"Left out: {count(len(dropped), 'sensor')} that never changed ({shorten(dropped)}).")
    return lines


def _enough(checkpoint: Checkpoint, hop_s: float) -> str:
    """Whether the recording shows the plant's cycles, and gives the scores that a threshold needs."""
    least_s = max(LEAST_S, FEW_SCORES * hop_s / CALIBRATE_SHARE)
    good_s = max(GOOD_S, 2 * least_s)
    samples = checkpoint.data["samples"]
    length_s = samples * checkpoint.period_s
    said = f"Data: {in_words(length_s)} ({count(samples, 'sample')})"
    if length_s < 0.95 * least_s:  # a day that lacks a few minutes is a day
        return f"{said}, too little to judge; {_are(least_s)} the least, {_are(good_s)} good."
    if length_s < 0.95 * good_s:
        return f"{said}, enough to try it out; {_are(good_s)} good."
    return f"{said}, enough."


def _false_alarms(checkpoint: Checkpoint) -> str:
    """What to expect, from the part of the recording that set nothing."""
    rate = checkpoint.threshold["alarms_per_day"]
    if not rate["days"]:
        return "False alarms: unknown, the recording is too short to keep a part of it aside to count them."
    alarms = round(rate["measured"] * rate["days"])
    most = _often(rate["upper95"])
    said = f"False alarms: {alarms or 'none'} in the {in_words(rate['days'] * DAY_S)} kept aside to count them"
    if rate["measured"] >= MANY_A_DAY:
        return (
            f"{said}; that is {_often(rate['measured'])}, which makes the detector useless. See that the recording "
            "ends in normal operation, record longer, or tell only what lasts longer than these did: edgekd-run "
            f"--min-duration {duration(checkpoint.data['longest_alarm_s']).replace(' ', '')}."
        )
    if alarms:
        return f"{said}; expect {_often(rate['measured'])}, at most {most} (95 % sure)."
    if rate["upper95"] > MANY_A_DAY:
        return f"{said}, too short to say: anything up to {most} is possible."
    return f"{said}; expect at most {most} (95 % sure)."


def _slow(checkpoint: Checkpoint, step: StepModule) -> str:
    """What watches for slow faults."""
    cycle_s = checkpoint.config["cycle_hops"] * step.hop * checkpoint.period_s
    scales = dict(zip(("steps", "means"), step.get_buffer("slow.mean_scale")))
    watched = [name for name, scale in scales.items() if bool(scale.any())]
    watched += [f"a cycle of {in_words(cycle_s)}"] if cycle_s else []
    return f"Slow faults: {', '.join(watched)} watched."


def _are(seconds: float) -> str:
    """ "a day is", "two weeks are", "21 days are"."""
    return {LEAST_S: "a day is", GOOD_S: "two weeks are"}.get(seconds) or f"{in_words(seconds)} are"


def _often(per_day: float) -> str:
    """ "3 a day", "one in 4 days"."""
    if per_day < 0.67:
        return f"one in {1 / per_day:,.0f} days"
    return f"{float(f'{per_day:.2g}'):,.0f} a day"
