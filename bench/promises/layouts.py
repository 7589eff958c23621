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


def _epoch(moment: dt.datetime) -> float:
    return (moment - EPOCH).total_seconds()


TIMES: dict[str, str | Callable[[dt.datetime, dt.datetime], str]] = {
    "iso": "%Y-%m-%dT%H:%M:%S",
    "iso blank": "%Y-%m-%d %H:%M:%S",
    "iso z": "%Y-%m-%dT%H:%M:%SZ",
    "iso offset": "%Y-%m-%dT%H:%M:%S+00:00",
    "utc word": "%Y-%m-%d %H:%M:%S UTC",
    "iso milliseconds": "%Y-%m-%dT%H:%M:%S.MMM",
    "comma milliseconds": "%Y-%m-%d %H:%M:%S,MMM",
    "d.m.Y": "%d.%m.%Y %H:%M:%S",
    "d.m.y": "%d.%m.%y %H:%M:%S",
    "d.m.Y H:M": "%d.%m.%Y %H:%M",
    "d.m.Y milliseconds": "%d.%m.%Y %H:%M:%S.MMM",
    "d/m/Y": "%d/%m/%Y %H:%M:%S",
    "m/d/Y": "%m/%d/%Y %H:%M:%S",
    "m/d/Y pm": "%m/%d/%Y %I:%M:%S %p",
    "Y/m/d": "%Y/%m/%d %H:%M:%S",
    "d-b-Y": "%d-%b-%Y %H:%M:%S",
    "d b Y": "%d %B %Y %H:%M:%S",
    "b d, Y": "%b %d, %Y %H:%M:%S",
    "weekday": "%a, %d %b %Y %H:%M:%S",
    "compact T": "%Y%m%dT%H%M%S",
    "compact": "%Y%m%d%H%M%S",
    "siemens": "DT#%Y-%m-%d-%H:%M:%S",
    "epoch s": lambda m, begin: f"{_epoch(m):.3f}".rstrip("0").rstrip("."),
    "epoch ms": lambda m, begin: str(round(_epoch(m) * 1000)),
    "epoch us": lambda m, begin: str(round(_epoch(m) * 1e6)),
    "epoch ns": lambda m, begin: str(round(_epoch(m) * 1000) * 10**6),
    "excel": lambda m, begin: f"{(m - dt.datetime(1899, 12, 30)).total_seconds() / 86400:.8f}",
    "elapsed s": lambda m, begin: f"{(m - begin).total_seconds():.3f}",
    "elapsed h:m:s": lambda m, begin: str(m - begin),
    "time of day": "%H:%M:%S",
    "none": "",
}
"""Labels as `strftime` writes them, where MMM is milliseconds, or of a moment and the beginning."""
DATELESS = ("elapsed s", "elapsed h:m:s", "time of day", "none")
FINE = tuple(name for name in TIMES if "milliseconds" in name or name.startswith(("epoch", "elapsed s")))
"""Those that show tenths of a second."""


