"""`publish`: events to an MQTT topic, and beside it a retained status that says whether this gateway is alive."""

from __future__ import annotations

import contextlib
import json
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from edgekd import __version__
from edgekd.runtime.errors import UsageError
from edgekd.runtime.gateway.mqtt.connection import (
    FIRST_WAIT_S,
    KEEPALIVE_S,
    LONGEST_WAIT_S,
    Address,
    Connection,
    Secrets,
    check_topic,
    parse_url,
    stable_client_id,
)
from edgekd.runtime.gateway.mqtt.limits import MAX_PACKET_BYTES
from edgekd.runtime.gateway.outbox import Outbox, Tell
from edgekd.runtime.gateway.shorten import shorten
from edgekd.runtime.gateway.sinks.interface import DeliveryProblem
from edgekd.runtime.json_fields import shown
from edgekd.runtime.sinks import encode
from edgekd.runtime.sources.reconnect import Backoff

if TYPE_CHECKING:
    from paho.mqtt.client import MQTTMessage

    from edgekd.runtime.gateway.mqtt.client import BoundedClient as Client

IN_FLIGHT = 20  # what a broker takes of one client by default before it has acknowledged any
WAITING_BYTES = 2**18  # of events that were sent and not confirmed: about a thousand
RECEIPT_S = 10.0  # so long a consumer may take to confirm an event before it is sent again, and so long at most
LONGEST_RECEIPT_S = 300.0
RECEIPT_BYTES = 2**18  # of one message of receipts
SHORTEST_BYTES = 256  # an event that is refused for its size is not cut to less


@dataclass(eq=False)
class _Sent:
    """An event that was sent and is not delivered yet."""

    payload: bytes
    receipt: str  # what confirms it; empty where the broker's word is enough
    due: float = math.inf  # when to send it again
    most_bytes: int = MAX_PACKET_BYTES  # what the broker's answer leaves it
    refused: bool = False
    late: bool = False  # it had to be sent again for want of a receipt
    refusals: Backoff = field(default_factory=lambda: Backoff(FIRST_WAIT_S, LONGEST_WAIT_S))
    silences: Backoff = field(default_factory=lambda: Backoff(RECEIPT_S, LONGEST_RECEIPT_S))


