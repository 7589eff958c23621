"""The options of `edgekd-run`, grouped by what they are about. Each group is one decorator; `Options` has the values.

An option stands in two places, both here: its click declaration in a group, and a field of `Options` under the name
that click gives it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import click
from click.core import ParameterSource

from edgekd.runtime.duration import seconds_in
from edgekd.runtime.errors import UsageError
from edgekd.runtime.gateway.config import config_callback, print_and_exit

Decorator = Callable[[Any], Any]
INPUTS = ("serial", "tcp", "csv", "stdin", "frames", "mqtt")
"""Options of which a run takes one."""
LINES = ("serial", "tcp", "csv", "stdin")
GOES_WITH = {
    "follow": ("csv",),
    "give_up_after": ("serial", "tcp", "csv"),
    "idle_timeout": ("serial", "tcp"),
    **dict.fromkeys(("sequence", "checksum"), LINES),
    **dict.fromkeys(("time", "resample"), (*LINES, "mqtt")),
}
"""Options that mean something with some inputs only."""
RELOADED = frozenset(
    ("threshold", "scores", "events", "events_mb", "events_keep", "publish", "command", "exec_timeout", "exec_retry")
)
"""Options that SIGHUP takes over; all others wait for the next start."""


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
    """The value of every option; see its help."""

    model: str
    require_signed: str | None
    check: bool
    as_json: bool
    # input
    serial: str | None
    baud: int
    tcp: str | None
    csv: str | None
    follow: bool
    stdin: bool
    frames: str | None
    raw: str | None
    maps: tuple[str, ...]
    time: str | None
    sequence: str | None
    checksum: str | None
    resample: Literal["mean", "last"] | None
    give_up_after: float | None
    idle_timeout: float | None
    mqtt: str | None
    mqtt_password_file: str | None
    mqtt_ca: str | None
    mqtt_cert: str | None
    mqtt_key: str | None
    mqtt_client_id: str | None
    # decision
    threshold: float | None
    min_duration: float
    cooldown: float
    hysteresis: float
    adapt: bool
    adapt_band: tuple[float, float]
    calibrate_for: float
    calibrate_band: tuple[float, float]
    reset_threshold: bool
    # state
    state: str | None
    state_every: float
    state_samples: int
    # sinks
    scores: bool
    record: str | None
    quiet: bool
    events: str | None
    events_mb: float
    events_keep: int
    publish: str | None
    command: str | None
    exec_timeout: float
    exec_retry: float
    spool: str | None
    spool_mb: float
    # service
    config: str | None
    metrics: str | None


def strongest_input(context: click.Context, given: dict[str, Any]) -> dict[str, Any]:
    """Where a flag gives an input and the config file another, the flag's alone; two of one strength are left."""
    order = [ParameterSource.COMMANDLINE, ParameterSource.ENVIRONMENT, ParameterSource.DEFAULT_MAP]
    sources = {name: context.get_parameter_source(name) for name in INPUTS if given[name]}
    strongest = next((source for source in order if source in sources.values()), None)
    weaker = [name for name, source in sources.items() if source != strongest]
    return given | {name: False if name == "stdin" else None for name in weaker}


def _group(*options: Decorator) -> Decorator:
    """One decorator of several, in the order in which help shows them."""

    def decorate(function: Any) -> Any:
        for option in reversed(options):
            function = option(function)
        return function

    return decorate


model_options = _group(
    click.option(
        "--model", required=True, type=click.Path(exists=True, dir_okay=False), help="File from edgekd export."
    ),
    click.option("--require-signed", metavar="PUBLIC_KEY", help="Take no model but one signed with this key."),
    click.option("--check", is_flag=True, help="Verify the model on this machine and end."),
    click.option("--json", "as_json", is_flag=True, help="With --check: a JSON report."),
)

input_options = _group(
    click.option("--serial", metavar="DEV", help="Read lines from a serial port; it may come and go."),
    click.option(
        "--baud", default=115200, show_default=True, type=click.IntRange(50, 20_000_000), help="With --serial."
    ),
    click.option("--tcp", metavar="HOST:PORT", help="Read lines from a TCP server; it may come and go."),
    click.option("--csv", metavar="FILE", help="Read a CSV or JSON-lines file, then end."),
    click.option("--follow", is_flag=True, help="With --csv: what is appended from now on, through rotations."),
    click.option("--stdin", is_flag=True, help="Read lines from standard input until it ends."),
    click.option("--frames", metavar="DIR", help="Read the images of a folder (.npy, .pgm, .raw), then end."),
    click.option("--raw", metavar="RxC[:KIND]", help="With --stdin: images as raw bytes, 28x28 or 28x28:float32."),
    click.option("--map", "maps", metavar="NAME=COLUMN", multiple=True, help="Sensor NAME is COLUMN in the input."),
    click.option("--time", metavar="COLUMN", help="Column or JSON key of the time label; gaps in it are noticed."),
    click.option(
        "--sequence", metavar="COLUMN[:N]", help="Column that counts samples, to N - 1: tells gaps and duplicates."
    ),
    click.option("--checksum", type=click.Choice(["nmea"]), help="Lines end in * and the XOR of their bytes, in hex."),
    click.option(
        "--resample", type=click.Choice(["mean", "last"]), help="Rows come at another rate than the model's period."
    ),
    click.option("--give-up-after", type=DURATION, help="Exit with 4 if the input has been gone for so long."),
    click.option("--idle-timeout", type=DURATION, help="Open a port or connection again that is silent for so long."),
    click.option(
        "--mqtt",
        metavar="URL",
        help="Subscribe to mqtt[s]://[user@]host[:port]/topic; its password comes from EDGEKD_MQTT_PASSWORD.",
    ),
    click.option("--mqtt-password-file", metavar="FILE", help="A file with the broker's password."),
    click.option("--mqtt-ca", metavar="FILE", help="Trust a broker (mqtts://) by these certificates (PEM)."),
    click.option("--mqtt-cert", metavar="FILE", help="This client's own certificate (PEM)."),
    click.option("--mqtt-key", metavar="FILE", help="The key of --mqtt-cert (PEM)."),
    click.option("--mqtt-client-id", metavar="NAME", help="What the broker knows this run by; by default its own."),
)

