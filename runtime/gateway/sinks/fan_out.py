"""Every event to every sink that was asked for, none of which the detection waits for.

Events for network sinks, and those in a file, have an `id`. Reading a file again after a kill gives the same events the
same ids, so that a consumer can drop what it has; everything else has an id that is never used again.
"""

from __future__ import annotations

import contextlib
import math
import os
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgekd.runtime.digest import sha256
from edgekd.runtime.disk_writer import DiskWriter
from edgekd.runtime.errors import UsageError
from edgekd.runtime.json_fields import shown
from edgekd.runtime.options import Options
from edgekd.runtime.sinks import JsonLines, Sink, wall_time
from edgekd.runtime.sinks.live_lines import LiveLines

if TYPE_CHECKING:  # loaded where they are asked for: most runs have none of them
    from edgekd.runtime.gateway.mqtt.connection import Address, Secrets
    from edgekd.runtime.gateway.outbox import Spool
    from edgekd.runtime.gateway.sinks.event_file import EventFile
    from edgekd.runtime.gateway.sinks.interface import Outlet

# What follows from the samples alone, so that the same samples give it again.
OF_SAMPLES = frozenset(
    ("anomaly", "anomaly_end", "score", "sensor_missing", "sensor_back", "site_threshold", "threshold_moved")
)
# What each sink is made from; it is there where the first of them is given.
SETTINGS = {
    "file": ("events", "events_mb", "events_keep"),
    "mqtt": ("publish", "mqtt", "mqtt_password_file", "mqtt_ca", "mqtt_cert", "mqtt_key", "mqtt_client_id"),
    "exec": ("command", "exec_timeout", "exec_retry"),
}
HURRY_S = 0.8  # what a service that is stopped gives its sinks, of the two seconds that it has
FAREWELL_S = 0.3  # of these: to end a command, to say offline
STALL_S = 10.0  # an input that has ended waits for sinks that take events, and so long for those that take none
LEAST_S = 0.02  # what a part of the end gets where those before it have taken all
POLL_S = 0.02


class EventIds:
    """Names events: STREAM-SAMPLE-KIND, or STREAM-RUN.COUNT-KIND where they do not follow from the samples."""

    def __init__(self) -> None:
        self._run = os.urandom(4).hex()
        self._count = 0
        self._sample: object = None
        self._given: dict[str, int] = {}  # at this sample

    def name(self, event: Mapping[str, Any], stream_id: str) -> str:
        """The id of the next event."""
        kind, sample = event["event"], event.get("sample")
        if kind not in OF_SAMPLES or sample is None:
            self._count += 1
            return f"{stream_id}-{self._run}.{self._count}-{kind}"
        if sample != self._sample:
            self._sample = sample
            self._given.clear()
        count = self._given[kind] = self._given.get(kind, 0) + 1
        return f"{stream_id}-{sample}-{kind}" + (f"-{count}" if count > 1 else "")


