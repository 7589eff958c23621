"""An MQTT subscription: whole samples, or one sensor a topic.

Where the last level of a message's topic is one of the model's sensors (`plant/pump_a`, from `--mqtt …/plant/+`), its
payload is that sensor's value: a number, or {"value": 12.5, "time": …}. Such values are aligned by time into samples of
the model's period. Every other payload is one sample or several lines of them, CSV or JSON, as on a serial line.
Either may come at another rate than the model's (`--resample`), and call its time as it likes (`--time`).

Retained messages are left out: they say what was, not what is. The session is kept by the broker (QoS 1, the same
client id at every start), so what it has queued while this end was away is scored after it is back.
"""

from __future__ import annotations

import json
import threading
import time
from collections import deque
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from edgekd.runtime.gateway.mqtt.connection import KEEPALIVE_S, Address, Connection, Secrets, stable_client_id
from edgekd.runtime.json_fields import shown
from edgekd.runtime.layout import PLAIN, Layout
from edgekd.runtime.manifest import Manifest
from edgekd.runtime.sources import END_S, InputEvent, Items, Row, Source, window_samples
from edgekd.runtime.sources.cells import Cells
from edgekd.runtime.sources.resample import Grid
from edgekd.runtime.sources.row_reader import RowReader
from edgekd.runtime.sources.time_labels import TIME_NAMES

if TYPE_CHECKING:
    from paho.mqtt.client import Client, MQTTMessage

MAX_QUEUED = 1000  # messages; then the broker keeps the rest, until these are scored
SENT_AGAIN = 64  # messages that a broker may send twice: more than it has under way at any time


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
    ) -> None:
        self.name = str(address)
        self.rows: MessageReader = MessageReader(manifest, columns, self.name, layout, likely)
        self.reconnects: int = 0  # times that the broker came back
        self._window_s = window_samples(manifest) * manifest.period_s
        name = secrets.client_id or stable_client_id(str(address), manifest.digests.file, "in")
        self._topic = address.topic
        self._connection = Connection(address, secrets, name, self, clean=False, keepalive_s=keepalive_s)
        self._arrived = threading.Condition()
        self._queue: deque[InputEvent | tuple[str, bytes]] = deque()
        self._recent: deque[tuple[int, str, bytes]] = deque(maxlen=SENT_AGAIN)
        self._lost_at: float | None = None
        self._opened = self._resumed = False
        self._reason = ""
        self._paused = False

    def wait(self, seconds: float) -> None:
        """Until a message has come."""
        with self._arrived:
            self._arrived.wait_for(lambda: self._queue, seconds)

    def __iter__(self) -> Iterator[Items]:
        self._connection.start()
        try:
            while True:
                with self._arrived:
                    items, self._queue = self._queue, deque()
                    paused, self._paused = self._paused, False
                if paused:
                    self._connection.wake()
                found: list[Row | InputEvent] = []
                for item in items:
                    found += [item] if isinstance(item, InputEvent) else self.rows.message(*item)
                yield [*found, *self.rows.tick()]
        finally:
            self._connection.stop(END_S)

    @property
    def reading(self) -> bool:
        """Whether there is room for more messages."""
        self._paused = len(self._queue) >= MAX_QUEUED
        return not self._paused

    def prepare(self, client: Client) -> None:
        """Where messages go."""
        client.on_message = self._on_message
        client.on_subscribe = self._on_subscribe

    def up(self, client: Client, resumed: bool) -> None:
        """Subscribe, unless the broker remembers: it would send retained messages again."""
        self._resumed = resumed
        if resumed:
            self._open()
        else:
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

    def _on_subscribe(self, client: Client, data: Any, mid: int, reasons: Any, properties: Any) -> None:
        if any(reason.is_failure for reason in reasons):
            self._reason = "the broker does not allow the subscription"
            self._tell("input_waiting", f"waiting for {self.name}: {self._reason}", reason=self._reason)
        else:
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

    def _on_message(self, client: Client, data: Any, message: MQTTMessage) -> None:
        if message.retain:
            return
        this = message.mid, message.topic, bytes(message.payload)
        if message.dup and this in self._recent:  # its acknowledgement was lost with the connection
            return
        if message.qos:
            self._recent.append(this)
        self._put(this[1:])

    def _tell(self, event: str, words: str, **fields: Any) -> None:
        self._put(InputEvent(event, words, {"input": self.name, **fields}))

    def _put(self, item: InputEvent | tuple[str, bytes]) -> None:
        with self._arrived:
            self._queue.append(item)
            self._arrived.notify()


class MessageReader(RowReader):
    """Messages to rows; counts those that are none, lines in them, and values that came too late for their sample."""

    unit = "messages"

    def __init__(
        self, manifest: Manifest, columns: dict[str, str], source: str, layout: Layout = PLAIN, likely: bool = False
    ) -> None:
        super().__init__(manifest, columns, "anything", source, layout, True, likely)
        self._index = {columns.get(name, name): i for i, name in enumerate(manifest.names)}
        rule, aligned = layout.resample or "mean", bool(layout.resample)
        gap = "values are missing for longer than the model looks back"
        self._grid = Grid(manifest, rule, aligned, gap, lambda middle_s: middle_s if self._labeled else None)
        self._time_key = layout.time[0] if layout.time else None
        self._numbers = Cells(layout)
        self._values = np.full(len(manifest.names), np.nan)
        self._labeled: bool | None = None
        self._newest_s = 0.0
        self._open = False  # something was said since the last sample

    def message(self, topic: str, payload: bytes) -> Items:
        """The samples that this message completes."""
        index = self._index.get(topic.rpartition("/")[2])
        if index is None or (payload.lstrip()[:1] == b"{" and b'"value"' not in payload):
            return self.feed(payload + b"\n")
        try:
            value, label = _value(payload, self._time_key)
            number = self._numbers.number(value)
        except ValueError as error:
            self.refuse(f"{shown(topic, 60)}: {error}")
            return []
        self._open = True
        self._values[index] = number
        late = self._grid.late
        samples = self._grid.put(self._time_of(self.parser.times.seconds(label)), self._values)
        if self._grid.late > late:
            self.refuse("values come too late")
        self._values[index] = np.nan
        return samples

    def tick(self) -> Items:
        """What is complete by now, though nothing more came. Values of single sensors with a time wait for the next."""
        if self._labeled or not self._open:
            return self.feed(b"")
        samples = self._grid.tick(time.monotonic())
        self._open = not samples
        return samples

    def _time_of(self, label_s: float | None) -> float:
        """Where a value belongs: on the values' own clock if the first of them had a time, else on this machine's."""
        if self._labeled is None:
            self._labeled = label_s is not None
        if not self._labeled:
            return time.monotonic()
        self._newest_s = self._newest_s if label_s is None else label_s
        return self._newest_s


def _value(payload: bytes, time_key: str | None) -> tuple[Any, str | float | None]:
    """A value and its time label in a message of one sensor; ValueError where there is none."""
    text = payload.decode(errors="replace").strip()
    if text[:1] != "{":
        return text, None
    try:
        found = json.loads(text)
        if "value" not in found:
            raise ValueError
    except (ValueError, RecursionError):
        raise ValueError('neither a number nor {"value": …}') from None
    label = found.get(time_key or next((key for key in found if key.lower() in TIME_NAMES), None))
    usable = isinstance(label, (int, float, str)) and not isinstance(label, bool)
    return found["value"], label if usable else None
