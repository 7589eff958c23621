"""An MQTT subscription: whole samples, parts of them, or one sensor a topic.

Where parts of a message's topic are one of the model's sensors (`plant/pump_a/state`, from `--mqtt …/plant/#`), its
payload is that sensor's value: a number, or {"value": 12.5, "time": …}. Every other payload is one sample, or a part,
or several lines of them, as on a serial line; a column may be TOPIC.KEY. A sensor's values come from one topic.

Retained messages are left out: they say what was, not what is. The session is kept by the broker (QoS 1, the same
client id at every start), so what it has queued while this end was away is scored after it is back.
"""

from __future__ import annotations

import json
import math
import re
import threading
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from edgekd.runtime.gateway.mqtt.connection import (
    KEEPALIVE_S,
    MESSAGE_BYTES,
    Address,
    Connection,
    Secrets,
    stable_client_id,
)
from edgekd.runtime.json_fields import shown
from edgekd.runtime.layout import PLAIN, Layout
from edgekd.runtime.manifest import Manifest
from edgekd.runtime.sources import END_S, InputEvent, Items, Row, Source, window_samples
from edgekd.runtime.sources.row_reader import RowReader

if TYPE_CHECKING:
    from paho.mqtt.client import MQTTMessage

    from edgekd.runtime.gateway.mqtt.client import BoundedClient as Client
    from edgekd.runtime.gateway.mqtt.each import Part, Subscription

QUEUED_BYTES = 8 * 2**20  # of messages; then the broker keeps the rest, until these are scored
OVERHEAD_BYTES = 300  # of one in the queue, beside its topic and payload
PIECE_BYTES = 4096  # of a long message, read at once
BATCH = 256  # samples and pieces that the loop gets at once
BYTES_SHOWN = 16
TELL_EVERY_S = 10.0
SENT_AGAIN = 64  # messages that a broker may send twice: more than it has under way at any time
_BINARY = re.compile(rb"[\x00\x01\x04-\x08\x0e-\x1a\x1c-\x1f]")  # no text, whatever its encoding


@dataclass(frozen=True, slots=True)
class Message:
    """One that waits to be read."""

    topic: str
    payload: bytes
    wrong: str  # why it is none of samples, empty where it may be one

    @property
    def bytes(self) -> int:
        """What it takes while it waits."""
        return len(self.topic) + len(self.payload) + OVERHEAD_BYTES


class Taker:
    """Makes of what a broker sends what is to be read, once."""

    def __init__(self) -> None:
        self._recent: deque[tuple[int, str, int]] = deque(maxlen=SENT_AGAIN)

    def take(self, client: Any, message: MQTTMessage) -> Message | None:
        """None for what is retained, which says what was, and for what was there before."""
        if message.retain:
            return None
        payload, wrong = bytes(message.payload), ""
        try:
            topic = message.topic
        except UnicodeDecodeError:
            topic, wrong = "", "its topic is no text"
        if client.too_large:
            payload, wrong = b"", f"{shown(topic, 60)}: larger than {MESSAGE_BYTES >> 20} MiB"
        this = message.mid, topic, hash(payload)
        if message.dup and this in self._recent:  # its acknowledgement was lost with the connection
            return None
        if message.qos:
            self._recent.append(this)
        return Message(topic, payload, wrong)