class Several:
    """The sinks of one run, as its options ask for. Raises UsageError where one cannot work as given.

    live: whether the source cannot wait for whoever reads the events.
    """

    def __init__(self, options: Options, live: bool, writer: DiskWriter, say: Callable[[str], None]) -> None:
        self.spool: Spool | None = None
        self.file: EventFile | None = None
        self.stream: Any = None
        """What has the `stream_id` of the samples: the StateKeeper, where there is one."""
        self._outlets: dict[str, Outlet] = {}
        self._given: dict[str, tuple[Any, ...]] = {}  # the settings that each sink was made from
        self._exchanging = threading.Lock()
        self._live = live
        self._writer = writer
        self._say = say
        self._stdout = _stdout(options, live)
        self._ids = EventIds()
        self._stream_id = os.urandom(4).hex()
        self._news: deque[tuple[str, str, dict[str, Any]]] = deque(maxlen=1000)
        self.change(options)

    @property
    def exec_dropped(self) -> int | None:
        """Events that the command has not taken; None where there is no command."""
        return getattr(self._outlets.get("exec"), "dropped", None)

    def change(self, options: Options, start: bool = False) -> None:
        """Take over what the options say; sinks that are asked for as before go on.

        Raises UsageError, and changes nothing, where one cannot work as given.
        """
        given = {name: found for name, setting in SETTINGS.items() if (found := _given(options, setting))[0]}
        changed = {name for name in {*given, *self._given} if given.get(name) != self._given.get(name)}
        file = self._new_file(options) if "file" in changed and options.events else None
        new: dict[str, Outlet] = {}
        for name, build in (("mqtt", self._new_publisher), ("exec", self._new_command)):
            if name in changed and name in given:
                new[name] = build(options)
        self.file = file if "file" in changed else self.file
        for name in changed - {"file"}:
            old = self._outlets.pop(name, None)
            if name in new:
                self._outlets[name] = new[name]
            if start:  # what ends may take a second, and nobody waits for it
                threading.Thread(target=self._exchange, args=(name, old, new.get(name)), daemon=True).start()
        self._given = given

    def emit(self, event: Mapping[str, Any]) -> None:
        """One event to all. Raises BrokenPipeError where nobody reads standard output any more."""
        if self.spool or self.file:
            named = self._named(event)
            if self.spool:
                self.spool.append(named)
            if self.file:
                self.file.emit(named)
        self._stdout.emit(event)

    def tell(self, kind: str, words: str, fields: Mapping[str, Any]) -> None:
        """News of a sink, from any thread. Not for network sinks: a broken one would be sent news of itself."""
        self._news.append((kind, words, dict(fields)))

    def tick(self) -> None:
        """Pass on what the sinks have told, and let them try again; call it now and then, from the loop's thread."""
        for part in (self.spool, self.file):
            if part:
                part.tick()
        while self._news:
            kind, words, fields = self._news.popleft()
            event = {"event": kind, "time": wall_time(), **fields}
            self._say(words)
            if self.file:
                self.file.emit(self._named(event))
            self._stdout.emit(event)

    def start(self) -> None:
        """Begin to deliver."""
        for outlet in self._outlets.values():
            outlet.start()

    def close(self, hurry: Callable[[], bool], over_by: float = math.inf) -> None:
        """Deliver what can be delivered and end. `hurry` is asked whether the run was told to stop, `over_by` is when
        it then has to be over, on the monotonic clock."""
        end = min(time.monotonic() + HURRY_S, over_by)
        if self.spool and self._outlets:
            self._drain(self.spool, hurry, end - FAREWELL_S)
            end = min(max(end, time.monotonic() + FAREWELL_S), over_by)
            for outlet in self._outlets.values():
                outlet.stop(max(LEAST_S, end - time.monotonic()))
            if left := self.spool.depth:
                self._say(f"{left} events are not delivered yet; they are kept for the next start")
        with contextlib.suppress(BrokenPipeError):
            self.tick()
        if self.spool:
            self.spool.close(max(LEAST_S, end - time.monotonic()))
        self._writer.flush(max(LEAST_S, end - time.monotonic()))
        if isinstance(self._stdout, LiveLines):
            self._stdout.close(max(LEAST_S, end - time.monotonic()))

    def _drain(self, spool: Spool, hurry: Callable[[], bool], end: float) -> None:
        """Wait until everything is delivered: until `end` if in a hurry, else as long as something is."""
        self._writer.hurry()  # scores that wait for more
        depth, stalled_at = spool.depth, time.monotonic() + STALL_S
        while left := spool.depth:
            now = time.monotonic()
            if left < depth:
                depth, stalled_at = left, now + STALL_S
            if now >= (end if hurry() else stalled_at):
                return
            spool.tick()
            time.sleep(POLL_S)

    def _exchange(self, name: str, old: Outlet | None, new: Outlet | None) -> None:
        with self._exchanging:  # one after the other: what is to go was to come a moment ago
            if old is not None:
                old.stop(HURRY_S)
            if new is not None:
                new.start()
            elif self.spool:
                self.spool.forget(name)

    def _spool_of(self, options: Options) -> Spool:
        from edgekd.runtime.gateway.outbox import Spool

        if self.spool is None:
            folder = options.spool or default_spool(options)
            size = int(options.spool_mb * 2**20)
            self.spool = Spool(folder, size, self._writer, self.tell, patient=not self._live)
        return self.spool

    def _new_file(self, options: Options) -> EventFile:
        from edgekd.runtime.gateway.sinks.event_file import EventFile

        size = int(options.events_mb * 2**20)
        return EventFile(options.events or "", size, options.events_keep, self._writer, self.tell)

    def _new_publisher(self, options: Options) -> Outlet:
        from edgekd.runtime.gateway.mqtt.publish import Publisher

        return Publisher(_publish_to(options), mqtt_secrets(options), self._spool_of(options), self.tell)

    def _new_command(self, options: Options) -> Outlet:
        from edgekd.runtime.gateway.sinks.exec import Command

        settings = options.command or "", options.exec_timeout, options.exec_retry
        return Command(*settings, self._spool_of(options), self.tell)

    def _named(self, event: Mapping[str, Any]) -> dict[str, Any]:
        stream_id = getattr(self.stream, "stream_id", None) or self._stream_id
        return {**event, "id": self._ids.name(event, stream_id)}


def default_spool(options: Options) -> Path:
    """Beside the state; else where the system keeps a service's state, or a user's."""
    if options.state:
        return Path(f"{options.state}.spool")
    if folder := os.environ.get("STATE_DIRECTORY", "").split(":")[0]:
        return Path(folder) / "spool"
    home = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    what = "\0".join([str(Path(options.model).resolve()), options.publish or "", options.command or ""])
    return Path(home) / "edgekd" / f"spool-{sha256(what.encode())[:12]}"


def mqtt_secrets(options: Options) -> Secrets:
    """What the options say of the broker beside its URL."""
    from edgekd.runtime.gateway.mqtt.connection import Secrets

    return Secrets(
        options.mqtt_password_file, options.mqtt_ca, options.mqtt_cert, options.mqtt_key, options.mqtt_client_id
    )


def _given(options: Options, settings: Sequence[str]) -> tuple[Any, ...]:
    return tuple(getattr(options, name) for name in settings)


def _publish_to(options: Options) -> Address:
    from edgekd.runtime.gateway.mqtt.connection import Address, check_topic, parse_url

    to = options.publish or ""
    if "://" in to:
        return parse_url(to, "--publish")
    check_topic(to, "--publish", filter=False)
    if not options.mqtt:
        raise UsageError(f"--publish {shown(to, 100)}: on which broker? Write mqtt[s]://[user@]host[:port]/topic")
    source = parse_url(options.mqtt, "--mqtt")
    return Address(source.host, source.port, source.user, source.tls, to)


def _stdout(options: Options, live: bool) -> Sink:
    """A file can wait for whoever reads the events, a sensor cannot."""
    try:
        if live:
            return LiveLines(sys.stdout.fileno(), patience_s=1.0 if options.stdin else 0.0)
    except (OSError, AttributeError):  # no stream of the system's
        pass
    return JsonLines(sys.stdout)
