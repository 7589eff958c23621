"""Lengths of time in words."""

from __future__ import annotations


def duration(seconds: float) -> str:
    """Seconds in the unit that people would choose: "45 s", "12 min", "3.5 h", "2.1 d"."""
    unit, size = unit_of(seconds)
    return f"{seconds / size:.3g} {unit}"


def unit_of(seconds: float) -> tuple[str, float]:
    """The unit that people would choose for so many seconds: its name and its length in seconds."""
    units = (("s", 1.0, 120.0), ("min", 60.0, 7200.0), ("h", 3600.0, 172_800.0))
    return next(((name, size) for name, size, limit in units if seconds < limit), ("d", 86_400.0))
