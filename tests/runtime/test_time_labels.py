"""Time labels as loggers write them, and clocks that are set back."""

from __future__ import annotations

import itertools
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from edgekd.runtime.errors import UsageError
from edgekd.runtime.layout import Layout
from edgekd.runtime.sources.time_labels import TimeLabels

AT = 1740981600.0  # 2025-03-03T06:00:00Z


@pytest.mark.parametrize(
    ("time_format", "label"),
    [
        *(("", label) for label in ("2025-03-03T06:00:00Z", "2025-03-03 06:00:00", "2025-03-03T07:00:00+01:00")),
        *(("", label) for label in ("2025-03-03 06:00:00 UTC", "20250303T060000", "2025-03-03 06:00:00,000")),
        *(("", label) for label in ("1740981600", 1740981600, "1740981600000", "1740981600000000", 1740981600 * 10**9)),
        ("%d.%m.%Y %H:%M:%S", "03.03.2025 06:00:00"),
        ("%m/%d/%Y %I:%M:%S %p", "03/03/2025 06:00:00 AM"),
        ("%d-%b-%Y %H:%M:%S", "03-Mar-2025 06:00:00"),
        ("DT#%Y-%m-%d-%H:%M:%S", "DT#2025-03-03-06:00:00"),
        ("ms", "1740981600000"),
        ("excel", "45719.25000000"),
        ("matlab", 739679.25),
    ],
)
def test_one_moment(time_format: str, label: str | float) -> None:
    assert TimeLabels(Layout(time_format=time_format)).seconds(label) == pytest.approx(AT, abs=1e-3)


def test_elapsed_counts_on_past_midnight() -> None:
    labels = TimeLabels(Layout(time_format="elapsed"))
    assert [labels.seconds(text) for text in ("0.0", "90.5", "0:01:31", "1 day, 0:00:01", "1.0:00:02")] == [
        *(0, 90.5, 91, 86401, 86402)
    ]
    day = TimeLabels(Layout(time_format="elapsed"))
    assert [day.seconds(text) for text in ("23:59:50", "00:00:00", "00:00:10")] == [86390, 86400, 86410]


@pytest.mark.parametrize("zone", ["", "Europe/Berlin"])
def test_a_clock_that_is_set_back_counts_on(zone: str) -> None:
    """The night in which 02:00 to 03:00 comes twice, a label a minute, without a word about the zone."""
    berlin = ZoneInfo("Europe/Berlin")
    moments = [datetime(2025, 10, 25, 22, tzinfo=ZoneInfo("UTC")) + timedelta(minutes=i) for i in range(300)]
    labels = TimeLabels(Layout(time_format="%Y-%m-%d %H:%M", timezone=zone))
    found = [labels.seconds(moment.astimezone(berlin).strftime("%Y-%m-%d %H:%M")) for moment in moments]
    assert [b - a for a, b in itertools.pairwise(found)] == [60.0] * 299  # type: ignore[operator]
    assert found[0] == moments[0].timestamp() + (0 if zone else 7200) and labels.set_back == (0 if zone else 1)


def test_a_straggler_is_no_clock_that_was_set_back() -> None:
    labels = TimeLabels(Layout())
    found = [labels.seconds(f"2025-03-03 06:{minute:02}:00") for minute in (10, 11, 12, 5, 13)]
    assert [at - AT for at in found] == [600, 660, 720, 300, 780]  # type: ignore[operator]


def test_another_input_may_write_usual_labels() -> None:
    labels = TimeLabels(Layout(time_format="%d.%m.%Y %H:%M:%S"), likely=True)
    assert [labels.seconds(text) for text in ("noon", "03.03.2025 06:00:00", "2025-03-03T06:00:01Z")] == [
        *(None, AT, AT + 1)
    ]
    assert TimeLabels(Layout(time_format="%d.%m.%Y")).seconds("2025-03-03") is None


def test_an_unknown_zone_is_said() -> None:
    with pytest.raises(UsageError, match="Europe/Berlin"):
        TimeLabels(Layout(timezone="Mars/Olympus"))