class Publisher:
    """Publishes each event of the outbox with QoS 1; the broker's PUBACK is the acknowledgement.

    An event that the broker refuses is sent again after a growing wait, and those behind it are not held up by it; one
    that is too large is shortened. A broker that takes QoS 0 alone gets that, which is told. With `receipts`, a topic,
    an event that is no score has arrived when a consumer has published its id there, and is sent again until then.

    TOPIC/status holds {"status": "online"} with what `beat` counts, or "offline", retained; the broker says "offline"
    where this end cannot.
    """

    name = "mqtt"
    reading = True
    dropped = 0

    def __init__(
        self,
        address: Address,
        secrets: Secrets,
        outbox: Outbox,
        tell: Tell,
        keepalive_s: int = KEEPALIVE_S,
        place: str = "",
        receipts: str | None = None,
    ) -> None:
        """place: tells this gateway from another one on this machine, the same on every start."""
        name = f"{secrets.client_id}-out" if secrets.client_id else stable_client_id(str(address), place, "out")
        self._connection = Connection(address, secrets, name, self, True, keepalive_s, RECEIPT_BYTES)
        self.delivered = 0
        self._to = str(address)
        self._topic = address.topic
        self._status_topic = f"{address.topic}/status"
        self._receipts = receipts
        self._outbox = outbox
        self._tell = tell
        self._problem = DeliveryProblem("mqtt", self._to, tell)
        self._waiting: dict[int, _Sent] = {}  # by sequence number, in its order
        self._under_way: dict[int, int] = {}  # message id -> sequence number; the broker has not answered yet
        self._newest = 0  # sequence number of what was sent
        self._subscribing = Backoff(FIRST_WAIT_S, LONGEST_WAIT_S)
        self._subscribe_due = math.inf
        self._counts: Mapping[str, Any] = {}
        self._beat = False
        self._status_refused = False
        self._lacks: list[str] = []  # of the broker, as it was told
        self._shortened: set[int] = set()  # what was told to be too large
        self._status_mid: int | None = None  # of the status that the broker has not answered yet
        self._farewell = False

    @property
    def turned_s(self) -> float:
        """See `Outlet`."""
        return self._connection.turned_s

    def start(self) -> None:
        """Begin to connect."""
        if self._connection.stopping:
            return
        self._cursor = self._outbox.cursor("mqtt", self._connection.wake)
        self._connection.start()

    def stop(self, timeout_s: float) -> None:
        """Say goodbye."""
        self._connection.stop(timeout_s)

    def beat(self, counts: Mapping[str, Any]) -> None:
        """To the status."""
        self._counts, self._beat = counts, True
        self._connection.wake()

    def prepare(self, client: Client) -> None:
        """A last will, for an end without goodbye."""
        client.on_publish = self._on_publish
        client.on_subscribe = self._on_subscribe
        client.on_message = self._on_message
        limits = self._connection.limits
        offline = _status("offline", reason="connection lost")
        client.will_set(self._status_topic, offline, limits.qos, retain=limits.retain)

    def up(self, client: Client, resumed: bool) -> None:
        """Send again what was not acknowledged."""
        self._works()
        self._tell_lacks()
        self._shortened = {seq for seq in self._shortened if seq > self._cursor.acked}
        self._waiting.clear()
        self._under_way.clear()
        self._status_mid, self._farewell, self._beat = None, False, True
        self._subscribe_due = 0.0 if self._receipts else math.inf
        self._cursor.rewind()

    def turn(self, client: Client) -> None:
        """Send what may be sent."""
        now = time.monotonic()
        if self._receipts and now >= self._subscribe_due:
            self._subscribe_due = math.inf
            client.subscribe(self._receipts, qos=1)
        if self._beat:
            self._beat = False
            told = datetime.now(UTC).isoformat(timespec="seconds")
            self._send_status(client, _status("online", time=told, version=__version__, **self._counts))
        while self._waiting and next(iter(self._waiting)) <= self._cursor.acked:  # the outbox was full: dropped
            del self._waiting[next(iter(self._waiting))]
        for seq, sent in list(self._waiting.items()):
            if sent.due <= now and len(self._under_way) < IN_FLIGHT:
                if not sent.refused:
                    sent.late = True
                    self._problem.waiting(f"no receipt on {shown(self._receipts, 100)}")
                self._send(client, seq, sent)
        self._send_new(client)

    def _send_new(self, client: Client) -> None:
        room = IN_FLIGHT - len(self._under_way) - sum(sent.refused for sent in self._waiting.values())
        if room <= 0 or sum(len(sent.payload) for sent in self._waiting.values()) >= WAITING_BYTES:
            return
        for record in self._cursor.read(room):
            event = json.loads(record.text) if self._receipts else {}
            receipt = "" if event.get("event") == "score" else str(event.get("id", ""))
            self._newest = record.seq
            self._waiting[record.seq] = _Sent(record.payload, receipt)
            self._send(client, record.seq, self._waiting[record.seq])

    def _send(self, client: Client, seq: int, sent: _Sent) -> None:
        sent.due = math.inf
        limits = self._connection.limits
        most_bytes = min(sent.most_bytes, limits.payload_bytes(self._topic))
        payload = shorten(sent.payload, most_bytes)
        if len(payload) > most_bytes:
            self._refuse(sent, f"{len(payload)} bytes are too many")
            return
        if len(payload) < len(sent.payload) and seq not in self._shortened:
            self._shortened.add(seq)
            words = f"event {seq} of {len(sent.payload)} bytes is too large for the broker, and is sent shortened"
            self._tell("event_too_large", words, {"sink": "mqtt", "seq": seq, "bytes": len(sent.payload)})
        info = client.publish(self._topic, payload, limits.qos)
        if limits.qos == 0 and info.rc == 0 and info.is_published():  # there is no answer to wait for
            self._taken(seq, sent)
        else:
            self._under_way[info.mid] = seq

    def _send_status(self, client: Client, status: bytes) -> None:
        limits = self._connection.limits
        status = shorten(status, most_bytes := limits.payload_bytes(self._status_topic))
        if len(status) > most_bytes:
            self._on_status(f"{len(status)} bytes are too many")
            self._status_mid = None
        else:
            self._status_mid = client.publish(self._status_topic, status, limits.qos, retain=limits.retain).mid

    def _tell_lacks(self) -> None:
        """Once, and again where the broker is another one."""
        before, self._lacks = self._lacks, self._connection.limits.lacks(bool(self._receipts))
        for reason in self._lacks:
            if reason not in before:
                self._tell("broker_lacks", f"{self._to}: {reason}", {"sink": "mqtt", "to": self._to, "reason": reason})

    def down(self, reason: str, was_up: bool) -> None:
        """Say so."""
        self._problem.waiting(reason)

    def leave(self, client: Client) -> bool:
        """Say offline, after all that is under way."""
        if not self._farewell:
            self._farewell = True
            time_ = datetime.now(UTC).isoformat(timespec="seconds")
            self._send_status(client, _status("offline", reason="stopped", time=time_))
        return self._status_mid is None or not self._connection.limits.qos

    def _on_publish(self, client: Any, data: Any, mid: int, reason: Any, properties: Any) -> None:
        seq = self._under_way.pop(mid, None)
        if mid == self._status_mid:
            self._status_mid = None
            self._on_status(_refusal(reason, self._status_topic) if reason.is_failure else "")
        elif seq is None or (sent := self._waiting.get(seq)) is None:  # dropped, or confirmed already
            return
        elif reason.is_failure:
            if client.refused_size:
                sent.most_bytes = max(SHORTEST_BYTES, min(sent.most_bytes, len(sent.payload)) // 2)
            self._refuse(sent, "too large" if client.refused_size else _refusal(reason, self._topic))
        else:
            self._taken(seq, sent)

    def _refuse(self, sent: _Sent, why: str) -> None:
        sent.refused, sent.due = True, time.monotonic() + sent.refusals.wait_s()
        self._problem.waiting(f"the broker refuses events: {why}")

    def _taken(self, seq: int, sent: _Sent) -> None:
        """The broker has it."""
        if sent.receipt:
            sent.refused, sent.due = False, time.monotonic() + sent.silences.wait_s()
        else:
            self._arrived(seq)

    def _on_status(self, why: str) -> None:
        """Why the broker does not take one; empty where it does."""
        refused, self._status_refused = self._status_refused, bool(why)
        if why and not refused:
            topic = self._status_topic
            words = f"the broker refuses the status: {why}"
            self._tell("status_refused", words, {"sink": "mqtt", "topic": topic, "reason": why})

    def _on_subscribe(self, client: Any, data: Any, mid: int, reasons: Any, properties: Any) -> None:
        for reason in reasons:
            if reason.is_failure:
                self._subscribe_due = time.monotonic() + self._subscribing.wait_s()
                self._problem.waiting(f"the broker refuses the receipts: {_refusal(reason, self._receipts)}")

    def _on_message(self, client: Any, data: Any, message: MQTTMessage) -> None:
        """A receipt: ids, one a line, each alone or in an object."""
        confirmed = {_id_of(line) for line in message.payload.decode(errors="replace").splitlines()}
        for seq in [seq for seq, sent in self._waiting.items() if sent.receipt and sent.receipt in confirmed]:
            self._arrived(seq)

    def _arrived(self, seq: int) -> None:
        del self._waiting[seq]
        self.delivered += 1
        self._cursor.ack(next(iter(self._waiting), self._newest + 1) - 1)
        self._works()

    def _works(self) -> None:
        """Say so where nothing has stayed away that was sent."""
        if not any(sent.refused or sent.late for sent in self._waiting.values()):
            self._problem.works()


def _status(status: str, **more: Any) -> bytes:
    return encode({"status": status, **more})


def _refusal(reason: Any, topic: str | None) -> str:
    """What an answer of the broker says, in words."""
    denied = f"its rules do not let this user use {shown(topic, 100)}"
    return denied if str(reason) == "Not authorized" else shown(str(reason), 100)


def _id_of(line: str) -> str:
    with contextlib.suppress(ValueError, RecursionError):
        found = json.loads(line)
        if isinstance(found, dict):
            return str(found.get("id", ""))
    return line.strip()


def address_of(to: str, option: str, *broker_of: str | None) -> Address:
    """What a URL says, or a topic on the broker of the first of these URLs that is one."""
    if "://" in to:
        return parse_url(to, option)
    check_topic(to, option, filter=False)
    source = next((url for url in broker_of if url and "://" in url), None)
    if not source:
        raise UsageError(f"{option} {shown(to, 100)}: on which broker? Write mqtt[s]://[user@]host[:port]/topic")
    return replace(parse_url(source, "mqtt"), topic=to)
