"""`edgekd look`: what a file holds, before any training."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgekd.commands.options import format_option, json_option, table_options
from edgekd.runtime.errors import UsageError

if TYPE_CHECKING:
    from edgekd.data.reading import Reading


@click.command("look", short_help="Say what a file holds and how it was read.")
@click.argument("data")
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write what was read, .csv or .parquet: time, sensors, a row a sample, empty where a value is missing.",
)
@click.option(
    "--layout",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Write the layout here, as TOML; read by it where the file is there already.",
)
@format_option
@table_options
@json_option
def command(data: str, output: Path | None, layout: Path | None, as_json: bool, **reading: Any) -> None:
    """Say what DATA, a file of a logger, holds and how it was read.

    The layout is found: separator, decimal sign, encoding, header, time format, words for missing values. --layout
    FILE.toml writes it where there is no such file yet, and reads by it where there is one.

    \b
    Example:
        edgekd look plant.csv
        edgekd look plant.csv --layout plant.toml
        edgekd look plant.csv --missing -9999 --json -o clean.csv
    """
    from edgekd.data import look
    from edgekd.data.save import save_reading
    from edgekd.runtime.layout import Layout

    known = layout is not None and layout.exists()
    found = look(data, layout=Layout.from_toml(layout) if layout is not None and known else None, **reading)
    if layout is not None and not known:
        try:
            layout.write_text(found.layout.to_toml(), "utf-8")
        except OSError as error:
            raise UsageError(f"{layout}: cannot be written ({error.strerror}); choose another place") from None
    if output is not None:
        save_reading(found, output)
    if as_json:
        click.echo(json.dumps(_as_json(found), allow_nan=False))
        return
    click.echo(_line(found))
    for note in found.notes:
        click.echo(f"note: {note}", err=True)


def _as_json(reading: Reading) -> dict[str, Any]:
    return {
        "source": reading.source,
        "samples": len(reading.values),
        "sensors": [{"name": column.name, "unit": column.unit} for column in reading.columns],
        "period_s": reading.period_s,
        "start": float(reading.times_s[0]) if reading.dated and reading.times_s is not None else None,
        "even": reading.even,
        "gaps": [{"sample": gap.sample, "seconds": gap.seconds} for gap in reading.gaps],
        "entities": [{"name": name, "start": start} for name, start in zip(reading.entities, reading.starts)],
        "labeled": None if reading.labels is None else int(reading.labels.sum()),
        "left_out": reading.left_out,
        "layout": reading.layout.to_json(),
        "notes": reading.notes,
    }


def _line(reading: Reading) -> str:
    """What was found, in one line."""
    layout = reading.layout
    form = layout.form or "table"
    marks = {"\t": "tabs", " ": "blanks"}
    written = f"{form} of cells between {marks.get(layout.separator, layout.separator)}" if form == "table" else form
    time = "no time" if layout.time_format == "none" else f"time {layout.time_format} in {' and '.join(layout.time)}"
    count = f"{len(reading.values):,} samples of {len(reading.columns)} sensors, one each {reading.period_s:g} s"
    entities = f" in {len(reading.entities)} entities" if len(reading.entities) > 1 else ""
    return f"{reading.source}: {count}{entities}; {written}, decimal {layout.decimal or '.'}, {time}"
