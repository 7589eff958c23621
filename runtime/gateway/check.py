"""`edgekd-gateway check FILE`: tries what the file names, and says of each thing that it is well, or what to mend.

It leaves nothing behind. A gateway that runs on the file meanwhile goes on: what that holds is not tried.
"""

from __future__ import annotations

import csv
import errno
import io
import os
import queue
import secrets
import shlex
import shutil
import socket
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgekd.runtime import assembly
from edgekd.runtime.check import check_model
from edgekd.runtime.detector import Detector
from edgekd.runtime.errors import EdgeKDError, GateFailed, MissingExtra, UsageError
from edgekd.runtime.files import state_folder
from edgekd.runtime.gateway.config import read_config
from edgekd.runtime.gateway.http_server import parse_address
from edgekd.runtime.gateway.options import GatewayOptions, StreamOptions, history_of, name_of
from edgekd.runtime.json_fields import shown
from edgekd.runtime.manifest import threshold_at
from edgekd.runtime.sources.reconnect import Door, reason_of
from edgekd.runtime.sources.row_reader import RowReader
from edgekd.runtime.step_cost import microseconds

if TYPE_CHECKING:  # most files name no broker
    from paho.mqtt.client import Client

    from edgekd.runtime.gateway.mqtt.connection import Address

BROKER_S = 6.0  # a broker that takes longer is no use
LITTLE_BYTES = 50 * 10**6  # of room on a disk


@dataclass(frozen=True)
class Finding:
    """One thing that the file names."""

    what: str
    ok: bool
    words: str
    """What it is like, or what is wrong and what to do."""


def check_all(path: str) -> list[Finding]:
    """Everything that the file names. Raises nothing for what a user can mend."""
    try:
        options = read_config(path)
    except UsageError as error:
        return [Finding("file", False, str(error))]
    running = next(filter(None, (_running(stream.state) for stream in options.streams)), "")
    found = [Finding("file", True, shown(path, 300))]
    if running:
        found.append(Finding("gateway", True, f"runs on this state, process {running}; what it holds is not tried"))
    for stream in options.streams:
        of = f"{shown(name_of(stream), 40)} " if options.several else ""
        model = _tried(f"{of}model", partial(_model, stream))
        detector = Detector.load(stream.model, check=False, probe=False) if model.ok else None
        checks = _of_stream(options, stream, detector, bool(running))
        found += [model, *(_tried(f"{of}{what}", check) for what, check in checks)]
    return found + [_tried(what, check) for what, check in _of_all(options, bool(running))]


def describe(findings: list[Finding]) -> str:
    """A line for each."""
    return "\n".join(f"{'ok  ' if found.ok else 'MEND'} {found.what:<18} {found.words}" for found in findings)


def _tried(what: str, check: Callable[[], str]) -> Finding:
    try:
        return Finding(what, True, check())
    except EdgeKDError as error:
        return Finding(what, False, str(error))


def _of_stream(
    options: GatewayOptions, stream: StreamOptions, detector: Detector | None, running: bool
) -> Iterator[tuple[str, Callable[[], str]]]:
    """What is to be tried of a stream beside its model, and how."""
    if detector is not None:
        yield "settings", partial(_settings, stream, detector)
    if stream.serial:
        yield "serial", partial(_serial, stream, running)
    elif stream.tcp:
        yield "tcp", partial(_tcp, stream.tcp, running)
    elif stream.csv or stream.frames:
        yield "csv" if stream.csv else "frames", partial(_files, stream, detector)
    if stream.mqtt:
        yield "mqtt", partial(_subscribe, stream.mqtt, options)
    if stream.state:
        yield "state", partial(_file_in_folder, stream.state)
    if stream.record:
        yield "record", partial(_record, stream.record, detector)


def _of_all(options: GatewayOptions, running: bool) -> Iterator[tuple[str, Callable[[], str]]]:
    """What is to be tried of what the streams share, and how."""
    secrets = ("mqtt-password-file", options.mqtt_password_file), ("mqtt-key", options.mqtt_key)
    for key, secret in (*secrets, ("page-token-file", options.page_token_file)):
        if secret:
            yield key, partial(_secret, secret)
    if options.publish:
        yield "publish", partial(_publish, options.publish, options)
    if options.control:
        yield "control", partial(_control, options.control, options)
    if options.command:
        yield "exec", partial(_command, options.command)
    if options.publish or options.command:
        yield "outbox", partial(_outbox, options)
    if options.metrics:
        yield "metrics", partial(_metrics, options.metrics, running)
    if options.page:
        yield "page", partial(_page, options, running)
        yield "history", partial(_file_in_folder, history_of(options) or "")


