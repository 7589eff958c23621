"""A file to a `Reading`: find the layout, read by it, and where the whole file says otherwise, read again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import numpy as np

from edgekd.data.reading import Reading
from edgekd.data.request import Request
from edgekd.data.table.head import encoding_of, head_of
from edgekd.data.table.numbers import common_suffix, style_of, suffix_of
from edgekd.data.table.plan import Plan, first_plan
from edgekd.data.table.rows import NotUtf8, Pass, read_rows
from edgekd.data.table.samples import reading_of
from edgekd.data.table.text import find
from edgekd.runtime.duration import seconds_in
from edgekd.runtime.errors import RecordingError, UsageError
from edgekd.runtime.layout import PLAIN, RULES, Layout, Rule
from edgekd.runtime.sources.cells import MISSING, SWITCH

PASSES = 8
GIVEN = ("missing", "difference", "only", "group", "timezone", "time_format")
"""Fields of a layout that an option overrules."""
OF_THE_SENSORS = ("timezone", "group", "only", "sensors", "missing", "difference", "resample")
"""Fields that hold for another file of the same sensors, however it is written."""
SEASON_S = 300 * 86400.0
"""Clocks are set back once a year."""


def read(request: Request, ignore: Sequence[str] = (), keep_rows: bool = False) -> Reading:
    """What a file holds. ignore: names, in lower case, of columns that are no sensors. keep_rows: of a collection whose
    protocol counts rows: none is filled in, or dropped.

    Raises RecordingError in one line: what is wrong, where, and the option that mends it.
    """
    told, rule, period_s = told_of(request)
    plan = _first_plan(request, told, told.encoding, ignore)
    for _ in range(PASSES):
        try:
            passed = read_rows(request.path, plan)
        except NotUtf8 as error:
            plan = _first_plan(request, told, encoding_of(error.args[0]), ignore)
            continue
        better = _revised(plan, passed)
        if better is None:
            return reading_of(request, passed, rule, period_s, keep_rows)
        plan = better
    raise RecordingError(f"{request.path}: its columns change their kind; say with --sensors which are wanted")


def _first_plan(request: Request, told: Layout, encoding: str, ignore: Sequence[str]) -> Plan:
    encoding, head = head_of(request.path, encoding)
    return first_plan(request, told, find(request.path, head, told, encoding), head, ignore)


def told_of(request: Request) -> tuple[Layout, Rule | Literal[""], float | None]:
    """What is known of the layout, the rule to resample by ("" for none), and the period that was asked for."""
    told = request.layout or PLAIN
    if request.like is not None and request.layout is None:
        told = replace(PLAIN, **{name: getattr(request.like, name) for name in OF_THE_SENSORS})
    given = {name: value for name in GIVEN if (value := getattr(request, name))}
    told = replace(told, **given)
    rule, period_s = told.resample, request.period_s
    if request.resample:
        rule, made_s = _resampling(request.resample)
        if made_s and period_s not in (None, made_s):
            raise UsageError(f"--resample {request.resample} and --period-s {period_s:g} are two periods; give one")
        period_s = made_s or period_s
    return replace(told, resample=""), rule, period_s


def _resampling(text: str) -> tuple[Rule, float | None]:
    """The rule and the period of --resample: mean, last, 60s, last:60s."""
    word, _, length = text.rpartition(":")
    if length in RULES:
        word, length = length, ""
    if word not in RULES:
        raise UsageError(f"--resample {text}: write mean, last, a length of time, or mean:60s")
    period_s = seconds_in(length) if length else None
    if period_s is not None and period_s <= 0:
        raise UsageError(f"--resample {text}: a period is longer than nothing")
    return "last" if word == "last" else "mean", period_s


def _revised(plan: Plan, passed: Pass) -> Plan | None:
    """A better plan, where the whole file says otherwise than its beginning; None where it does not."""
    switches, words, suffixes = set(plan.switches), set(plan.words), dict(plan.suffixes)
    odd: dict[str, None] = {}
    for i, column in passed.numbers.items():
        said = column.words
        if i in switches and column.count and not column.binary:
            switches.discard(i)
        elif said:
            numbers = _numbers(said)
            if column.binary and i not in switches and all(word.lower() in SWITCH for word in said):
                switches.add(i)
            elif said.total() - numbers > column.count + numbers and i != plan.roles.value:
                words.add(i)
            else:
                if suffix := common_suffix(said):
                    suffixes.setdefault(i, suffix)
                odd |= dict.fromkeys(word for word in said if suffix_of(word) == "")
    for i, named in passed.words.items():
        if i in words and not named.many:
            said = Counter({word: count for word, count in named.counts.items() if word.lower() not in MISSING})
            if 2 * _numbers(said) > said.total():
                words.discard(i)
    layout = plan.layout
    if odd:
        points = layout.decimal == "." and any("." in word for word in odd)  # cells with one were read
        style = style_of([*odd, *["1.5"] * points])
        layout = replace(layout, decimal=style.decimal, thousands=style.thousands)
    if not layout.sort and any(_wrongly_counted_on(layout, one, passed) for one in passed.times):
        layout = replace(layout, sort=True)
    layout = replace(layout, suffixes=tuple(sorted({*layout.suffixes, *suffixes.values()})))
    better = replace(
        plan,
        layout=layout,
        switches=frozenset(switches - words),
        words=frozenset(words),
        suffixes=tuple(sorted(suffixes.items())),
    )
    return None if better == plan else better


def _numbers(said: Counter[str]) -> int:
    """How many of these cells are numbers, perhaps with a unit."""
    return sum(count for word, count in said.items() if suffix_of(word) is not None)


def _wrongly_counted_on(layout: Layout, one: str, passed: Pass) -> bool:
    """Whether hours or days were added to times that come in no order."""
    times, set_back = passed.times[one].values(), passed.clocks[one].set_back
    if len(times) and set_back > 1 + np.ptp(times) / SEASON_S:
        return True
    if set_back or layout.timezone or one == "elapsed":
        ahead = np.diff(times)
        return bool((ahead < 0).any()) or bool((ahead <= 0).mean() > 0.5)  # hours that go back all fall on one
    return False
