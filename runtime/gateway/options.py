"""The keys of the gateway's file, as click options that declare, convert and document them.

A key stands in two places, both here: its click declaration, and a field under the name that click gives it.
"""

from __future__ import annotations

import os
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgekd.runtime.errors import UsageError
from edgekd.runtime.json_fields import shown
from edgekd.runtime.options import DURATION, GROUPS, Options, option

if TYPE_CHECKING:
    from edgekd.runtime.gateway.mqtt.connection import Secrets

INPUTS = {
    "serial": '= "DEVICE"',
    "tcp": '= "HOST:PORT"',
    "csv": '= "FILE"',
    "mqtt": '= "URL"',
    "stdin": "= true",
    "frames": '= "FOLDER"',
}
LINES = ("serial", "tcp", "csv", "stdin")
GOES_WITH = {
    "follow": ("csv",),
    "raw": ("stdin",),
    "give_up_after": ("serial", "tcp", "csv"),
    "idle_timeout": ("serial", "tcp"),
    **dict.fromkeys(("sequence", "checksum"), LINES),
    **dict.fromkeys(("time", "resample"), (*LINES, "mqtt")),
}
"""Keys that mean something with some inputs only."""


@dataclass(frozen=True, kw_only=True)
class StreamOptions(Options):
    """The keys of one `[[stream]]` table; see their help."""

    name: str | None
    tcp: str | None
    follow: bool
    mqtt: str | None
    adapt: bool
    adapt_band: tuple[float, float]
    calibrate_for: float
    calibrate_band: tuple[float, float]


@dataclass(frozen=True)
class GatewayOptions:
    """The keys at the top of the file, and its streams."""

    publish: str | None
    command: str | None
    exec_timeout: float
    exec_retry: float
    outbox: str | None
    outbox_mb: float
    metrics: str | None
    quiet: bool
    mqtt_password_file: str | None
    mqtt_ca: str | None
    mqtt_cert: str | None
    mqtt_key: str | None
    mqtt_client_id: str | None
    streams: tuple[StreamOptions, ...]

    @property
    def secrets(self) -> Secrets:
        """What a connection to a broker needs beside its URL."""
        from edgekd.runtime.gateway.mqtt.connection import Secrets

        password = credential("mqtt-password", self.mqtt_password_file)
        key = credential("mqtt-key", self.mqtt_key)
        return Secrets(password, self.mqtt_ca, self.mqtt_cert, key, self.mqtt_client_id)


def credential(name: str, file: str | None) -> str | None:
    """Where systemd has put what only root may read (the unit's LoadCredential=NAME:FILE); else the file itself."""
    given = Path(os.environ.get("CREDENTIALS_DIRECTORY", ""), name)
    return str(given) if given.is_absolute() and given.exists() else file


def _band(name: str, default: tuple[float, float], help: str) -> click.Option:
    bounds = click.FloatRange(0, 100, min_open=True)
    return option(name, metavar="LOW HIGH", nargs=2, default=default, type=bounds, help=help)


STREAM = [
    # the file may be written where the model is not, so whoever loads the model says that it is missing
    option("--model", required=True, help="File from edgekd export."),
    *(known for group in GROUPS.values() for known in group if known.name != "model"),
    option("--name", help="What messages call this stream."),
    option("--tcp", metavar="HOST:PORT", help="Read lines from a TCP server; it may come and go."),
    option("--follow", is_flag=True, help="With csv: what is appended from now on, through rotations."),
    option("--mqtt", metavar="URL", help="Subscribe to mqtt[s]://[user@]host[:port]/topic."),
    option("--give-up-after", type=DURATION, help="Exit with 4 if the input has been gone for so long."),
    option("--idle-timeout", type=DURATION, help="Open a port or connection again that is silent for so long."),
    option("--adapt", is_flag=True, help="Let the threshold follow slow drift, day by day."),
    _band("--adapt-band", (0.5, 2.0), "With adapt: bounds, as factors of the threshold that was set."),
    option("--calibrate-for", default="0s", type=DURATION, help="Set the threshold from the first scores, say 24h."),
    _band("--calibrate-band", (0.5, 10.0), "With calibrate-for: bounds, as factors of the model's threshold."),
]
GATEWAY = [
    option("--publish", metavar="TOPIC|URL", help="Publish events to a topic of the mqtt broker, or of another one."),
    option("--exec", "command", metavar="COMMAND", help="Run this for each event, as JSON on its standard input."),
    option("--exec-timeout", default=30.0, type=click.FloatRange(0.1, 3600), help="Seconds that it may take."),
    option("--exec-retry", default="10min", type=DURATION, help="How long to try an event again."),
    option("--outbox", metavar="DIR", help="Keep events that are not delivered yet here; by default STATE.outbox."),
    option("--outbox-mb", default=8.0, type=click.FloatRange(1, 100_000), help="Then the oldest are dropped."),
    option("--metrics", metavar="[HOST]:PORT", help="Serve Prometheus metrics; by default to this machine alone."),
    option("--quiet", is_flag=True, help="No words on standard error but errors."),
    option("--mqtt-password-file", metavar="FILE", help="A file with the broker's password."),
    option("--mqtt-ca", metavar="FILE", help="Trust a broker (mqtts://) by these certificates (PEM)."),
    option("--mqtt-cert", metavar="FILE", help="This client's own certificate (PEM)."),
    option("--mqtt-key", metavar="FILE", help="The key of mqtt-cert (PEM)."),
    option("--mqtt-client-id", metavar="NAME", help="What the broker knows this gateway by; by default its own."),
]


def key_of(declared: click.Parameter) -> str:
    """`--state-every` -> state-every."""
    return max(declared.opts, key=len).removeprefix("--")


def stream_named(name: object) -> str:
    """How a message about a stream begins."""
    return f"stream '{shown(name, 60)}': " if name and isinstance(name, str) else ""


def check(options: GatewayOptions) -> None:
    """Raise UsageError for keys that do not go together."""
    try:
        if not shlex.split(options.command or "true"):
            raise ValueError("it is empty")
    except ValueError as error:
        raise UsageError(f"exec {shown(options.command, 100)}: {error}") from None
    for stream in options.streams:
        try:
            _check_stream(stream)
        except UsageError as error:
            raise UsageError(f"{stream_named(stream.name)}{error}") from None


def _check_stream(options: StreamOptions) -> None:
    from edgekd.runtime import assembly

    try:
        assembly.check(options, INPUTS, GOES_WITH)
    except UsageError as error:
        raise UsageError(str(error).replace("--", "")) from None  # these are keys, not flags
    for name, (low, high) in (("adapt", options.adapt_band), ("calibrate", options.calibrate_band)):
        if not low <= 1 <= high:
            raise UsageError(f"{name}-band: give a factor up to 1 and one from 1 on, as in [0.5, 2.0]")
    if options.calibrate_for and options.threshold is not None:
        raise UsageError("threshold sets it by hand, calibrate-for by this site's scores; leave out one")
    if options.calibrate_for and not options.state:
        raise UsageError("calibrate-for needs state, which is where the threshold is kept")
    if (options.frames or options.raw) and (options.adapt or options.calibrate_for):
        raise UsageError("adapt and calibrate-for go with a series; images are judged one by one")
