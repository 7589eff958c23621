"""Options that several commands share, each spelled once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

Command = Callable[..., Any]


def table_options(command: Command) -> Command:
    """How DATA is to be read; the names are those of `edgekd.data.load`, so `**reading` goes straight there."""
    for option in (
        click.option("--label-column", metavar="NAME", help='Label column of a table; "none" ignores labels.'),
        click.option("--time-column", metavar="NAME", help='Time column of a table; "none" ignores it.'),
        click.option("--period-s", type=float, help="Seconds between samples, where the recording does not tell."),
    ):
        command = option(command)
    return command


def recording_options(command: Command) -> Command:
    """Like `table_options`, and its format, for commands that have no other --format."""
    option = click.option("--format", metavar="NAME", help="Format of DATA, where it is not to be detected.")
    return option(table_options(command))


json_option = click.option("--json", "as_json", is_flag=True, help="Print the result as JSON on stdout.")