def label_of(time: str, moment: dt.datetime, begin: dt.datetime) -> str:
    """How a time is written. begin: of the recording."""
    form = TIMES[time]
    if isinstance(form, str):
        return moment.strftime(form).replace("MMM", f"{moment.microsecond // 1000:03}")
    return form(moment, begin)


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
        *("two", "two", "whole", "exponent", "plus"),
        *("unicode minus", "thousands", "thousands blank", "unit", "wide"),
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
    if a["time"] == "d.m.Y H:M":
        begin = begin.replace(second=0)
    if a["time"] == "time of day":
        begin = begin.replace(hour=0, minute=10)
        a["rows"] = min(a["rows"], int(80_000 / a["period_s"]))
        if a["rows"] < 12:
            return None
    if a["time"] == "none" or (a["time"] in DATELESS and a["order"] != "twice"):
        a["order"] = ""
    count, n = a["rows"], a["sensors"]
    values, cells, unit = _numbers(a, rng, count, n)
    steps = np.arange(count)
    if a["order"] == "gap":
        steps[count // 2 :] += 5000
    moments = [begin + dt.timedelta(seconds=float(s) * a["period_s"]) for s in steps]
    labels = [label_of(a["time"], m, begin) for m in moments]
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
    written: Callable[[float], str] = {
        "exponent": lambda x: f"{x:.6E}",
        "wide": lambda x: repr(float(np.float32(x))),
        "whole": lambda x: f"{x:.0f}",
    }.get(kind, lambda x: f"{x:.2f}")
    cells = [[written(x) for x in row] for row in values]
    values = np.array([[float(cell) for cell in row] for row in cells])
    unit = rng.choice([" °C", " bar", "rpm", " l/min", " %"]) if kind == "unit" else ""

    def dressed(cell: str) -> str:
        if kind == "plus" and not cell.startswith("-"):
            cell = f"+{cell}"
        if kind.startswith("thousands"):
            cell = f"{float(cell):,.2f}"
            if kind == "thousands blank":
                cell = cell.replace(",", " ")
        if a["decimal"] == ",":
            cell = cell.translate(str.maketrans(",.", ".,"))
        if kind == "unicode minus":
            cell = cell.replace("-", "\u2212")
        return cell + unit

    return values, [[dressed(cell) for cell in row] for row in cells], unit


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
    separator, timed = a["separator"], a["time"] != "none"
    needs = any(separator in cell for row in rows for cell in row)
    if separator == " " and (
        needs
        or any(" " in name for name in names)
        or a["missing"] == "Sensor fault"
        or a["extra"] == "empty"
        or a["header"] in ("units row", "two lines", "units in names")
        or a["index"] == "unnamed"
        or a["trailing"]
        or a["before"] in ("preamble", "sep")
        or a["after"] == "footer"
    ):
        return None
    if (a["header"] == "twice" and len(names) < 2) or (a["header"] == "none" and not timed and a["index"]):
        return None
    quoted = a["quoted"] or needs
    header = [f"{name} [bar]" for name in names] if a["header"] == "units in names" else list(names)
    sensors: tuple[str, ...] | None = tuple(header)
    if a["header"] == "twice":
        header[1] = header[0]
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
    lines = [*above, head, *rows]
    if a["header"] == "none":
        lines, sensors = rows, None
    if a["header"] == "again":
        lines.insert(len(lines) // 2, head)
    if a["trailing"]:
        bare = (head, *above) if a["trailing"] == "rows" and a["header"] != "none" else ()
        lines = [row if row in bare else [*row, ""] for row in lines]

    def dress(cell: str) -> str:
        return f'"{cell}"' if quoted else " " * (a["padded"] and separator not in "\t ") + cell

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
    odd = ("thousands", "thousands blank", "plus", "unicode minus")
    if unit or a["decimal"] == "," or a["numbers"] in odd or a["time"] == "none":
        return None

    def value(cell: str) -> Any:
        try:
            return float(cell)
        except ValueError:
            return cell if a["missing"] else None

    if form == "line protocol":
        if not a["time"].startswith("epoch ") or a["missing"] not in ("", "-9999"):
            return None
        scale = {"epoch s": 1e9, "epoch ms": 1e6, "epoch us": 1e3}.get(a["time"])
        moments = [round(float(row[0]) * scale) if scale else int(row[0]) for row in rows]
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
    said = [
        (("--time-format",), "start"),
        (("left out", "column"), "sensors"),
        (("no header",), ("sensors", "shape")),
        (("no row, left out",), "shape"),
        (("no header", "no timestamps"), ""),
        (("decimal comma",), ""),
        (("--resample",), ""),
    ]
    told = any(all(one in notes for one in words) and wrong.startswith(what) for words, what in said)
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
    one, other = (np.nan if at is None else at for at in (start, case.start))
    return "" if np.isclose(one, other, rtol=0, atol=0.01, equal_nan=True) else f"start {start} for {case.start}"


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
