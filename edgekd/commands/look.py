"""`edgekd look`: what a file holds and what is wrong with it, before anything is trained."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from edgekd.commands.files import File, check_files, data_path
from edgekd.commands.options import format_option, json_option, table_options
from edgekd.file_kinds import MISSING, PLOT, RECORDING
from edgekd.runtime.errors import UsageError

OWN = ("data", "output", "layout", "plot", "force", "as_json")
"""Parameters that other commands do not take."""
_FILE = click.Path(dir_okay=False, path_type=Path)


@click.command("look", short_help="Say what a file holds, and what is wrong with it.")
@click.argument("data")
@click.option(
    "-o",
    "--output",
    type=_FILE,
    help="Write what was read, .csv or .parquet: time, sensors, a row a sample, empty where a value is missing.",
)
@click.option(
    "--layout",
    type=_FILE,
    metavar="FILE",
    help="Write the layout here, as TOML; read by it where the file is there already.",
)
@click.option(
    "--plot",
    type=_FILE,
    help="Draw each sensor over time, gaps shaded and what is wrong marked (.png, .svg, .pdf).",
)
@click.option("--force", is_flag=True, help="Let -o write over a recording.")
@format_option
@table_options
@json_option
@click.pass_context
def command(
    context: click.Context, data: str, output: Path | None, layout: Path | None, plot: Path | None, force: bool,
    as_json: bool, **reading: Any,
) -> None:  # fmt: skip
    """Say what DATA, a file of a logger, holds: how it is written, its times and gaps, its sensors and what is wrong
    with them, and the command to go on with.

    The layout is found: separator, decimal sign, encoding, header, time format, words for missing values. --layout
    FILE.toml writes it where there is no such file yet, and reads by it where there is one.

    \b
    Example:
        edgekd look plant.csv --plot plant.png
        edgekd look plant.csv --layout plant.toml
        edgekd look plant.csv --json -o clean.csv
    """
    known = layout is not None and layout.exists()
    check_files(
        [File("DATA", data_path(data), (RECORDING,)), File("--layout", layout if known else None)],
        [
            File("-o", output, (RECORDING,)), File("--plot", plot, (PLOT,)),
            File("--layout", None if known else layout, (MISSING,)),
        ],
        force,
    )  # fmt: skip
    from edgekd.data import look
    from edgekd.data.looking import next_command, render, to_json
    from edgekd.data.save import save_reading, toml_of
    from edgekd.data.suspects import suspects
    from edgekd.runtime.layout import Layout

    found = look(data, layout=Layout.from_toml(layout) if layout is not None and known else None, **reading)
    if layout is not None and not known:
        try:
            layout.write_text(toml_of(found.layout), "utf-8")
        except OSError as error:
            raise UsageError(f"{layout}: cannot be written ({error.strerror}); choose another place") from None
    wrong = suspects(found)
    given = _given(context) + ([f"--layout {shlex.quote(str(layout))}"] if known else [])
    following = next_command(data, given, found, wrong)
    if output is not None:
        save_reading(found, output)
    if plot is not None:
        from edgekd.evaluation.sensor_plot import plot_sensors

        plot_sensors(plot, found, wrong)
    if as_json:
        click.echo(json.dumps(to_json(found, wrong, following), allow_nan=False))
        return
    from rich.console import Console

    Console(highlight=False).print(render(found, wrong, following))


def _given(context: click.Context) -> list[str]:
    """The options about the reading, as words of a command line again."""
    words = []
    for option in context.command.params:
        name = option.name or ""
        if name in OWN or context.get_parameter_source(name) != ParameterSource.COMMANDLINE:
            continue
        value = context.params[name]
        for each in value if isinstance(value, tuple) else (value,):
            words.append(shlex.join((option.opts[-1], f"{each:g}" if isinstance(each, float) else str(each))))
    return words
