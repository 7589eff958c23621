"""The layout: what a logger's lines look like, and what becomes of its columns before a detector sees them.

`edgekd look` finds it; it travels in the manifest. Bytes become samples by it in `edgekd.runtime.sources` alone, for
training and on the device.
"""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal

from edgekd.runtime import json_fields as read
from edgekd.runtime.errors import ModelRefused, UsageError

FORMS = ("", "table", "json", "pairs", "line protocol")
SEPARATORS = ("", ",", ";", "\t", "|", " ")
RULES = ("", "mean", "last")
Rule = Literal["mean", "last"]
NUMBERED = ("s", "ms", "us", "ns", "min", "h", "d", "excel", "matlab")
"""Time formats that are numbers: since 1970 in these units, or days of a spreadsheet or of MATLAB."""
MAX_NAMES = 4096
_ENCODING = re.compile(r"|utf-8|utf-16|utf-16-le|utf-16-be|cp125[0-8]|latin-1|iso8859-\d\d?|cp437|cp850")
_ZONE = re.compile(r"|[A-Za-z0-9_+-]+(/[A-Za-z0-9_+-]+)*")
_Name = Annotated[str, read.text, 200, read.OPTIONAL]
_Names = Annotated[tuple[str, ...], read.items, 0, MAX_NAMES, read.text, 200, read.OPTIONAL]
_Flag = Annotated[bool, read.flag, read.OPTIONAL]


def _one_of(value: Any, where: str, choices: tuple[str, ...]) -> str:
    if value not in choices:
        raise read.refused(where, f"one of {', '.join(map(repr, choices))}", value)
    return str(value)


def _time_format(value: Any, where: str) -> str:
    if value in ("", *NUMBERED, "iso", "elapsed", "none"):
        return str(value)
    try:  # as `strptime` itself takes it
        written = datetime(2025, 3, 3, tzinfo=UTC).strftime(read.text(value, where, 60))
        if written != value and datetime.strptime(written, value):
            return str(value)
    except (ValueError, re.error):
        pass
    raise read.refused(where, "a time format, such as '%d.%m.%Y %H:%M:%S'", value)


@dataclass(frozen=True, kw_only=True)
class Layout:
    """How one logger writes. Every field may be left out: "" and () leave it to each line."""

    encoding: Annotated[str, read.matching, _ENCODING, "an encoding such as 'cp1252'", read.OPTIONAL] = ""
    form: Annotated[str, _one_of, FORMS, read.OPTIONAL] = ""
    """What a line is: a "table" row, a "json" value, "pairs" (name=value), "line protocol"."""
    separator: Annotated[str, _one_of, SEPARATORS, read.OPTIONAL] = ""
    """Of a table's cells; a blank stands for any run of blanks."""
    decimal: Annotated[str, _one_of, ("", ".", ","), read.OPTIONAL] = ""
    thousands: Annotated[str, _one_of, ("", ".", ",", " ", "'"), read.OPTIONAL] = ""
    comment: Annotated[str, read.text, 8, read.OPTIONAL] = ""
    """A line that begins with this is none."""
    names: _Names = ()
    """Columns of a table in order, where no line of it names them; `skip` lines come before its first row."""
    skip: Annotated[int, read.integer, 0, 10_000, read.OPTIONAL] = 0
    time: Annotated[tuple[str, ...], read.items, 0, 6, read.text, 200, read.OPTIONAL] = ()
    """Column of the time label, or several: date and time of day, year, month, day. (): one with a usual name."""
    time_format: Annotated[str, _time_format, read.OPTIONAL] = ""
    """As `datetime.strptime` takes it; "iso"; a number's unit; "elapsed": seconds or h:mm:ss without a date; "none":
    no time at all. "": ISO 8601, or a number of s, ms, us or ns since 1970 as its size tells."""
    timezone: Annotated[str, read.matching, _ZONE, "a time zone, such as 'Europe/Berlin'", read.OPTIONAL] = ""
    """Of labels that say none; "" is UTC."""
    sort: _Flag = False
    """A file's rows do not come in the order of their time."""
    gaps: _Flag = False
    """Rows come evenly by their time: where it jumps, samples are missing."""
    tag: _Name = ""
    """Column that names the sensor of a row, which says no more than one value."""
    value: _Name = ""
    """Column of that value."""
    merge: _Flag = False
    """A message holds some sensors only; those of one period make a sample."""
    group: _Name = ""
    """COLUMN=VALUE: the rows of one machine. COLUMN: each machine for itself."""
    only: Annotated[tuple[str, ...], read.items, 0, 16, read.text, 200, read.OPTIONAL] = ()
    """Comparisons such as "pump > 0": rows where one does not hold are not for the detector."""
    sensors: _Names = ()
    """Columns that were taken in training. A device goes by its model's."""
    missing: Annotated[tuple[str, ...], read.items, 0, 64, read.text, 200, read.OPTIONAL] = ()
    """Words, and numbers, that mean no value, beside the usual ones."""
    suffixes: Annotated[tuple[str, ...], read.items, 0, 256, read.text, 40, read.OPTIONAL] = ()
    """Units that stand behind the numbers."""
    difference: _Names = ()
    """NAME or NAME:MODULUS: sensors that count up; the step from the sample before is taken in their place."""
    resample: Annotated[Literal["", "mean", "last"], _one_of, RULES, read.OPTIONAL] = ""
    """Rows do not come at the model's period: what becomes of those that share one."""
    checksum: _Flag = False
    """Each line ends in * and two hexadecimal digits, the XOR of what stands before (after a leading $)."""
    sequence: _Name = ""
    """Column that counts the samples. Without names it is the first of n + 1."""
    sequence_wraps_at: Annotated[int, read.integer, 0, 2**63 - 1, read.OPTIONAL] = 0
    """One more than the largest count; 0: 8, 16, 32 or 64 bits."""

    def without_text(self) -> Layout:
        """What is done with the columns, for an input that is written in another way."""
        return replace(self, **{name: getattr(PLAIN, name) for name in OF_THE_TEXT})

    @staticmethod
    def from_toml(path: str | Path) -> Layout:
        """Read and check a file; raises UsageError naming the field."""
        try:
            content = tomllib.loads(Path(path).read_text("utf-8"))
            layout: Layout = read.record(content, "", Layout)
        except OSError as error:
            raise UsageError(f"{path}: {error.strerror}; `edgekd look DATA --layout {path}` writes one") from None
        except (ModelRefused, ValueError, RecursionError) as error:
            raise UsageError(f"{path}: no layout: {str(error).removeprefix('manifest: ')}") from None
        return layout


PLAIN = Layout()
OF_THE_TEXT = ("encoding", "form", "separator", "decimal", "thousands", "comment", "names", "skip", "sort")
"""Fields that say how a file is written; the others say what is done with its columns, wherever they come from."""
