"""The options of `edgekd-run`, each a field of `Options`; `edgekd-gateway` reads the same from a file."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any, Literal

import click

from edgekd.runtime.duration import seconds_in
from edgekd.runtime.errors import UsageError
from edgekd.runtime.layout import RULES


class _Duration(click.ParamType):
    """A length of time such as 90s, 10min, 24h; in Python seconds."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        try:
            return seconds_in(value)
        except UsageError as error:
            self.fail(str(error), param, ctx)


DURATION, NMEA, RULE = _Duration(), click.Choice(["nmea"]), click.Choice(RULES[1:])


def declare(group: str, help: str, *names: str, **about: Any) -> Any:
    """A field that is a click option, shown under the heading `group`; names: where they do not follow from its own."""
    return field(metadata={"group": group, "names": names, "about": {**about, "help": help}})


def declared(options: type) -> list[click.Option]:
    """The click options that a class of such fields declares."""
    return [
        click.Option(
            [*(one.metadata["names"] or [f"--{one.name.replace('_', '-')}"]), one.name], **one.metadata["about"]
        )
        for one in fields(options)
        if one.metadata
    ]


MODEL, SOURCE, LINES, ALARM = "Model", "Input, one of these", "What the input is like", "When to alarm"
MEMORY, OUTPUT = "What outlives a restart", "Output"


@dataclass(frozen=True, kw_only=True)
class Options:
    """How one stream runs."""

    model: str = declare(MODEL, "File from edgekd export.", required=True, type=click.Path(exists=True, dir_okay=False))
    require_signed: str | None = declare(MODEL, "Take no model but one signed with this key.", metavar="PUBLIC_KEY")
    serial: str | None = declare(SOURCE, "Read lines from a serial port; it may come and go.", metavar="DEV")
    csv: str | None = declare(SOURCE, "Read a CSV or JSON-lines file, then end.", metavar="FILE")
    stdin: bool = declare(SOURCE, "Read lines from standard input until it ends.", is_flag=True)
    frames: str | None = declare(SOURCE, "Read the images of a folder (.npy, .pgm, .raw), then end.", metavar="DIR")
    baud: int = declare(LINES, "Of --serial.", default=115200, show_default=True, type=click.IntRange(50, 20_000_000))
    raw: str | None = declare(LINES, "With --stdin: images as raw bytes, 28x28 or 28x28:float32.", metavar="RxC[:KIND]")
    maps: tuple[str, ...] = declare(LINES, "Sensor NAME is that COLUMN.", "--map", metavar="NAME=COLUMN", multiple=True)
    layout: str | None = declare(LINES, "How it is written, from edgekd look; else as the training's.", metavar="FILE")
    time: str | None = declare(LINES, "Column or JSON key of the time label; gaps in it are noticed.", metavar="COLUMN")
    sequence: str | None = declare(LINES, "Column that counts samples, up to N - 1.", metavar="COLUMN[:N]")
    checksum: str | None = declare(LINES, "Lines end in * and the XOR of their bytes, in hex.", type=NMEA)
    resample: Literal["mean", "last"] | None = declare(LINES, "Rows come at another rate than the model's.", type=RULE)
    threshold: float | None = declare(ALARM, "Use this threshold instead of the model's.", type=float)
    false_alarms_per_day: float | None = declare(ALARM, "Use the model's for N a day.", type=float, metavar="N")
    min_duration: float = declare(ALARM, "Tell an anomaly once it has lasted so long.", default="0s", type=DURATION)
    cooldown: float | None = declare(ALARM, "Tell none for so long after one.  [default: 6 hops]", type=DURATION)
    hysteresis: float = declare(
        ALARM, "An anomaly ends at this part of the threshold.", default=1.0, type=click.FloatRange(0, 1)
    )
    state: str | None = declare(MEMORY, "Save the state here and go on from it.", type=click.Path(dir_okay=False))
    state_every: float = declare(MEMORY, "Seconds, at most.", default=60.0, show_default=True, type=click.FloatRange(0))
    record: str | None = declare(MEMORY, "Append what the sensors say to this CSV.", type=click.Path(dir_okay=False))
    scores: bool = declare(OUTPUT, "Also print every score, not only anomalies.", is_flag=True)


class GroupedCommand(click.Command):
    """A command whose help shows the options of a run under their headings."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        headings = {one.name: one.metadata["group"] for one in fields(Options) if one.metadata}
        sections: dict[str, list[tuple[str, str]]] = {}
        for param in self.get_params(ctx):
            if record := param.get_help_record(ctx):
                sections.setdefault(headings.get(param.name or "", "Other"), []).append(record)
        for heading, records in sections.items():
            with formatter.section(heading):
                formatter.write_dl(records)
