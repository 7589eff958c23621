"""What a report tells its page, JSON-able; the page's script is its only reader."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import numpy as np

from edgekd import __version__
from edgekd.blocks.threshold import MOST_ANOMALOUS, told_episodes
from edgekd.evaluation.alarms import SCORE, SLOW, STUCK, alarms_told, first_told
from edgekd.evaluation.events import runs, verdict_points
from edgekd.evaluation.score_model import ModelScores
from edgekd.evaluation.settings import COOLDOWNS, DURATIONS
from edgekd.inspection import rows
from edgekd.report.envelopes import base64_of, bin_starts, contributions, curves, lowest_highest
from edgekd.report.gather import Judged, Report
from edgekd.runtime.manifest import threshold_at

STRONGEST = 40
"""Alarms around which bins are narrow ..."""
AROUND_HOPS, LONGEST_HOPS = 10, 60
"""... for so many hops before and after, and so long at most."""
BUDGETS = (10.0, 1.0, 0.1)
"""False alarms a day whose thresholds are shown, where the model knows them."""


def content(report: Report) -> dict[str, Any]:
    """Everything."""
    found, setting = report.model.found, report.model.setting
    recording = found.recording
    bins = bin_starts(len(recording), _interesting(report), recording.starts, recording.n_sensors)
    x0, x1, dated = _axis(report, bins)
    unit = setting.threshold if setting.threshold > 0 else max(float(found.contributions.max(initial=0)), 1e-9)
    return {
        "title": f"{report.model.path.name} on {recording.source}",
        "made": f"EdgeKD {__version__}, {datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        "words": report.model.words,
        "notes": list(dict.fromkeys((*recording.notes, *found.notes))),
        "hop": found.hop,
        "hop_s": found.hop * recording.period_s,
        "samples": len(recording),
        "dated": dated,
        "bins": {"first": base64_of(bins.astype("<u4")), "x0": base64_of(x0), "x1": base64_of(x1)},
        "entities": np.searchsorted(bins, recording.starts).tolist(),
        "sensors": _sensors(report),
        "curves": curves(recording.values, bins),
        "score": _over_time(found, found.scores, bins),
        "slow": None if found.slow is None else _over_time(found, found.slow, bins),
        "contributions": contributions(_shares(found, found.contributions, bins), unit),
        "slow_contributions": _slow_shares(found, bins),
        "counting": _counting(report),
        "told": None if report.told is None else [vars(told) for told in report.told],
        "marks": [vars(mark) for mark in report.marks],
        "against": None if report.against is None else _against(report, report.against, bins),
        "gaps": [[gap.sample, gap.seconds] for gap in report.read.gaps],
        "model": [[name, texts] for name, texts in rows(_named(report.model))],
    }


def _interesting(report: Report) -> np.ndarray:
    """bool (T,): the samples around the strongest alarms, stuck sensors, and the first of what a device told."""
    found, threshold = report.model.found, report.model.setting.threshold
    peaks = [
        (float(found.scores[slice(*np.searchsorted(found.samples, (first, last + 1)))].max()), first, last)
        for first, _, last in told_episodes(found.samples[found.scores > threshold], found.hop, found.recording.starts)
    ]
    spans = [(first, last) for _, first, last in sorted(peaks, reverse=True)[:STRONGEST]]
    spans += [(change.start, change.sample) for change in found.stuck[:STRONGEST]]
    spans += [(told.first, told.at) for told in (report.told or [])[:STRONGEST]]
    chosen, around = np.zeros(len(found.recording), bool), AROUND_HOPS * found.hop
    for first, last in spans:
        chosen[max(0, first - around) : min(last, first + LONGEST_HOPS * found.hop) + around] = True
    return chosen


def _axis(report: Report, bins: np.ndarray) -> tuple[np.ndarray, np.ndarray, bool]:
    """float64 (B,) each: where each bin's first and last sample stand, in seconds since 1970, or in samples where the
    recording has no dates, or not in order; and whether they are dates."""
    recording = report.model.found.recording
    last = np.append(bins[1:], len(recording)) - 1
    times_s = recording.times_s
    if times_s is None or (np.diff(times_s) <= 0).any():
        return bins.astype("<f8"), last.astype("<f8"), False
    return times_s[bins].astype("<f8"), times_s[last].astype("<f8"), True


def _sensors(report: Report) -> list[dict[str, Any]]:
    """What is normal of each, and what is here."""
    recording, missing = report.model.found.recording, report.read.missing
    order = [report.read.recording.sensors.index(name) for name in recording.sensors]
    listed = []
    for i, sensor in enumerate(report.model.about["sensors"]):
        values = recording.values[:, i]
        listed.append(
            {
                "name": sensor["name"],
                "unit": sensor["unit"],
                "low": sensor["low"],
                "high": sensor["high"],
                "dropped": sensor["name"] in report.model.about["dropped"],
                "outside": float(((values < sensor["low"]) | (values > sensor["high"])).mean()),
                "missing": None if missing is None else float(missing[:, order[i]].mean()),
            }
        )
    return listed


def _points(found: ModelScores) -> np.ndarray:
    """int64 (T,): which verdict speaks for each sample, -1 for none."""
    return verdict_points(found.samples, found.hop, len(found.recording), found.recording.starts)


def _over_time(found: ModelScores, scores: np.ndarray, bins: np.ndarray) -> dict[str, str]:
    """Lowest and highest score of each bin, NaN where there is none."""
    low, high = lowest_highest(np.append(scores, np.nan)[_points(found)], bins)
    return {"low": base64_of(low.astype("<f4")), "high": base64_of(high.astype("<f4"))}


def _shares(found: ModelScores, shares: np.ndarray, bins: np.ndarray) -> np.ndarray:
    """float32 (B, n): the largest contribution of each bin, 0 where no verdict speaks for it."""
    owner, verdicts = _points(found), len(shares)
    first = np.minimum.accumulate(np.where(owner < 0, verdicts, owner)[::-1])[::-1][bins]
    last = np.maximum.accumulate(owner)[np.append(bins[1:], len(owner)) - 1]
    owned = first <= last
    edges = np.stack((first[owned], last[owned] + 1), axis=1).ravel()
    largest = np.zeros((len(bins), shares.shape[1]), np.float32)
    largest[owned] = np.maximum.reduceat(np.append(shares, shares[-1:], axis=0), edges, axis=0)[::2]
    return largest


def _slow_shares(found: ModelScores, bins: np.ndarray) -> dict[str, Any] | None:
    if found.slow_contributions is None:
        return None
    return contributions(_shares(found, found.slow_contributions, bins), 1.0)


def _counting(report: Report) -> dict[str, Any]:
    """What alarms are counted by at any setting that the page offers."""
    found, setting, verdicts = report.model.found, report.model.setting, report.verdicts
    lowest = min(setting.threshold, float(np.quantile(found.scores, 1 - MOST_ANOMALOUS)))
    kept = found.scores > lowest
    told, length = first_told(found, setting.threshold), len(found.recording)
    others = np.minimum(told[SLOW], told[STUCK])  # (T,), whatever the threshold is
    return {
        "lowest": lowest,
        "highest": max(float(found.scores.max()), setting.threshold),
        "samples": base64_of(found.samples[kept].astype("<u4")),
        "scores": base64_of(found.scores[kept].astype("<f4")),
        "entities": list(found.recording.starts),
        "faults": [
            {
                "begin": begin,
                "end": end,
                "verdicts": verdicts.samples[slice(*rows)][[0, -1]].tolist() if rows[0] < rows[1] else None,
                "told": _earliest(others[begin:end], length),
            }
            for rows, (begin, end) in zip(zip(verdicts.first, verdicts.end), verdicts.segments.tolist())
        ],
        "labeled": found.recording.labels is not None,
        "others": [vars(alarm) for alarm in alarms_told(found, setting.threshold) if alarm.kind != SCORE],
        "others_tell": runs(others < length).tolist(),
        "days": report.model.judgement.normal_days,
        "now": vars(setting),
        "own": found.threshold,
        "rule": found.threshold_rule if setting.threshold == found.threshold else "the device's own",
        "durations": DURATIONS,
        "cooldowns": COOLDOWNS,
        "budgets": [[budget, threshold_at(found.points, budget)] for budget in BUDGETS if found.points],
        "advice": None if report.advice is None else vars(report.advice),
        "run": f"edgekd-run --model {report.model.file_on_device}",
    }


def _earliest(told: np.ndarray, length: int) -> int | None:
    first = int(told.min(initial=length))
    return first if first < length else None


def _against(report: Report, other: Judged, bins: np.ndarray) -> dict[str, Any]:
    """The second model beside the first: words, facts, and the severity over time."""
    from scipy.stats import spearmanr

    mine, theirs = report.model.found, other.found
    _, one, two = np.intersect1d(mine.samples, theirs.samples, return_indices=True)
    alarms = [mine.scores[one] > report.model.setting.threshold, theirs.scores[two] > other.setting.threshold]
    scale = other.setting.threshold if other.setting.threshold > 0 else 1.0
    alike = spearmanr(mine.scores[one], theirs.scores[two]).statistic if len(one) > 1 else np.nan
    return {
        "names": [report.model.path.name, other.path.name],
        "words": other.words,
        "severity": _over_time(theirs, theirs.scores / scale, bins),
        "rank_correlation": float(alike) if np.isfinite(alike) else None,
        "changed_decisions": float((alarms[0] != alarms[1]).mean()) if len(one) else None,
        "rows": [_facts(report.model), _facts(other)],
    }


def _facts(judged: Judged) -> dict[str, Any]:
    """What people compare models by."""
    about, judgement = judged.about, judged.judgement
    return {
        "method": f"{about['method']}/{about['preset']}",
        "numbers": about["quantization"]["scheme"],
        "bytes": about["file_bytes"],
        "parameters": about["parameters"],
        "multiply_adds": about["multiply_adds"],
        "threshold": judged.setting.threshold,
        "faults": judgement.faults,
        "found": judgement.found,
        "delay_median_s": judgement.delay_median_s,
        "false_alarms_per_day": judgement.false_alarms_per_day,
    }


def _named(judged: Judged) -> dict[str, Any]:
    """What the file says, without where it lies on this machine."""
    return {**judged.about, "file": judged.path.name}
