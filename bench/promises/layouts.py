"""Random tables in random layouts: is each read back equal, or refused with a remedy?

    python -m bench.promises.layouts [--count 10000] [--seed 0] [--show 20]

A case takes one choice of each of `AXES`, crossed at random; a table is never wrong in silence: what differs from what
was written must be named in a note.
"""

from __future__ import annotations

import datetime as dt
import gzip
import io
import json
import random
import tempfile
import zipfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click
import numpy as np

from edgekd.data import look
from edgekd.runtime.errors import EdgeKDError

EPOCH = dt.datetime(1970, 1, 1)


def _fraction(moment: dt.datetime, form: str, mark: str) -> str:
    return moment.strftime(form) + (f"{mark}{moment.microsecond // 1000:03}" if mark else "")


def _epoch(moment: dt.datetime) -> float:
    return (moment - EPOCH).total_seconds()


TIMES: dict[str, Callable[[dt.datetime, dt.datetime], str]] = {
    "iso": lambda m, begin: m.isoformat(),
    "iso blank": lambda m, begin: m.isoformat(" "),
    "iso z": lambda m, begin: m.isoformat() + "Z",
    "iso offset": lambda m, begin: m.isoformat() + "+00:00",
    "utc word": lambda m, begin: m.strftime("%Y-%m-%d %H:%M:%S") + " UTC",
    "iso milliseconds": lambda m, begin: _fraction(m, "%Y-%m-%dT%H:%M:%S", "."),
    "comma milliseconds": lambda m, begin: _fraction(m, "%Y-%m-%d %H:%M:%S", ","),
    "d.m.Y": lambda m, begin: m.strftime("%d.%m.%Y %H:%M:%S"),
    "d.m.y": lambda m, begin: m.strftime("%d.%m.%y %H:%M:%S"),
    "d.m.Y H:M": lambda m, begin: m.strftime("%d.%m.%Y %H:%M"),
    "d.m.Y milliseconds": lambda m, begin: _fraction(m, "%d.%m.%Y %H:%M:%S", "."),
    "d/m/Y": lambda m, begin: m.strftime("%d/%m/%Y %H:%M:%S"),
    "m/d/Y": lambda m, begin: m.strftime("%m/%d/%Y %H:%M:%S"),
    "m/d/Y pm": lambda m, begin: m.strftime("%m/%d/%Y %I:%M:%S %p"),
    "Y/m/d": lambda m, begin: m.strftime("%Y/%m/%d %H:%M:%S"),
    "d-b-Y": lambda m, begin: m.strftime("%d-%b-%Y %H:%M:%S"),
    "d b Y": lambda m, begin: m.strftime("%d %B %Y %H:%M:%S"),
    "b d, Y": lambda m, begin: m.strftime("%b %d, %Y %H:%M:%S"),
    "weekday": lambda m, begin: m.strftime("%a, %d %b %Y %H:%M:%S"),
    "compact T": lambda m, begin: m.strftime("%Y%m%dT%H%M%S"),
    "compact": lambda m, begin: m.strftime("%Y%m%d%H%M%S"),
    "siemens": lambda m, begin: m.strftime("DT#%Y-%m-%d-%H:%M:%S"),
    "epoch s": lambda m, begin: f"{_epoch(m):.3f}".rstrip("0").rstrip("."),
    "epoch ms": lambda m, begin: str(round(_epoch(m) * 1000)),
    "epoch us": lambda m, begin: str(round(_epoch(m) * 1e6)),
    "epoch ns": lambda m, begin: str(round(_epoch(m) * 1000) * 10**6),
    "excel": lambda m, begin: f"{(m - dt.datetime(1899, 12, 30)).total_seconds() / 86400:.8f}",
    "elapsed s": lambda m, begin: f"{(m - begin).total_seconds():.3f}",
    "elapsed h:m:s": lambda m, begin: str(m - begin),
    "time of day": lambda m, begin: m.strftime("%H:%M:%S"),
    "none": lambda m, begin: "",
}
DATELESS = ("elapsed s", "elapsed h:m:s", "time of day", "none")
FINE = (
    "iso milliseconds",
    "comma milliseconds",
    "d.m.Y milliseconds",
    "epoch s",
    "epoch ms",
    "epoch us",
    "epoch ns",
    "elapsed s",
)
AXES: dict[str, tuple[Any, ...]] = {
    "form": ("table",) * 12 + ("long", "jsonl", "array", "line protocol", "nested"),
    "separator": (",", ",", ";", "\t", "|", " "),
    "decimal": (".", ".", ","),
    "quoted": (False, False, False, True),
    "end": ("\n", "\n", "\r\n", "\r"),
    "encoding": ("utf-8", "utf-8", "utf-8-sig", "utf-16", "cp1252"),
    "pack": ("", "", "", "gz", "zip"),
    "suffix": (".csv", ".txt", ".dat", ".log", ""),
    "header": ("plain", "plain", "plain", "none", "units row", "two lines", "again", "units in names", "twice"),
    "before": ("", "", "", "comments", "preamble", "sep"),
    "after": ("", "", "", "", "footer", "torn"),
    "trailing": ("", "", "", "rows", "both"),
    "index": ("", "", "", "unnamed", "RecNo"),
    "time": tuple(TIMES),
    "split": (False, False, False, True),
    "time name": ("time", "Timestamp", "DateTime", "Zeit", "Date/Time"),
    "period_s": (0.1, 1.0, 1.0, 10.0, 60.0, 300.0, 3600.0),
    "order": ("", "", "", "newest first", "shuffled", "twice", "gap"),
    "missing": ("", "", "", "NA", "-", "?", "Bad", "ERR", "-9999", "Sensor fault"),
    "numbers": (
        "two",
        "two",
        "whole",
        "exponent",
        "plus",
        "unicode minus",
        "thousands",
        "thousands blank",
        "unit",
        "wide",
    ),
    "extra": ("", "", "", "switch", "words", "machine", "empty", "zeros"),
    "padded": (False, False, False, True),
    "blank lines": (False, False, False, True),
    "sensors": (1, 2, 3, 5, 8),
    "rows": (12, 40, 150, 700),
}


