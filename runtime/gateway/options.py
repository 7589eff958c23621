"""The keys of the gateway's file, as click options that declare, convert and document them."""

from __future__ import annotations

import os
import shlex
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgekd.runtime.errors import UsageError
from edgekd.runtime.files import identity
from edgekd.runtime.gateway.secret import credential
from edgekd.runtime.json_fields import shown
from edgekd.runtime.options import DURATION, MODEL, Options, declare, declared

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
STREAM, GATEWAY = "Stream", "Gateway"
GOES_WITH = {
    "follow": ("csv",),
    "each": ("mqtt",),
    "raw": ("stdin",),
    "give_up_after": ("serial", "tcp", "csv"),
    "idle_timeout": ("serial", "tcp"),
    **dict.fromkeys(("sequence", "checksum"), LINES),
    **dict.fromkeys(("layout", "time", "resample"), (*LINES, "mqtt")),
}
"""Keys that mean something with some inputs only."""


def _band(default: tuple[float, float], help: str) -> Any:
    bounds = click.FloatRange(0, 100, min_open=True)
    return declare(STREAM, help, metavar="LOW HIGH", nargs=2, default=default, type=bounds)


@dataclass(frozen=True, kw_only=True)
class StreamOptions(Options):
    """The keys of one `[[stream]]` table."""

    # the file may be written where the model is not, so whoever loads the model says that it is missing
    model: str = declare(MODEL, "File from edgekd export.", required=True)
    name: str | None = declare(STREAM, "What messages call this stream.")
    tcp: str | None = declare(STREAM, "Read lines from a TCP server; it may come and go.", metavar="HOST:PORT")
    follow: bool = declare(STREAM, "With csv: what is appended from now on, through rotations.", is_flag=True)
    mqtt: str | None = declare(STREAM, "Subscribe to mqtt[s]://[user@]host[:port]/topic.", metavar="URL")
    each: bool = declare(STREAM, "With mqtt: a stream for each name that stands at the first +.", is_flag=True)
    most: int = declare(STREAM, "So many streams at most.", default=100, type=click.IntRange(1, 10_000))
    give_up_after: float | None = declare(STREAM, "Exit with 4 if the input has been gone for so long.", type=DURATION)
    idle_timeout: float | None = declare(
        STREAM, "Open a port or connection again that is silent for so long.", type=DURATION
    )
    adapt: bool = declare(STREAM, "Let the threshold follow slow drift, day by day.", is_flag=True)
    adapt_band: tuple[float, float] = _band((0.5, 2.0), "Bounds, as factors of the threshold that was set.")
    calibrate_for: float = declare(
        STREAM, "Set the threshold from the first scores, say 24h.", default="0s", type=DURATION
    )
    calibrate_band: tuple[float, float] = _band((0.5, 10.0), "Bounds, as factors of the model's threshold.")
    shadow_for: float = declare(STREAM, "A new model runs beside the old one first.", default="1h", type=DURATION)
    probation_for: float = declare(STREAM, "Then the old one beside the new one.", default="1h", type=DURATION)
    alarm_factor: float = declare(
        STREAM, "A new model that alarms so many times as often does not do.", default=3.0, type=click.FloatRange(1)
    )

    @property
    def ends(self) -> bool:
        """Whether the input has an end."""
        return bool(self.frames or (self.csv and not self.follow))


