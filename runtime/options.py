"""The options of `edgekd-run`, in the groups in which its help shows them. `edgekd-gateway` reads the same from a file.

An option stands in two places, both here: its click declaration in a group, and a field of `Options` under the name
that click gives it.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import click

from edgekd.runtime.duration import seconds_in
from edgekd.runtime.errors import UsageError

MOVED = (
    *("--mqtt", "--mqtt-password-file", "--mqtt-ca", "--mqtt-cert", "--mqtt-key", "--mqtt-client-id", "--publish"),
    *("--tcp", "--follow", "--give-up-after", "--idle-timeout", "--exec", "--exec-timeout", "--exec-retry"),
    *("--spool", "--spool-mb", "--events", "--events-mb", "--events-keep", "--metrics", "--reset-threshold"),
    *("--adapt", "--adapt-band", "--calibrate-for", "--calibrate-band", "--config", "--print-config", "--print-unit"),
)
"""What `edgekd-run` took up to 0.1.0 and `edgekd-gateway` takes, or replaces, now."""


class _Duration(click.ParamType):
    """A length of time such as 90s, 10min, 24h; in Python seconds."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if isinstance(value, (int, float)):
            return float(value)
        try:
            return seconds_in(value)
        except UsageError as error:
            self.fail(str(error), param, ctx)


DURATION = _Duration()


@dataclass(frozen=True)
class Options:
    """The value of every option that says how one stream runs; see its help."""

    model: str
    require_signed: str | None
    serial: str | None
    baud: int
    csv: str | None
    stdin: bool
    frames: str | None
    raw: str | None
    maps: tuple[str, ...]
    time: str | None
    sequence: str | None
    checksum: str | None
    resample: Literal["mean", "last"] | None
    threshold: float | None
    min_duration: float
    cooldown: float
    hysteresis: float
    state: str | None
    state_every: float
    state_samples: int
    scores: bool
    record: str | None
    give_up_after: float | None = None
    """Seconds; this and the next only a gateway sets."""
    idle_timeout: float | None = None


def option(*names: str, **about: Any) -> click.Option:
    """A click option on its own."""
    return click.Option(names, **about)


GROUPS: dict[str, list[click.Option]] = {
    "Model": [
        option("--model", required=True, type=click.Path(exists=True, dir_okay=False), help="File from edgekd export."),
        option("--require-signed", metavar="PUBLIC_KEY", help="Take no model but one signed with this key."),
    ],
    "Input, one of these": [
        option("--serial", metavar="DEV", help="Read lines from a serial port; it may come and go."),
        option("--csv", metavar="FILE", help="Read a CSV or JSON-lines file, then end."),
        option("--stdin", is_flag=True, help="Read lines from standard input until it ends."),
        option("--frames", metavar="DIR", help="Read the images of a folder (.npy, .pgm, .raw), then end."),
    ],
    "What the input is like": [
        option("--baud", default=115200, show_default=True, type=click.IntRange(50, 20_000_000), help="Of --serial."),
        option("--raw", metavar="RxC[:KIND]", help="With --stdin: images as raw bytes, 28x28 or 28x28:float32."),
        option("--map", "maps", metavar="NAME=COLUMN", multiple=True, help="Sensor NAME is COLUMN in the input."),
        option("--time", metavar="COLUMN", help="Column or JSON key of the time label; gaps in it are noticed."),
        option("--sequence", metavar="COLUMN[:N]", help="Column that counts samples, up to N - 1."),
        option("--checksum", type=click.Choice(["nmea"]), help="Lines end in * and the XOR of their bytes, in hex."),
        option("--resample", type=click.Choice(["mean", "last"]), help="Rows come at another rate than the model's."),
    ],
    "When to alarm": [
        option("--threshold", type=float, help="Use this threshold instead of the model's."),
        option("--min-duration", default="0s", type=DURATION, help="Tell an anomaly once it has lasted so long."),
        option("--cooldown", default="0s", type=DURATION, help="Tell no other for so long after one has ended."),
        option(
            "--hysteresis",
            metavar="FRACTION",
            default=1.0,
            type=click.FloatRange(0, 1),
            help="An anomaly ends when the score is no longer above this part of the threshold.",
        ),
    ],
    "What outlives a restart": [
        option("--state", type=click.Path(dir_okay=False), help="Save the state here and go on from it."),
        option("--state-every", default=60.0, show_default=True, type=click.FloatRange(0), help="Seconds, at most."),
        option("--state-samples", metavar="N", default=0, type=click.IntRange(0), help="Save every N samples, too."),
        option("--record", type=click.Path(dir_okay=False), help="Append what the sensors say to this CSV."),
    ],
    "Output": [
        option("--scores", is_flag=True, help="Also print every score, not only anomalies."),
    ],
}
"""Heading -> options."""


class GroupedCommand(click.Command):
    """A command whose help shows its options under headings, and that knows where an option has gone."""

    def __init__(
        self, name: str, groups: dict[str, list[click.Option]], params: Sequence[click.Parameter], **about: Any
    ) -> None:
        super().__init__(name, params=[*(option for group in groups.values() for option in group), *params], **about)
        self.groups = groups

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        moved = next((name for name in map(variable_of, MOVED) if os.environ.get(name)), None)
        try:
            left = super().parse_args(ctx, args)
        except click.UsageError as error:
            name = getattr(error, "option_name", None)
            moved = name if name in MOVED else moved
            if moved is None:
                raise
        if moved is not None:
            way_out = "edgekd-gateway init > gateway.toml begins a file for it"
            raise UsageError(f"{moved} belongs to edgekd-gateway now; {way_out}")
        return left

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        shown = {id(option) for group in self.groups.values() for option in group}
        rest = [param for param in self.get_params(ctx) if id(param) not in shown]
        sections: dict[str, Sequence[click.Parameter]] = {**self.groups, "Other": rest}
        for heading, group in sections.items():
            with formatter.section(heading):
                formatter.write_dl([record for option in group if (record := option.get_help_record(ctx))])


def variable_of(name: str) -> str:
    """The environment variable that an option could be given as."""
    return "EDGEKD_COMMAND" if name == "--exec" else f"EDGEKD_{name[2:].replace('-', '_').upper()}"