@dataclass
class Case:
    """A file, and what it says."""

    name: str
    content: bytes
    values: np.ndarray
    """float32 (T, n) in the order of time, NaN where a value is missing."""
    sensors: tuple[str, ...] | None
    period_s: float
    start: float | None
    how: dict[str, Any] = field(default_factory=dict)


def case_of(axes: dict[str, Any], seed: int) -> Case | None:
    """The file of one choice of each axis; None where they contradict each other."""
    rng = random.Random(seed)
    a = dict(axes)
    if a["time"] not in FINE:
        a["period_s"] = max(1.0, a["period_s"])
    if a["time"] == "d.m.Y H:M":
        a["period_s"] = max(60.0, a["period_s"])
    begin = dt.datetime(2024, 1, 1) + dt.timedelta(days=rng.randrange(700), seconds=rng.randrange(86400))
    if a["period_s"] >= 1:
        begin = begin.replace(second=0) if a["time"] == "d.m.Y H:M" else begin
    if a["time"] == "time of day":
        begin = begin.replace(hour=0, minute=10)
        a["rows"] = min(a["rows"], int(80_000 / a["period_s"]))
        if a["rows"] < 12:
            return None
    if a["time"] in DATELESS and a["order"] in ("newest first", "shuffled", "gap"):
        a["order"] = ""
    if a["time"] == "none" and a["order"]:
        a["order"] = ""
    count, n = a["rows"], a["sensors"]
    values, cells, unit = _numbers(a, rng, count, n)
    steps = np.arange(count)
    if a["order"] == "gap":
        steps[count // 2 :] += 5000
    moments = [begin + dt.timedelta(seconds=float(s) * a["period_s"]) for s in steps]
    labels = [TIMES[a["time"]](m, begin) for m in moments]
    names = [["Temp °C", "pressure_bar", "Drehzahl", "flow", "vib_x", "vib_y", "I_motor", "level"][i] for i in range(n)]
    how: dict[str, Any] = {}
    if a["missing"]:
        for _ in range(max(1, count * n // 60)):
            i, j = rng.randrange(count), rng.randrange(n)
            if sum(np.isnan(values[:, j])) < count // 15:
                values[i, j], cells[i][j] = np.nan, a["missing"]
        if a["missing"] == "-9999":
            how["missing"] = ("-9999",)
    if a["time"] == "none":
        how["period_s"] = a["period_s"]
    begin_s = None if a["time"] in DATELESS else _epoch(moments[0])
    rows = _ordered(a, rng, [[label, *row, *_extra(a, i)] for i, (label, row) in enumerate(zip(labels, cells))])
    build = _table if a["form"] == "table" else _lines
    built = build(a, rng, names, rows, unit)
    if built is None:
        return None
    text, sensors = built
    if a["form"] in ("jsonl", "array", "line protocol", "nested"):
        a["encoding"] = "utf-8"
    try:
        content = text.encode(a["encoding"])
    except UnicodeEncodeError:
        content = text.encode("utf-8")
    if a["pack"] == "gz":
        content = gzip.compress(content)
    elif a["pack"] == "zip":
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w") as archive:
            archive.writestr("table", content)
        content = packed.getvalue()
    name = f"table{a['suffix']}{'.' * bool(a['pack'])}{a['pack']}"
    return Case(name, content, values.astype(np.float32), sensors, a["period_s"], begin_s, how)


def _numbers(a: dict[str, Any], rng: random.Random, count: int, n: int) -> tuple[np.ndarray, list[list[str]], str]:
    """float64 (T, n), the cells, and the unit behind them."""
    kind = a["numbers"]
    scales = [rng.choice([1.0, 50.0, 300.0, 1500.0, 20000.0]) for _ in range(n)]
    noise = np.random.default_rng(rng.randrange(2**32))
    values = np.array(scales) * (1 + 0.05 * noise.normal(size=(count, n)))
    if kind == "unicode minus":
        values[:, 0] *= -1
    if kind == "wide":
        values *= 10.0 ** noise.integers(-6, 7, size=n)
    digits = 0 if kind == "whole" else 2
    if kind in ("exponent", "wide"):
        cells = [[f"{x:.6E}" if kind == "exponent" else repr(float(np.float32(x))) for x in row] for row in values]
    else:
        cells = [[f"{x:.{digits}f}" for x in row] for row in values]
    values = np.array([[float(cell) for cell in row] for row in cells])
    unit = ""
    if kind == "plus":
        cells = [["+" * (not cell.startswith("-")) + cell for cell in row] for row in cells]
    if kind.startswith("thousands"):
        mark = " " if kind.endswith("blank") else "."
        cells = [[f"{x:,.2f}" for x in row] for row in values]
        if mark == " ":
            cells = [[cell.replace(",", " ") for cell in row] for row in cells]
        elif a["decimal"] == ",":
            cells = [[cell.replace(",", "'").replace(".", ",").replace("'", ".") for cell in row] for row in cells]
    if a["decimal"] == "," and kind != "thousands":
        cells = [[cell.replace(".", ",") for cell in row] for row in cells]
    if kind == "unicode minus":
        cells = [[cell.replace("-", "\u2212") for cell in row] for row in cells]
    if kind == "unit":
        unit = rng.choice([" °C", " bar", "rpm", " l/min", " %"])
        cells = [[cell + unit for cell in row] for row in cells]
    return values, cells, unit


def _ordered(a: dict[str, Any], rng: random.Random, rows: list[list[str]]) -> list[list[str]]:
    if a["order"] == "newest first":
        return rows[::-1]
    if a["order"] == "shuffled":
        return rng.sample(rows, len(rows))
    if a["order"] == "twice":
        k = rng.randrange(len(rows))
        return [*rows[:k], rows[k], *rows[k:]]
    return rows


def _extra(a: dict[str, Any], i: int) -> list[str]:
    cells = {
        "switch": ["ON", "OFF"][i // 5 % 2],
        "words": ["RUN", "IDLE", "CLEAN"][i // 7 % 3],
        "machine": "P-101",
        "empty": "",
        "zeros": "01"[i // 6 % 2],
    }
    return [cells[a["extra"]]] if a["extra"] else []


def _table(
    a: dict[str, Any], rng: random.Random, names: list[str], rows: list[list[str]], unit: str
) -> tuple[str, tuple[str, ...] | None] | None:
    separator, quoted = a["separator"], a["quoted"]
    cells = [cell for row in rows for cell in row]
    needs = any(separator in cell for cell in cells) or (separator == " " and any(" " in name for name in names))
    if separator == " " and (
        needs
        or a["missing"] in ("Sensor fault",)
        or a["extra"] == "empty"
        or a["header"] in ("units row", "two lines", "units in names")
        or a["index"] == "unnamed"
        or a["trailing"]
        or a["before"] == "preamble"
        or a["after"] == "footer"
    ):
        return None
    quoted = quoted or needs
    timed = a["time"] != "none"
    header = list(names)
    if a["header"] == "units in names":
        header = [f"{name} [bar]" for name in header]
    if a["header"] == "twice":
        if len(names) < 2:
            return None
        header = [header[0], header[0], *header[2:]]
    sensors: tuple[str, ...] | None = tuple(header)
    if a["header"] == "twice":
        sensors = (header[0], f"{header[0]}_2", *header[2:])
    left: list[str] = [a["time name"]] if timed else []
    if not timed:
        rows = [row[1:] for row in rows]
    if (
        timed
        and a["split"]
        and all(row[0].count(" ") == 1 and row[0].split(" ")[1].count(":") for row in rows)
        and "UTC" not in rows[0][0]
    ):
        rows = [[*row[0].split(" "), *row[1:]] for row in rows]
        left = rng.choice([["Date", "Time"], ["Datum", "Uhrzeit"], ["date", "time"]])
    if a["index"]:
        left = ["" if a["index"] == "unnamed" else "RecNo", *left]
        rows = [[str(i), *row] for i, row in enumerate(rows, 1)]
    right = [a["extra"]] if a["extra"] else []
    if a["extra"] in ("switch", "zeros"):
        sensors = (*sensors, a["extra"])
    head = [*left, *header, *right]
    above = []
    if a["header"] == "two lines":
        above = [[*left, *(f"AI{i}" for i in range(len(names))), *right]]
        head = [*[""] * len(left), *names, *[""] * len(right)]
    if a["header"] == "units row":
        rows = [[*[""] * len(left), *rng.choice([["bar"], ["°C"], ["1/min"]]) * len(names), *[""] * len(right)], *rows]
    lines = ([] if a["header"] == "none" else [*above, head]) + rows
    if a["header"] == "none":
        if not timed and a["index"]:
            return None
        sensors = None
    if a["header"] == "again":
        lines.insert(len(lines) // 2, head)
    if a["trailing"]:
        lines = [
            row if a["trailing"] == "rows" and row in (head, *above) and a["header"] != "none" else [*row, ""]
            for row in lines
        ]
    dress = (
        (lambda cell: f'"{cell}"')
        if quoted
        else (lambda cell: f" {cell}" if a["padded"] and separator not in "\t " else cell)
    )
    texts = [separator.join(map(dress, row)) for row in lines]
    if a["blank lines"]:
        texts = [text for line in texts for text in (line, "")]
    end = a["end"]
    before = {
        "comments": f"# logger DL-16{end}# serial 0001{end}",
        "preamble": f"Device: Logger 16{end}Serial: 0001{end}{end}",
        "sep": f"sep={separator}{end}",
    }
    after = {
        "footer": f"Total{separator * 2}{end}EOF{end}",
        "torn": separator.join(map(dress, lines[-1][: max(1, len(lines[-1]) // 2)])),
    }
    if a["before"] == "sep" and separator == " ":
        return None
    if len(lines[-1]) < 4 and a["after"]:
        return None
    return before.get(a["before"], "") + "".join(text + end for text in texts) + after.get(a["after"], ""), sensors


def _lines(
    a: dict[str, Any], rng: random.Random, names: list[str], rows: list[list[str]], unit: str
) -> tuple[str, tuple[str, ...] | None] | None:
    plain = [name.replace(" ", "_").replace("°", "") for name in names]
    form = a["form"]
    if form == "long":
        if a["time"] == "none" or a["order"] == "twice":
            return None
        separator = ";" if a["separator"] == " " else a["separator"]
        lines = [["time", "tag", "value"]] + [
            [row[0], name, cell] for row in rows for name, cell in zip(names, row[1:])
        ]
        quoted = any(separator in cell for row in lines for cell in row)
        return "".join(
            separator.join(f'"{cell}"' if quoted else cell for cell in row) + a["end"] for row in lines
        ), tuple(names)
    if (
        unit
        or a["decimal"] == ","
        or a["numbers"] in ("thousands", "thousands blank", "plus", "unicode minus")
        or a["time"] == "none"
    ):
        return None

    def value(cell: str) -> Any:
        try:
            return float(cell)
        except ValueError:
            return cell if a["missing"] else None

    if form == "line protocol":
        if not a["time"].startswith("epoch ") or a["missing"] not in ("", "-9999"):
            return None
        moments = [
            round(float(row[0]) * {"epoch s": 1e9, "epoch ms": 1e6, "epoch us": 1e3, "epoch ns": 1.0}[a["time"]])
            for row in rows
        ]
        if a["time"] == "epoch ns":
            moments = [int(row[0]) for row in rows]
        return "".join(
            f"pump,host=gw1 {','.join(f'{n}={c}' for n, c in zip(plain, row[1:]))} {at}{a['end']}"
            for at, row in zip(moments, rows)
        ), tuple(plain)
    flat = [{"time": row[0], **{name: value(cell) for name, cell in zip(names, row[1:])}} for row in rows]
    if form == "array":
        return json.dumps(flat), tuple(names)
    if form == "nested":
        flat = [{"topic": "a/b", "payload": sample} for sample in flat]
    return "".join(json.dumps(sample) + a["end"] for sample in flat), tuple(names)


def verdict(case: Case, folder: Path) -> tuple[str, str]:
    """ "equal", "refused", "said" (it differs, and a note says so) or "wrong", and why."""
    path = folder / case.name
    path.write_bytes(case.content)
    try:
        found = look(path, **case.how)
    except EdgeKDError as error:
        words = str(error)
        return ("refused" if "--" in words or "layout" in words or "export it" in words else "wrong"), words
    except Exception as error:
        return "wrong", f"{type(error).__name__}: {error}"
    finally:
        path.unlink()
    notes = " ".join(found.notes)
    wrong = _difference(case, found)
    if not wrong:
        return "equal", notes
    told = ("--time-format" in notes and wrong.startswith("start")) or (
        "left out" in notes and "column" in notes and wrong.startswith("sensors")
    )
    told = told or "decimal comma" in notes or ("no header" in notes and wrong.startswith(("sensors", "shape")))
    told = told or "--resample" in notes or ("no header" in notes and "no timestamps" in notes)
    return ("said" if told else "wrong"), f"{wrong}; {notes}"


def _difference(case: Case, found: Any) -> str:
    names = tuple(column.name for column in found.columns)
    if case.sensors is not None and names != case.sensors:
        return f"sensors {names} for {case.sensors}"
    n = case.values.shape[1]
    if found.values.shape[0] != len(case.values) or found.values.shape[1] < n:
        return f"shape {found.values.shape} for {case.values.shape}"
    values = found.values[:, :n]
    same = np.isclose(values, case.values, rtol=1e-6) | (np.isnan(values) & np.isnan(case.values))
    if not same.all():
        i, j = np.argwhere(~same)[0]
        return f"values: {(~same).sum()} differ, first {values[i, j]} for {case.values[i, j]}"
    if abs(found.period_s - case.period_s) > 1e-3 * case.period_s:
        return f"period {found.period_s} for {case.period_s}"
    start = found.times_s[0] if found.dated else None
    if (start is None) != (case.start is None) or (
        start is not None and case.start is not None and abs(start - case.start) > 0.01
    ):
        return f"start {start} for {case.start}"
    return ""


def draw(rng: random.Random) -> dict[str, Any]:
    """One choice of each axis."""
    return {name: rng.choice(choices) for name, choices in AXES.items()}


@click.command()
@click.option("--count", default=10_000, show_default=True)
@click.option("--seed", default=0, show_default=True)
@click.option("--show", default=10, show_default=True, help="Wrong ones to show in full.")
def main(count: int, seed: int, show: int) -> None:
    """Write and read so many random tables."""
    rng = random.Random(seed)
    verdicts: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as folder:
        while sum(verdicts.values()) < count:
            one = rng.randrange(2**32)
            axes = draw(random.Random(one))
            case = case_of(axes, one)
            if case is None:
                continue
            how, why = verdict(case, Path(folder))
            verdicts[how] += 1
            if how != "equal" and show > 0:
                show -= 1
                plain = {name: value for name, value in axes.items() if value not in ("", False)}
                click.echo(f"{how} {one}: {why[:400]}\n    {plain}\n    {case.content[:300]!r}\n")
    click.echo(", ".join(f"{number} {how}" for how, number in verdicts.most_common()))
    raise SystemExit(verdicts["wrong"] > 0)


if __name__ == "__main__":
    main()