class MqttMessages(Source):
    """Reads a topic or several for ever. Raises UsageError, MissingExtra for what cannot work."""

    def __init__(
        self,
        address: Address,
        secrets: Secrets,
        manifest: Manifest,
        columns: dict[str, str],
        layout: Layout = PLAIN,
        likely: bool = False,
        keepalive_s: int = KEEPALIVE_S,
        place: str = "",
        subscription: Subscription | None = None,
    ) -> None:
        """place: what stays the same for this stream when its model is another one. subscription: of several
        streams, of which the address is one."""
        self.name = str(address)
        self.rows: MessageReader = MessageReader(manifest, columns, self.name, layout, likely)
        self.reconnects: int = 0  # times that the broker came back
        self._window_s = window_samples(manifest) * manifest.period_s
        self._topic = address.topic
        self._connection: Connection | Part
        if subscription:
            self._connection = subscription.part(address.topic, self)
            self.dropped: int | None = 0
        else:
            name = secrets.client_id or stable_client_id(str(address), place or manifest.digests.file, "in")
            self._connection = Connection(address, secrets, name, self, clean=False, keepalive_s=keepalive_s)
        self.changed = threading.Condition()
        self._queue: deque[InputEvent | Message] = deque()
        self._queued_bytes = 0
        self._taker = Taker()
        self._dropped_told = 0
        self._tell_due = 0.0
        self._lost_at: float | None = None
        self._opened = self._resumed = False
        self._reason = ""
        self._paused = False

    def wait(self, seconds: float) -> None:
        """Until a message has come."""
        with self.changed:
            self.changed.wait_for(lambda: self._queue, seconds)

    @property
    def turned_s(self) -> float:  # type: ignore[override]
        """See `Source`."""
        return self._connection.turned_s

    def __iter__(self) -> Iterator[Items]:
        self._connection.start()
        try:
            while True:
                found: list[Row | InputEvent] = []
                size = 0
                for items in self._arriving():
                    found += items
                    size += 1 + len(items)
                    if size >= BATCH:  # no verdict waits for all of a long message, or of a long queue
                        self.idle = False
                        yield found
                        found, size = [], 0
                self.idle = True
                yield [*found, *self.rows.feed(b"")]
        finally:
            self._connection.stop(END_S)

    def _arriving(self) -> Iterator[Items]:
        """What is made of all that waits, piece by piece."""
        while self._queue:
            with self.changed:
                item = self._queue.popleft()
                if isinstance(item, Message):
                    self._queued_bytes -= item.bytes
            if self._paused and self._queued_bytes < QUEUED_BYTES:
                self._paused = False
                self._connection.wake()
            if isinstance(item, InputEvent):
                yield [item]
            elif item.wrong:
                self.rows.refuse(item.wrong)
            else:
                yield from self.rows.pieces(item.topic, item.payload)

    @property
    def reading(self) -> bool:
        """Whether there is room for more messages."""
        self._paused = self._queued_bytes >= QUEUED_BYTES
        return not self._paused

    def prepare(self, client: Client) -> None:
        """Where messages go."""
        client.on_message = self._on_message
        client.on_subscribe = self._on_subscribe

    def up(self, client: Client, resumed: bool) -> None:
        """Subscribe, also where the broker remembers: it may have refused before, or never have heard."""
        self._resumed = resumed
        client.subscribe(self._topic, qos=1)

    def turn(self, client: Client) -> None:
        """Nothing is sent."""

    def down(self, reason: str, was_up: bool) -> None:
        """Tell that nothing comes, once for each reason."""
        if was_up and self._lost_at is None and self._opened:
            self._lost_at = time.monotonic()
            self._tell("input_lost", f"lost {self.name}: {reason}; trying again", reason=reason)
        elif reason != self._reason:
            self._tell("input_waiting", f"waiting for {self.name}: {reason}", reason=reason)
        self._reason = reason

    def leave(self, client: Client) -> bool:
        """The session stays at the broker."""
        return True

    def _on_subscribe(self, client: Any, data: Any, mid: int, reasons: Any, properties: Any) -> None:
        if any(reason.is_failure for reason in reasons):
            said = next(str(reason) for reason in reasons if reason.is_failure)
            self._connection.refuse(f"the broker does not allow the subscription ({shown(said, 100)})")
        else:
            self._open()

    def opened(self, resumed: bool) -> None:
        """The subscription that it shares is there. resumed: the broker has kept what came meanwhile."""
        self._resumed = resumed
        self._open()

    def _open(self) -> None:
        """Messages come, perhaps again. What the broker has kept is scored; where it has kept nothing, that is lost."""
        self._reason = ""
        if self._lost_at is not None:
            self.reconnects += 1
            lost_s, self._lost_at = round(time.monotonic() - self._lost_at, 3), None
            rewarm = not self._resumed and lost_s > self._window_s
            warm = "; verdicts come again after the warm-up" if rewarm else ""
            fields = {"input": self.name, "lost_s": lost_s, "rewarm": rewarm}
            self._put(InputEvent("input_back", f"{self.name} is back after {lost_s:.1f} s{warm}", fields, rewarm))
        elif not self._opened:
            self._tell("input_open", f"subscribed to {self.name}")
        self._opened = True

    def _on_message(self, client: Any, data: Any, message: MQTTMessage) -> None:
        if taken := self._taker.take(client, message):
            self.put(taken)

    def put(self, message: Message, most_bytes: float = math.inf) -> None:
        """One that has come. most_bytes: where so much waits, it is dropped, and this one goes on behind the gap."""
        if self._queued_bytes + message.bytes > most_bytes:
            self._drop()
        self._put(message)

    def _drop(self) -> None:
        """Leave out all messages that wait, but no news."""
        with self.changed:
            news = [item for item in self._queue if isinstance(item, InputEvent) and item.told]
            self.dropped = (self.dropped or 0) + sum(isinstance(item, Message) for item in self._queue)
            self._queue, self._queued_bytes = deque(news), 0
        count, told = self.dropped - self._dropped_told, time.monotonic() >= self._tell_due
        if told:
            self._dropped_told, self._tell_due = self.dropped, time.monotonic() + TELL_EVERY_S
        words = f"{self.name} outruns this machine: {count} messages dropped; it needs a smaller model"
        fields = {"count": count, "total": self.dropped}
        self._put(InputEvent("samples_dropped", words, fields, rewarm=True, told=told))

    def _tell(self, event: str, words: str, **fields: Any) -> None:
        self._put(InputEvent(event, words, {"input": self.name, **fields}))

    def _put(self, item: InputEvent | Message) -> None:
        with self.changed:
            self._queue.append(item)
            if isinstance(item, Message):
                self._queued_bytes += item.bytes
            self.changed.notify()