@dataclass(frozen=True, kw_only=True)
class GatewayOptions:
    """The keys at the top of the file, and its streams."""

    publish: str | None = declare(
        GATEWAY, "Publish events to a topic of the mqtt broker, or of another one.", metavar="TOPIC|URL"
    )
    receipts: str | None = declare(
        GATEWAY, "Send an event to publish again until its id comes on this topic.", metavar="TOPIC"
    )
    command: str | None = declare(
        GATEWAY, "Run this for each event, as JSON on its standard input.", "--exec", metavar="COMMAND"
    )
    exec_timeout: float = declare(GATEWAY, "Seconds that it may take.", default=30.0, type=click.FloatRange(0.1, 3600))
    exec_retry: float = declare(GATEWAY, "How long to try an event again.", default="10min", type=DURATION)
    outbox: str | None = declare(
        GATEWAY, "Keep events that are not delivered yet here; by default STATE.outbox.", metavar="DIR"
    )
    outbox_mb: float = declare(GATEWAY, "Then the oldest are dropped.", default=8.0, type=click.FloatRange(1, 100_000))
    heartbeat: float = declare(
        GATEWAY, "Tell how the run is doing so often, also in TOPIC/status; 0s: never.", default="5min", type=DURATION
    )
    control: str | None = declare(
        GATEWAY, "Take models from TOPIC/model, spans without alarms from TOPIC/mute.", metavar="TOPIC|URL"
    )
    metrics: str | None = declare(
        GATEWAY, "Serve Prometheus metrics; by default to this machine alone.", metavar="[HOST]:PORT"
    )
    page: str | None = declare(
        GATEWAY, "Serve a page for people; by default to this machine alone.", metavar="[HOST]:PORT"
    )
    page_token_file: str | None = declare(GATEWAY, "A file with what the page asks for first.", metavar="FILE")
    history: str | None = declare(
        GATEWAY, "Keep what the page shows here; by default STATE.history.", type=click.Path(dir_okay=False)
    )
    quiet: bool = declare(GATEWAY, "No words on standard error but errors.", is_flag=True)
    mqtt_password_file: str | None = declare(GATEWAY, "A file with the broker's password.", metavar="FILE")
    mqtt_ca: str | None = declare(GATEWAY, "Trust a broker (mqtts://) by these certificates (PEM).", metavar="FILE")
    mqtt_cert: str | None = declare(GATEWAY, "This client's own certificate (PEM).", metavar="FILE")
    mqtt_key: str | None = declare(GATEWAY, "The key of mqtt-cert (PEM).", metavar="FILE")
    mqtt_client_id: str | None = declare(
        GATEWAY, "What the broker knows this gateway by; by default its own.", metavar="NAME"
    )
    streams: tuple[StreamOptions, ...]

    @property
    def several(self) -> bool:
        """Whether there may be more streams than one."""
        return len(self.streams) > 1 or any(stream.each for stream in self.streams)

    @property
    def inputs(self) -> tuple[str | None, ...]:
        """The MQTT URLs of the streams, on whose brokers topics may be."""
        return tuple(stream.mqtt for stream in self.streams)

    @property
    def secrets(self) -> Secrets:
        """What a connection to a broker needs beside its URL."""
        from edgekd.runtime.gateway.mqtt.connection import Secrets

        password = credential("mqtt-password", self.mqtt_password_file)
        key = credential("mqtt-key", self.mqtt_key)
        return Secrets(password, self.mqtt_ca, self.mqtt_cert, key, self.mqtt_client_id)


def at_broker(options: GatewayOptions, stream: StreamOptions) -> tuple[Secrets, str]:
    """What a stream's connection needs beside its URL, and what it is known by; of several, each by something else."""
    secrets, place = options.secrets, place_of(stream)
    if (name := name_of(stream)) == name_of(options.streams[0]):  # as it is where there is no other
        return secrets, place
    client_id = f"{secrets.client_id}-{name}" if secrets.client_id else None
    return replace(secrets, client_id=client_id), place if stream.state else f"{place}\0{name}"


def name_of(stream: StreamOptions) -> str:
    """What it is called where there are several."""
    return stream.name or Path(stream.state or stream.model).stem


def place_of(stream: StreamOptions) -> str:
    """What tells this stream from another one of this machine, the same at every start."""
    return str(Path(stream.state or stream.model).absolute())


def history_of(options: GatewayOptions) -> str | None:
    """Where the page keeps what it shows."""
    beside = options.streams[0].state
    return options.history or (f"{beside}.history" if beside else None)


def keys_of(options: type) -> dict[str, click.Option]:
    """Key of the file -> the click option that declares it."""
    return {key_of(option): option for option in declared(options)}


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
        raise UsageError(f"exec: {error}") from None  # what was given may hold a password
    if options.receipts:
        _check_receipts(options.receipts, options.publish)
    if options.several:
        _check_several(options)
    if options.page:
        _check_page(options)
    for stream in options.streams:
        try:
            _check_stream(stream)
        except UsageError as error:
            raise UsageError(f"{stream_named(stream.name)}{error}") from None
        if options.control and not stream.state:
            raise UsageError(f"{stream_named(stream.name)}control needs state, beside which models and mutes are kept")
        folder = Path(options.outbox or f"{stream.state}.outbox")
        outbox = identity(folder)
        for key in ("model", "csv", "frames", "state", "record"):
            if (path := getattr(stream, key)) and identity(path) == outbox:
                raise UsageError(f"the outbox would be what {key} names; give it a folder of its own")
        if os.path.exists(folder) and not os.path.isdir(folder):  # noqa: PTH110, PTH112 - neither raises
            raise UsageError(f"outbox {shown(str(folder), 300)}: is no folder; give another name")


