"""Lengths of time in words, written and read."""

from __future__ import annotations

import math
import re

from edgekd.runtime.errors import UsageError

UNITS = {"ms": 0.001, "s": 1.0, "min": 60.0, "h": 3600.0, "d": 86_400.0}
_WRITTEN = re.compile(r"(\d+(?:\.\d*)?|\.\d+)\s*([a-z]*)", re.ASCII)


def duration(seconds: float) -> str:
    """Seconds in the unit that people would choose: "45 s", "12 min", "3.5 h", "2.1 d"."""
    unit, size = unit_of(seconds)
    return f"{seconds / size:.3g} {unit}"


def unit_of(seconds: float) -> tuple[str, float]:
    """The unit that people would choose for so many seconds: its name and its length in seconds."""
    units = (("s", 120.0), ("min", 7200.0), ("h", 172_800.0))
    name = next((name for name, limit in units if seconds < limit), "d")
    return name, UNITS[name]


def seconds_in(text: str) -> float:
    """What `duration` writes, as seconds; a number alone is seconds. Raises UsageError for anything else."""
    found = _WRITTEN.fullmatch(text.strip())
    unit = UNITS.get((found[2] if found else "") or "s")
    if found is None or unit is None or not math.isfinite(seconds := float(found[1]) * unit):
        raise UsageError(f"'{text[:40]}' is no length of time; write 90s, 10min, 24h or 7d")
    return seconds