class MessageReader(RowReader):
    """Messages to rows; counts those that are none, lines in them, and those of another machine."""

    unit = "messages"

    def __init__(
        self, manifest: Manifest, columns: dict[str, str], source: str, layout: Layout = PLAIN, likely: bool = False
    ) -> None:
        super().__init__(manifest, columns, "anything", source, layout, True, likely)
        self._names = manifest.names
        self._columns = [columns.get(name, name) for name in manifest.names]
        self._places: dict[int, tuple[str, str]] = {}  # topic of each sensor, and its machine's: without sensor
        self._others: dict[str, str] = {}  # machines that are left out, and why

    def message(self, topic: str, payload: bytes) -> Items:
        """The samples that this message completes."""
        return [item for items in self.pieces(topic, payload) for item in items]

    def pieces(self, topic: str, payload: bytes) -> Iterator[Items]:
        """The same, a piece of a long message at a time."""
        short = len(payload) <= PIECE_BYTES
        text = payload.decode(errors="replace") if short else ""
        if "\ufffd" in text or _BINARY.search(payload):
            self.refuse(f"{shown(topic, 60)}: binary, {payload[:BYTES_SHOWN].hex(' ')}")
            return
        path = f"/{topic}/"
        named = {column: at + len(column) for column in self._columns if (at := path.rfind(f"/{column}/")) >= 0}
        column = max(named, key=lambda name: (named[name], len(name)), default=None)
        machine = path if column is None else path.replace(f"/{column}/", "/+/")
        if machine in self._others:
            self.refuse(self._others[machine])
            return
        self.parser.aliases = {} if column is None else {column: "value"}
        for full in self._columns:
            for at, sign in enumerate(full):
                if sign == "." and f"/{full[:at]}/" in path:
                    self.parser.aliases[full] = full[at + 1 :]
        if short and column is not None and (self.parser.reads(text) or not any(mark in text for mark in "{[,;\t|\n")):
            payload = json.dumps({"value": text.strip()}).encode()
        for start in range(0, len(payload) or 1, PIECE_BYTES):
            end = b"\n" if start + PIECE_BYTES >= len(payload) else b""
            rows = self.rows_of(self.splitter.feed(payload[start : start + PIECE_BYTES] + end))
            said = np.flatnonzero(~np.isnan([row.values for row in rows]).all(axis=0)).tolist() if rows else []
            taken = next((i for i in said if self._places.get(i, ("", machine))[1] != machine), None)
            if taken is not None:
                self.splitter.end()
                yield [self._leave_out(topic, machine, taken)]
                return
            self._places |= dict.fromkeys(said, (topic, machine))
            items = self.samples_of(rows)
            if any(row.partial for row in rows) and (column is not None or len(set(self._places.values())) > 1):
                self.merge(told=True)
            yield items

    def _leave_out(self, topic: str, machine: str, sensor: int) -> InputEvent:
        """The machine of this topic, which says what another one has said: values of two make no sample."""
        column, name = self._columns[sensor], shown(self._names[sensor], 40)
        first = self._places[sensor][0]
        place = first if f"/{column}/" in f"/{first}/" else f"{first}.{column}"
        reason = f"'{name}' comes from {shown(first, 60)} and {shown(topic, 60)}, which is left out"
        reason += f": subscribe to one machine, or --map '{name}={shown(place, 100)}'"
        self._others[machine] = reason
        self._places = {i: found for i, found in self._places.items() if found[1] != machine}
        self.refuse(reason)
        return InputEvent("machine_left_out", reason, {"topic": topic, "reason": reason})