def _running(state: str | None) -> str:
    """The process that holds the lock of this state, or of one with another name for {}, if any. To try it could keep
    one out that starts now."""
    try:
        lock = Path(f"{os.path.realpath(state or '')}.lock")
        named = sorted(lock.parent.glob(lock.name.replace("{}", "*"))) if state and "{}" in lock.name else [lock]
        holder = named[0].read_text().strip() if state and named else ""
        locks = [line.split() for line in Path("/proc/locks").read_text().splitlines()]
    except (OSError, ValueError):
        return ""
    return holder if any(lock[1] == "FLOCK" and holder and holder in lock for lock in locks) else ""


def _model(stream: StreamOptions) -> str:
    name, report = shown(stream.model, 300), check_model(stream.model, stream.require_signed)
    if not report["ok"]:
        raise GateFailed(f"{name}: the self-test failed; this engine does not compute what was trained")
    names = ", ".join(report["sensors"][:6]) + (" …" if len(report["sensors"]) > 6 else "")
    signed = f", signed with {shown(stream.require_signed, 200)}" if stream.require_signed else ""
    return (
        f"{name}: {report['method']}, {len(report['sensors'])} sensors ({names}),"
        f" self-test passed, {microseconds(report['step_us'])} µs a step{signed}"
    )


def _settings(stream: StreamOptions, detector: Detector) -> str:
    """What does not fit this model."""
    assembly.episodes_of(stream, detector)
    if not (stream.frames or stream.raw):
        assembly.columns_of(stream.maps, detector.manifest)
        assembly.layout_of(stream, detector.manifest)
    threshold = detector.threshold if stream.threshold is None else stream.threshold
    if stream.false_alarms_per_day is not None:
        threshold = threshold_at(detector.manifest.threshold.points, stream.false_alarms_per_day)
    return f"fit the model; its threshold is {threshold:g}"


def _serial(stream: StreamOptions, running: bool) -> str:
    from edgekd.runtime.sources.serial_line import SerialPort

    return _open(SerialPort(stream.serial or "", stream.baud), running)


def _tcp(address: str, running: bool) -> str:
    from edgekd.runtime.gateway.sources.tcp import TcpServer

    return _open(TcpServer(address), running)


def _open(door: Door, running: bool) -> str:
    name = shown(door.name, 200)
    if running:  # many servers take one connection, and a port that is opened again resets some boards
        return f"{name} is left to the gateway that runs"
    try:
        door.open()
        door.close()
    except (OSError, ValueError) as error:
        reason = "is not there" if door.absent() else reason_of(error)
        raise UsageError(f"{name}: {reason}{door.advice(error)}") from None
    return f"{name} opens"


def _files(stream: StreamOptions, detector: Detector | None) -> str:
    """A recording or images: the first of them is read, and has to fit the model where that is known."""
    name = shown(stream.csv or stream.frames or "", 300)
    if detector is not None:
        source = assembly.open_source(stream, detector)
        next(iter(source), None)
        if isinstance(source.rows, RowReader):
            source.rows.parser.require_rows()
        elif source.rows.bad:
            raise UsageError(f"{name}: {source.rows.last_bad}")
        return f"{name} fits the model"
    try:
        if stream.csv:
            os.close(os.open(stream.csv, os.O_RDONLY | os.O_NONBLOCK))  # of a pipe nobody is waited for
        else:
            next(Path(stream.frames or "").iterdir(), None)
    except OSError as error:
        raise UsageError(f"{name}: {error.strerror}") from None
    return f"{name} can be read"


class _Visit:
    """A connection to a broker that subscribes to a topic, where there is one, and has its answer then."""

    reading = True

    def __init__(self, topic: str | None) -> None:
        self.answers: queue.SimpleQueue[str] = queue.SimpleQueue()
        """What is wrong; empty where all is well."""
        self._topic = topic

    def prepare(self, client: Client) -> None:
        client.on_subscribe = self._on_subscribe

    def up(self, client: Client, resumed: bool) -> None:
        if self._topic is None:
            self.answers.put("")
        else:
            client.subscribe(self._topic, qos=1)

    def turn(self, client: Client) -> None:
        """Nothing to send."""

    def down(self, reason: str, was_up: bool) -> None:
        self.answers.put(reason)

    def leave(self, client: Client) -> bool:
        return True

    def _on_subscribe(self, client: Client, data: Any, mid: int, reasons: Any, properties: Any) -> None:
        refused = any(reason.is_failure for reason in reasons)
        self.answers.put("the broker does not allow this user to subscribe to it" if refused else "")


def _subscribe(url: str, options: GatewayOptions) -> str:
    from edgekd.runtime.gateway.mqtt.connection import parse_url

    return _visit(parse_url(url, "mqtt"), options, subscribe=True)


def _publish(to: str, options: GatewayOptions) -> str:
    from edgekd.runtime.gateway.mqtt.publish import address_of

    return _visit(address_of(to, "publish", *options.inputs), options, subscribe=False)


