"""`edgekd look`: what is read of a file, and what is wrong with it, before anything is trained."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from edgekd.commands.options import json_option, recording_options
from edgekd.outputs import PLOT, RECORDING, Output, data_path, protect

OWN = ("data", "output", "plot", "force", "as_json")
"""Parameters that are not about the reading."""


@click.command("look", short_help="Say what is read of a file, and what is wrong with it.")
@click.argument("data")
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write what was read, a row a sample (.csv, .parquet).",
)
@click.option(
    "--plot",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Draw each sensor over time, gaps shaded and what is wrong marked (.png, .svg, .pdf).",
)
@click.option("--force", is_flag=True, help="Let -o write over a recording.")
@recording_options
@json_option
@click.pass_context
def command(
    context: click.Context,
    data: str,
    output: Path | None,
    plot: Path | None,
    force: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Say what is read of DATA, before any training: how it is written, its times and gaps, its sensors and what is
    wrong with them, and the command to go on with.

    \b
    Example:
        edgekd look plant.csv
        edgekd look plant.csv --plot plant.png
        edgekd look logger.dat --missing -9999 -o clean.csv
    """
    from edgekd.data.formats import look
    from edgekd.data.looking import next_command, render, to_json
    from edgekd.data.suspects import suspects

    protect([("DATA", data_path(data))], [Output("-o", output, RECORDING), Output("--plot", plot, PLOT)], force)
    reading = look(data, **options)
    found = suspects(reading)
    following = next_command(data, _given(context), reading, found)
    if plot is not None:
        from edgekd.evaluation.sensor_plot import plot_sensors

        plot_sensors(plot, reading, found)
    if as_json:
        click.echo(json.dumps(to_json(reading, found, following), allow_nan=False))
        return
    from rich.console import Console

    Console(highlight=False).print(render(reading, found, following))


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