def _check_several(options: GatewayOptions) -> None:
    """What streams may not share, and what has no one state to lie beside."""
    if (options.publish or options.command) and not options.outbox:
        raise UsageError("of several streams, events lie beside none; name a folder for them with outbox")
    if options.page and not options.history:
        raise UsageError("of several streams, what the page shows lies beside none; name a file for it with history")
    if sum(stream.stdin for stream in options.streams) > 1:
        raise UsageError("standard input can be read by one stream only; give the others another input")
    names: set[str] = set()
    taken: dict[object, str] = {}  # what streams before have
    for stream in options.streams:
        name = name_of(stream)
        if name in names:
            raise UsageError(f"two streams are called '{shown(name, 60)}'; give each a name of its own with name")
        if options.control and set(name) & set("/+#"):
            raise UsageError(f"{stream_named(name)}has a topic of its own below control; name it without / + #")
        names.add(name)
        lock = f"{stream.state}.lock" if stream.state else None
        paths = {"state": stream.state, "lock": lock, "record": stream.record}
        reads = {"model": stream.model, "csv": stream.csv, "serial": stream.serial}
        own = {identity(path): (key, key in paths) for key, path in {**reads, **paths}.items() if path}
        for file, (key, written) in own.items():
            if file in taken and (written or taken[file] not in ("model", "csv")):
                raise UsageError(
                    f"{stream_named(name)}{key} names what is another stream's {taken[file]}; give another"
                )
        taken |= {file: key for file, (key, _) in own.items()}


def _check_page(options: GatewayOptions) -> None:
    from edgekd.runtime.gateway.http_server import parse_address

    parse_address("page", options.page or "")
    path = history_of(options)
    if path is None:
        raise UsageError("page needs history, a file for what it shows, or state, beside which that is kept then")
    for stream in options.streams:
        for key in ("model", "csv", "frames", "serial", "state", "record", "layout", "require_signed"):
            if (other := getattr(stream, key)) and identity(other) == identity(path):
                raise UsageError(f"history would be what {key.replace('_', '-')} names; give it a file of its own")
    if options.history:
        from edgekd.runtime.gateway.page.history import require_history

        require_history(path)


def _check_receipts(topic: str, publish: str | None) -> None:
    from edgekd.runtime.gateway.mqtt.connection import check_topic, parse_url

    check_topic(topic, "receipts", filter=False)
    if topic == (parse_url(publish, "publish").topic if publish and "://" in publish else publish):
        raise UsageError("receipts is the topic of publish, where every event would confirm itself; give another one")


def _check_each(options: StreamOptions) -> None:
    from edgekd.runtime.gateway.mqtt.connection import parse_url

    if "+" not in parse_url(options.mqtt or "", "mqtt").topic.split("/"):
        raise UsageError("each makes a stream of each name at the first + of the topic of mqtt, which has none")
    for key in ("name", "state", "record"):
        if (text := getattr(options, key)) and "{}" not in Path(text).name:
            raise UsageError(f"with each, every stream has a {key} of its own; write {{}} where its name is to stand")


def _check_stream(options: StreamOptions) -> None:
    from edgekd.runtime import assembly

    try:
        assembly.check(options, INPUTS, GOES_WITH)
    except UsageError as error:
        raise UsageError(str(error).replace("--", "")) from None  # these are keys, not flags
    for name, (low, high) in (("adapt", options.adapt_band), ("calibrate", options.calibrate_band)):
        if not low <= 1 <= high:
            raise UsageError(f"{name}-band: give a factor up to 1 and one from 1 on, as in [0.5, 2.0]")
    if options.each:
        _check_each(options)
    if options.calibrate_for and options.threshold is not None:
        raise UsageError("threshold sets it by hand, calibrate-for by this site's scores; leave out one")
    if options.calibrate_for and not options.state:
        raise UsageError("calibrate-for needs state, which is where the threshold is kept")
    if (options.frames or options.raw) and (options.adapt or options.calibrate_for):
        raise UsageError("adapt and calibrate-for go with a series; images are judged one by one")
