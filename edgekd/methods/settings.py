"""Settings from outside (`--set`, a checkpoint): known names, the right types, within bounds, or one line why not."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import fields
from typing import Any, TypeVar

from edgekd.runtime.errors import UsageError

C = TypeVar("C")
Choices = Mapping[str, tuple[str, ...]]
Ranges = Mapping[str, tuple[float, float]]

LONGEST = 100_000  # samples of a window or a hop: what a day at one sample a second needs


def read_settings(config: type[C], method: str, values: Mapping[str, Any], choices: Choices, ranges: Ranges) -> C:
    """`config` (a dataclass with a default for every field) with `values` put over its defaults.

    `choices`: words that a setting can be, any where none are listed; `ranges`: smallest and largest number. Raises
    UsageError naming the setting.
    """
    known = {field.name: field.default for field in fields(config)}  # type: ignore[arg-type]
    unknown = sorted(set(values) - set(known))
    if unknown:
        raise UsageError(f"{method} has no setting {unknown[0]!r}; it has {', '.join(sorted(known))}")
    read: dict[str, Any] = {}
    for name, value in values.items():
        if name == "lengths":
            read[name] = _lengths(value)
        elif name == "judged":
            read[name] = _names(value)
        else:
            read[name] = _setting(name, value, known[name], choices, ranges)
    return config(**read)


def _setting(name: str, value: Any, default: Any, choices: Choices, ranges: Ranges) -> Any:
    if isinstance(default, bool):
        if not isinstance(value, bool):
            raise UsageError(f"setting {name}: {value!r} is neither true nor false")
        return value
    if isinstance(default, str):
        if name in choices and value not in choices[name]:
            raise UsageError(f"setting {name}: {value!r} is none of {', '.join(choices[name])}")
        if not isinstance(value, str):
            raise UsageError(f"setting {name}: {value!r} is no text")
        return value
    whole = isinstance(default, int)
    number = isinstance(value, int if whole else (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    low, high = ranges[name]
    if not number or not low <= value <= high:
        kind = "a whole number" if whole else "a number"
        raise UsageError(f"setting {name}: {value!r} is not {kind} from {low:g} to {high:g}")
    return value if whole else float(value)


def _lengths(value: Any) -> tuple[int, int, int] | None:
    if value is None:
        return None
    fits = isinstance(value, (list, tuple)) and len(value) == 3 and all(type(length) is int for length in value)
    if not fits or not 0 < value[0] < value[1] < value[2] <= LONGEST:
        raise UsageError(f"setting lengths: {value!r} is not three rising numbers of samples, as in [10,30,60]")
    return tuple(value)


def _names(value: Any) -> tuple[str, ...] | None:
    if value is None:
        return None
    if not isinstance(value, (list, tuple)) or not value or not all(isinstance(name, str) for name in value):
        raise UsageError(f"""setting judged: {value!r} is not a list of sensors' names, as in ["pressure"]""")
    return tuple(value)
