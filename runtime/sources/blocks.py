"""Lines of plain numbers, many at once: the rows that `RowParser.parse` finds in them one by one."""

from __future__ import annotations

import numpy as np

from edgekd.runtime.sources import Row
from edgekd.runtime.sources.row_parser import RowParser

FEWEST = 8  # lines; of fewer, a block takes longer
NUMERIC = b"0123456789.Ee-+"
COMMA, DOT, E = b",.e"
EXACT, POWERS = 2**53, 10.0 ** np.arange(23)
"""Whole numbers up to here and these powers of ten are float64 without an error: one product or quotient of the two is
rounded as `float` rounds what is written (Clinger 1990)."""


def rows_of(parser: RowParser, lines: list[bytes]) -> list[Row]:
    """The rows of the first lines, as many as are plain, if they are enough."""
    if len(lines) < FEWEST or not parser.quick:
        return []
    separator, places = parser.quick
    timed, comment, mark = bool(places.time), parser.layout.comment, separator.encode()
    unusual = parser.layout.checksum or places.sequence is not None or (comment and comment[0] not in "#%;/")
    if unusual or (timed and (places.time[0] != 0 or 0 in places.sensors)):
        return []
    labels, cells = zip(*(line.partition(mark)[::2] for line in lines)) if timed else ((), lines)
    columns = parser.width - timed
    rests = b"\n".join(cells).translate(None, NUMERIC).split(b"\n")
    count = [*map((mark * (columns - 1)).__eq__, rests), False].index(False)
    if count < FEWEST or max(map(len, lines)) > parser.limit:
        return []
    values = numbers(b",".join(cells[:count]).translate(bytes.maketrans(mark + b"E", b",e")) + b",")
    count = len(values) // columns
    with np.errstate(over="ignore"):
        values = values[: count * columns].astype(parser.kind).reshape(count, columns)
    rows = list(map(Row, values.take(np.subtract(places.sensors, timed), axis=1)))  # (n,) each
    for i, (row, label) in enumerate(zip(rows, labels)):
        row.time = label.decode(errors="replace").strip()
        row.seconds = None if b'"' in label else parser.times.seconds(row.time)
        if row.seconds is None:
            del rows[i:]
            break
    parser.lines, parser.rows = parser.lines + len(rows), parser.rows + len(rows)
    return rows


def numbers(text: bytes) -> np.ndarray:
    """float64, what `float` finds in cells of `NUMERIC` but E, a comma behind each; fewer where one is no number."""
    digits = text.translate(bytes.maketrans(b"e", b","), b".-+")
    written = np.frombuffer(text, np.uint8)
    marks = np.flatnonzero((written == COMMA) | (written == DOT) | (written == E))
    kinds = written[marks]
    last = np.flatnonzero(kinds != DOT)
    ends = marks[last]
    begins = np.concatenate(([0], ends[:-1] + 1))
    broken = kinds[last - 1] == DOT
    minus, plus = (written[begins] == sign for sign in b"-+")
    beside = np.add(broken, minus | plus, dtype=np.int8)  # the digits
    exponents = np.flatnonzero(kinds[last] == E) + 1
    empty = ends - begins <= beside
    if empty.any():
        end = text.rfind(b",", 0, begins[empty.argmax()]) + 1
        return numbers(text[:end]) if end else np.empty(0)
    strange = len(text) - len(digits) != beside.sum()
    if strange or broken[exponents].any() or (exponents[1:] - exponents[:-1] == 1).any():
        return np.empty(0)
    parts = np.fromstring(digits, np.int64, sep=",")  # of a number: its digits, those of its exponent
    scale = np.where(broken, marks[last - 1] + 1 - ends, 0)
    scale[exponents - 1] += np.where(minus, -parts, parts)[exponents].clip(-99, 99)
    size = np.abs(scale)
    if parts.max() > EXACT or size.max() >= len(POWERS):
        return np.fromstring(text, np.float64, sep=",")
    found = np.where(scale < 0, parts / POWERS[size], parts * POWERS[size])
    np.negative(found, out=found, where=minus)
    return np.delete(found, exponents) if len(exponents) else found
