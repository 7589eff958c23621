"""Options that several commands share, each spelled once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from edgekd.runtime.layout import Layout

Command = Callable[..., Any]


class _Words(click.ParamType):
    """A,B,C as a tuple; given several times, they add up."""

    name = "words"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, ...]:
        return value if isinstance(value, tuple) else tuple(word for part in value.split(",") if (word := part.strip()))


class _LayoutFile(click.ParamType):
    """A TOML file as the layout that it holds."""

    name = "file"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Layout:
        return value if isinstance(value, Layout) else Layout.from_toml(Path(value))


def _joined(ctx: click.Context, param: click.Parameter, given: tuple[tuple[str, ...], ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(word for words in given for word in words))


def _words(name: str, metavar: str, help: str) -> Callable[[Command], Command]:
    return click.option(name, metavar=metavar, multiple=True, type=_Words(), callback=_joined, help=help)


def table_options(command: Command) -> Command:
    """How DATA is to be read; the names are those of `edgekd.data.load`, so `**reading` goes straight there."""
    for option in (
        click.option("--period-s", type=float, help="Seconds between samples, where the recording does not tell."),
        click.option("--label-column", metavar="NAME", help='Label column of a table; "none" ignores labels.'),
        click.option(
            "--resample", metavar="RULE", help="Make samples of one period: mean, last, 60s (their mean), or last:60s."
        ),
        click.option("--group", metavar="NAME[=VALUE]", help="Column of machines: one of them, or each for itself."),
        click.option("--only", metavar="'NAME > 0'", multiple=True, help="Leave out rows where this does not hold."),
        _words("--difference", "NAME[:MODULUS]", "Sensors that count up: their steps are taken."),
        _words("--missing", "WORD", "Words and numbers that mean no value, such as -9999."),
        _words("--ignore", "NAMES", "Columns to leave out; * stands for anything."),
        _words("--sensors", "NAMES", "Columns to take, and no others; * stands for anything."),
        click.option("--timezone", metavar="ZONE", help="Of times that say none, such as Europe/Berlin."),
        click.option("--time-format", metavar="FORMAT", help="Of the times, such as '%d.%m.%Y %H:%M:%S'."),
        click.option("--time-column", metavar="NAME", help='Time column of a table; "none" ignores it.'),
    ):
        command = option(command)
    return command


def recording_options(command: Command) -> Command:
    """Like `data_options`, and its format, for commands that have no other --format."""
    return format_option(data_options(command))


def data_options(command: Command) -> Command:
    """Like `table_options`, and a layout to read by."""
    return layout_option(table_options(command))


layout_option = click.option(
    "--layout",
    type=_LayoutFile(),
    metavar="FILE",
    help="Read DATA by this layout, from `edgekd look DATA --layout FILE`.",
)
marks_option = click.option(
    "--marks",
    metavar="FILE[#STREAM]",
    help="What people said of a device's alarms: a CSV from the gateway's page, stream,start,end,mark,note.",
)
format_option = click.option("--format", metavar="NAME", help="Format of DATA, where it is not to be detected.")
json_option = click.option("--json", "as_json", is_flag=True, help="Print the result as JSON on stdout.")
