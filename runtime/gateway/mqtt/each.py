"""One subscription for a stream of each name that stands at the first + of its topic (`each = true`).

    mqtt = "mqtt://broker/site/+/sensors"       each machine under site/ is a stream

A name is new when its first message comes, which waits until its stream is there.
"""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from edgekd.runtime.gateway.bell import Wake
from edgekd.runtime.gateway.mqtt.connection import Address, Connection, Secrets, parse_url, stable_client_id
from edgekd.runtime.gateway.mqtt.subscribe import Message, MqttMessages, Taker
from edgekd.runtime.gateway.options import GatewayOptions, StreamOptions, at_broker
from edgekd.runtime.gateway.outbox import Tell
from edgekd.runtime.json_fields import shown
from edgekd.runtime.sources import END_S

if TYPE_CHECKING:
    from paho.mqtt.client import MQTTMessage

    from edgekd.runtime.gateway.mqtt.client import BoundedClient as Client

PART_BYTES = 2**18
"""Of one stream's messages that wait: what is more is dropped, for the broker cannot be told to keep one stream's."""
NAME_CHARACTERS = 60


class Subscription:
    """The subscription. `found` is for the driver, all else for the connection's thread."""

    reading = True

    def __init__(self, address: Address, secrets: Secrets, place: str, most: int, tell: Tell, wake: Wake) -> None:
        """most: names beyond which others are left out."""
        self.found: deque[str] = deque()
        """Names that are new."""
        self._shown = str(address)
        self._topic = address.topic
        self._at = address.topic.split("/").index("+")
        self._most = most
        self._tell = tell
        self._wake = wake
        self._parts: dict[str, MqttMessages] = {}  # by name
        self._waiting: dict[str, deque[Message]] = {}  # for those that are not there, or not yet
        self._names: set[str] = set()  # that have a stream
        self._told: set[str] = set()  # why others have none
        self._lock = threading.Lock()  # of the last four
        self._taker = Taker()
        self._up = self._resumed = False
        self._reason = ""
        name = secrets.client_id or stable_client_id(self._shown, place, "in")
        self._connection = Connection(address, secrets, name, self, clean=False)

    def start(self) -> None:
        """Begin to connect."""
        self._connection.start()

    def stop(self) -> None:
        """Listen no more."""
        self._connection.stop(END_S)

    def topic_of(self, name: str) -> str:
        """The topic of one stream."""
        levels = self._topic.split("/")
        return "/".join([*levels[: self._at], name, *levels[self._at + 1 :]])

    def part(self, topic: str, source: MqttMessages) -> Part:
        """What stands for the connection to one stream's source."""
        return Part(self, self._connection, topic.split("/")[self._at], source)

    def attach(self, name: str, source: MqttMessages) -> None:
        """Its messages go there from now on, those first that have waited."""
        with self._lock:
            self._parts[name] = source
            for message in self._waiting.pop(name, ()):
                source.put(message)
        if self._up:
            source.opened(self._resumed)

    def detach(self, name: str, source: MqttMessages) -> None:
        """It reads no more; another one may be there already."""
        with self._lock:
            if self._parts.get(name) is source:
                del self._parts[name]

    def prepare(self, client: Client) -> None:
        """Where messages go."""
        client.on_message = self._on_message
        client.on_subscribe = self._on_subscribe

    def up(self, client: Client, resumed: bool) -> None:
        """Subscribe."""
        self._resumed = resumed
        client.subscribe(self._topic, qos=1)

    def turn(self, client: Client) -> None:
        """Nothing is sent."""

    def down(self, reason: str, was_up: bool) -> None:
        """Tell that nothing comes: each stream does; before there is any, this."""
        self._up = False
        parts = list(self._parts.values())
        for source in parts:
            source.down(reason, was_up)
        if not parts and reason != self._reason:
            words = f"waiting for {self._shown}: {reason}"
            self._tell("input_waiting", words, {"input": self._shown, "reason": reason})
        self._reason = reason

    def leave(self, client: Client) -> bool:
        """The session stays at the broker."""
        return True

    def _on_subscribe(self, client: Any, data: Any, mid: int, reasons: Any, properties: Any) -> None:
        if any(reason.is_failure for reason in reasons):
            said = next(str(reason) for reason in reasons if reason.is_failure)
            self._connection.refuse(f"the broker does not allow the subscription ({shown(said, 100)})")
            return
        if self._reason or not self._up:
            self._reason = ""
            self._tell("input_open", f"subscribed to {self._shown}", {"input": self._shown})
        self._up = True
        for source in list(self._parts.values()):
            source.opened(self._resumed)

    def _on_message(self, client: Any, data: Any, message: MQTTMessage) -> None:
        taken = self._taker.take(client, message)
        levels = taken.topic.split("/") if taken else []
        if not taken or len(levels) <= self._at:
            return
        name = levels[self._at]
        with self._lock:
            if source := self._parts.get(name):
                source.put(taken, PART_BYTES)
            elif name in self._names or self._is_new(name):
                waiting = self._waiting.setdefault(name, deque())
                waiting.append(taken)
                while sum(kept.bytes for kept in waiting) > PART_BYTES and len(waiting) > 1:
                    waiting.popleft()

    def _is_new(self, name: str) -> bool:
        """Take up a name, where it can be one; tell once for each reason that others are left out."""
        why = ""
        if len(self._names) >= self._most:
            why = f"there are {self._most} streams already; most says how many there may be"
        elif not 0 < len(name) <= NAME_CHARACTERS or name[0] == "." or not name.isprintable():
            why = "it names no file"
        if not why:
            self._names.add(name)
            self.found.append(name)
            self._wake.ring()
        elif why not in self._told:
            self._told.add(why)
            topic = shown(self.topic_of(name), 200)
            self._tell("stream_left_out", f"{topic} is left out: {why}", {"topic": topic, "reason": why})
        return not why


class Part:
    """What one stream's source has in the place of a connection of its own."""

    def __init__(self, subscription: Subscription, connection: Connection, name: str, source: MqttMessages) -> None:
        self.wake, self.refuse = connection.wake, connection.refuse
        self._subscription = subscription
        self._connection = connection
        self._name = name
        self._source = source

    @property
    def turned_s(self) -> float:
        """See `Source`."""
        return self._connection.turned_s

    def start(self) -> None:
        """Take messages."""
        self._subscription.attach(self._name, self._source)

    def stop(self, timeout_s: float) -> None:
        """Take no more."""
        self._subscription.detach(self._name, self._source)


class Each:
    """A table of the file with `each`, and the streams that come of it."""

    def __init__(self, template: StreamOptions, options: GatewayOptions, tell: Tell, wake: Wake) -> None:
        self.template = template
        address = parse_url(template.mqtt or "", "mqtt")
        secrets, place = at_broker(options, template)
        self.subscription = Subscription(address, secrets, place, template.most, tell, wake)
        self._address = address

    def new(self) -> list[StreamOptions]:
        """The streams whose first message has come."""
        found = []
        while self.subscription.found:
            found.append(self._stream(self.subscription.found.popleft()))
        return found

    def _stream(self, name: str) -> StreamOptions:
        def filled(text: str | None) -> str | None:
            return text and text.replace("{}", name)

        one = self.template
        topic = self.subscription.topic_of(name)
        url = (one.mqtt or "").removesuffix(self._address.topic) + topic
        named = filled(one.name or "{}")
        return replace(one, each=False, name=named, mqtt=url, state=filled(one.state), record=filled(one.record))