def _control(topic: str, options: GatewayOptions) -> str:
    from edgekd.runtime.gateway.mqtt.publish import address_of

    address = address_of(topic, "control", *options.inputs, options.publish)
    return _visit(replace(address, topic=f"{address.topic}/mute"), options, subscribe=True)


def _visit(address: Address, options: GatewayOptions, subscribe: bool) -> str:
    """Connect under a name of its own: a broker throws out whoever has the same."""
    from edgekd.runtime.gateway.mqtt.connection import Connection

    visit = _Visit(address.topic if subscribe else None)
    connection = Connection(address, options.secrets, f"edgekd-check-{secrets.token_hex(4)}", visit)
    connection.start()
    try:
        wrong = visit.answers.get(timeout=BROKER_S)
    except queue.Empty:
        wrong = f"no answer within {BROKER_S:g} s"
    connection.stop(1.0)
    if wrong:
        raise UsageError(f"{address}: {wrong}")
    if subscribe:
        return f"{address}: connected and subscribed"
    return "; ".join([f"{address}: connected", *connection.limits.lacks(bool(options.receipts))])


def _command(command: str) -> str:
    program = shlex.split(command)[0]
    found = shutil.which(program)
    if found is None:
        raise UsageError(f"{shown(program, 200)}: no such command; give its whole path, and make it executable")
    return shown(found, 200)


def _secret(file: str) -> str:
    try:
        with Path(file).open("rb") as opened:
            mode = os.fstat(opened.fileno()).st_mode
    except OSError as error:
        raise UsageError(f"{shown(file, 300)}: {error.strerror}") from None
    if mode & 0o007:
        raise UsageError(f"{shown(file, 300)}: every user of this machine can read it; chmod 600 {_word(file)}")
    return shown(file, 300)


def _outbox(options: GatewayOptions) -> str:
    """It is made where it is not there yet."""
    stream = options.streams[0]
    given = options.outbox or (f"{stream.state}.outbox" if stream.state else state_folder())
    if given is None:
        raise UsageError("there is no folder to keep events in; name one with outbox")
    folder = Path(given)
    there = next((place for place in (folder, *folder.parents) if os.path.lexists(place)), folder)
    if not there.is_dir():
        raise UsageError(f"{shown(str(there), 300)}: it is no folder; move it away, or name another one with outbox")
    return f"{shown(str(folder), 300)}: {_room(there)}"


def _record(path: str, detector: Detector | None) -> str:
    words = _file_in_folder(path)
    if detector is not None and Path(path).is_file():
        header = io.StringIO()
        csv.writer(header, lineterminator="\n").writerow(["time", *detector.manifest.names])
        with Path(path).open("rb") as file:
            first = file.readline(len(header.getvalue().encode()) + 1)
        if first not in (b"", header.getvalue().encode()):
            raise UsageError(f"{shown(path, 300)}: holds other columns than this model's; give another file")
    return words


def _file_in_folder(path: str) -> str:
    if Path(path).exists() and not os.access(path, os.R_OK | os.W_OK):
        raise UsageError(f"{shown(path, 300)}: it is another user's; chown it to the one who runs the gateway")
    return f"{shown(path, 300)}: {_room(Path(path).parent)}"


def _room(folder: Path) -> str:
    """Whether a file can be written there: one without a name, of which nothing is left."""
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(bytes(65536))
            file.flush()
        disk = os.statvfs(folder)
    except OSError as error:
        advice = {
            errno.ENOENT: f"mkdir -p {_word(str(folder))}",
            errno.ENOTDIR: "name a place in a folder",
            errno.ENOSPC: "make room",
            errno.EROFS: "name a place on a disk that can be written",
        }
        what = advice.get(error.errno or 0, "let the user who runs the gateway write there")
        raise UsageError(f"{shown(str(folder), 300)}: {error.strerror}; {what}") from None
    free = disk.f_bavail * disk.f_frsize
    return f"{free / 1e6:,.0f} MB free" + ("; that is little" if free < LITTLE_BYTES else "")


def _metrics(address: str, running: bool) -> str:
    if find_spec("prometheus_client") is None:
        raise MissingExtra("prometheus-client", "metrics")
    return _port("metrics", address, running)


def _page(options: GatewayOptions, running: bool) -> str:
    from edgekd.runtime.gateway.page.handler import token_of

    token_of(options)
    return _port("page", options.page or "", running)


def _port(key: str, address: str, running: bool) -> str:
    host, port = parse_address(key, address)
    if running:
        return f"{shown(address)} is left to the gateway that runs"
    try:
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
    except OSError as error:
        raise UsageError(f"{shown(address)}: {error.strerror}; give another address or port") from None
    return f"{shown(address)} is free"


def _word(text: str) -> str:
    """To be copied into a shell."""
    return shown(shlex.quote(text), 300)