decision_options = _group(
    click.option("--threshold", type=float, help="Use this threshold instead of the model's."),
    click.option("--min-duration", default="0s", type=DURATION, help="Tell an anomaly once it has lasted so long."),
    click.option("--cooldown", default="0s", type=DURATION, help="Tell no other for so long after one has ended."),
    click.option(
        "--hysteresis",
        metavar="FRACTION",
        default=1.0,
        type=click.FloatRange(0, 1),
        help="An anomaly ends when the score is no longer above this part of the threshold.",
    ),
    click.option("--adapt", is_flag=True, help="Let the threshold follow slow drift, day by day."),
    click.option(
        "--adapt-band",
        metavar="LOW HIGH",
        nargs=2,
        default=(0.5, 2.0),
        show_default=True,
        type=click.FloatRange(0, 100, min_open=True),
        help="With --adapt: bounds, as factors of the threshold that was set.",
    ),
    click.option(
        "--calibrate-for",
        metavar="DURATION",
        default="0s",
        type=DURATION,
        help="Set this site's threshold from its first scores, say 24h; kept in --state.",
    ),
    click.option(
        "--calibrate-band",
        metavar="LOW HIGH",
        nargs=2,
        default=(0.5, 10.0),
        show_default=True,
        type=click.FloatRange(0, 100, min_open=True),
        help="With --calibrate-for: bounds, as factors of the model's threshold; 1 10 only ever raises it.",
    ),
    click.option("--reset-threshold", is_flag=True, help="Forget what --calibrate-for and --adapt have learned."),
)

state_options = _group(
    click.option("--state", type=click.Path(dir_okay=False), help="Save the detector's state here and resume from it."),
    click.option(
        "--state-every", default=60.0, show_default=True, type=click.FloatRange(0), help="Seconds between saves."
    ),
    click.option(
        "--state-samples", metavar="N", default=0, type=click.IntRange(0), help="Save at least every N samples, too."
    ),
)

sink_options = _group(
    click.option("--scores", is_flag=True, help="Also print every score, not only anomalies."),
    click.option("--record", type=click.Path(dir_okay=False), help="Append what the sensors say to this CSV."),
    click.option("--quiet", is_flag=True, help="No words on standard error but errors."),
    click.option("--events", metavar="FILE", type=click.Path(dir_okay=False), help="Append every event to this file."),
    click.option(
        "--events-mb",
        default=10.0,
        show_default=True,
        type=click.FloatRange(0.01, 100_000),
        help="Rotate --events when it is so large.",
    ),
    click.option(
        "--events-keep", default=5, show_default=True, type=click.IntRange(0, 1000), help="Files to keep beside it."
    ),
    click.option(
        "--publish",
        metavar="TOPIC|URL",
        help="Publish events to a topic of the --mqtt broker, or of mqtt[s]://…/topic.",
    ),
    click.option(
        "--exec", "command", metavar="COMMAND", help="Run this for each event, as JSON on its standard input; no shell."
    ),
    click.option(
        "--exec-timeout",
        default=30.0,
        show_default=True,
        type=click.FloatRange(0.1, 3600),
        help="Seconds that a command of --exec may take.",
    ),
    click.option(
        "--exec-retry",
        metavar="DURATION",
        default="10min",
        show_default=True,
        type=DURATION,
        help="How long one that fails is run again with an event; then this event is given up.",
    ),
    click.option("--spool", metavar="DIR", help="Keep events that are not delivered here; by default STATE.spool."),
    click.option(
        "--spool-mb",
        default=8.0,
        show_default=True,
        type=click.FloatRange(1, 100_000),
        help="Largest size of it; then the oldest events are dropped.",
    ),
)

service_options = _group(
    click.option(
        "--config",
        metavar="FILE",
        is_eager=True,
        callback=config_callback,
        help="Take options from this TOML file; variables and flags are stronger.",
    ),
    click.option(
        "--metrics",
        metavar="[HOST]:PORT",
        help="Serve Prometheus metrics; for this machine alone unless an address is given.",
    ),
    click.option(
        "--print-config",
        is_flag=True,
        is_eager=True,
        expose_value=False,
        callback=print_and_exit("example.toml"),
        help="Print a config file with every option and end.",
    ),
    click.option(
        "--print-unit",
        is_flag=True,
        is_eager=True,
        expose_value=False,
        callback=print_and_exit("edgekd.service"),
        help="Print a systemd unit and end.",
    ),
)
