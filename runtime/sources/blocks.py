"""Lines of plain numbers, many at once: the rows that `RowParser.parse` finds in them one by one."""

from __future__ import annotations

import numpy as np

from edgekd.runtime.sources import Row
from edgekd.runtime.sources.row_parser import Places, RowParser

FEWEST = 8
"""Lines; of fewer, a block takes longer."""
NUMERIC = b"0123456789.Ee-+"
COMMA, DOT, E, MINUS, PLUS = b",.e-+"
EXACT, POWERS = 2**53, 10.0 ** np.arange(23)
"""Whole numbers up to here and these powers of ten are float64 without an error: one product or quotient of the two is
rounded as `float` rounds what is written (Clinger 1990)."""
_PARTS = bytes.maketrans(b"e", b",")


def rows_of(parser: RowParser, lines: list[bytes], whole: bool) -> list[Row]:
    """The rows in whole lines. whole: the last of them is ended by a newline."""
    found: list[Row] = []
    at = 0
    while at < len(lines):
        rows = _block(parser, *parser.quick, lines[at:]) if parser.quick and len(lines) - at >= FEWEST else []
        at += len(rows)
        alone = lines[at : at + (FEWEST if parser.quick and not rows else 1)]
        at += len(alone)
        found += [*rows, *(row for line in alone if (row := parser.parse(line, whole)) is not None)]
    return found


def _block(parser: RowParser, separator: str, places: Places, lines: list[bytes]) -> list[Row]:
    """The rows of the first lines, as many as are plain, if they are enough."""
    timed, comment, mark = bool(places.time), parser.layout.comment, separator.encode()
    unusual = parser.layout.checksum or places.sequence is not None or (comment and comment[0] not in "#%;/")
    if unusual or (timed and (places.time[0] != 0 or 0 in places.sensors)):
        return []
    labels, cells = zip(*(line.partition(mark)[::2] for line in lines)) if timed else ((), lines)
    heads, columns = b"".join(labels), parser.width - timed
    rests = b"\n".join(cells).translate(None, NUMERIC).split(b"\n")
    count = [*map((mark * (columns - 1)).__eq__, rests), False].index(False)
    if count < FEWEST or not heads.isascii() or b"_" in heads or b'"' in heads or max(map(len, lines)) > parser.limit:
        return []
    values = numbers(b",".join(cells[:count]).replace(mark, b",") + b",")
    count = len(values) // columns
    with np.errstate(over="ignore"):
        values = values[: count * columns].astype(parser.kind).reshape(count, columns)
    if places.sensors != [*range(timed, parser.width)]:
        values = values[:, np.subtract(places.sensors, timed)]
    rows = list(map(Row, values))  # (n,) each
    for i, (row, label) in enumerate(zip(rows, labels)):
        row.time = label.decode().strip()
        row.seconds = parser.times.seconds(row.time)
        if row.seconds is None:
            del rows[i:]
            break
    parser.lines, parser.rows = parser.lines + len(rows), parser.rows + len(rows)
    return rows


def numbers(text: bytes) -> np.ndarray:
    """float64, what `float` finds in cells of `NUMERIC`, a comma behind each; fewer where one of them is no number."""
    if not text:
        return np.empty(0)
    text = text.replace(b"E", b"e")
    digits = text.translate(_PARTS, b".-+")
    written = np.frombuffer(text, np.uint8)
    marks = np.flatnonzero((written == COMMA) | (written == DOT) | (written == E))
    kinds = written[marks]
    dots = kinds == DOT
    last = np.flatnonzero(~dots)
    ends = marks[last]
    begins = np.concatenate(([0], ends[:-1] + 1))
    broken, signs = dots[last - 1], written[begins]
    minus = signs == MINUS
    signed = minus | (signs == PLUS)
    exponents = np.flatnonzero(kinds[last] == E) + 1
    empty = ends - begins <= broken + signed.astype(np.int8)
    if empty.any():
        return numbers(text[: text.rfind(b",", 0, begins[empty.argmax()]) + 1])
    strange = len(text) - len(digits) != np.count_nonzero(broken) + np.count_nonzero(signed)
    if strange or broken[exponents].any() or (np.diff(exponents) == 1).any():
        return np.empty(0)
    parts = np.fromstring(digits, np.int64, sep=",")  # of a number: its digits, those of its exponent
    scale = np.where(broken, marks[last - 1] + 1 - ends, 0)
    scale[exponents - 1] += np.where(minus, -parts, parts)[exponents].clip(-99, 99)
    size = np.abs(scale)
    if parts.max() > EXACT or size.max() >= len(POWERS):
        return np.fromstring(text, np.float64, sep=",")
    power = POWERS[size]
    found = np.where(scale < 0, parts / power, parts * power)
    np.negative(found, out=found, where=minus)
    return np.delete(found, exponents) if len(exponents) else found
