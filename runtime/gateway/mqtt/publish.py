"""`publish`: events to an MQTT topic, and beside it a retained status that says whether this gateway is alive."""

from __future__ import annotations

import json
from collections import deque
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from edgekd import __version__
from edgekd.runtime.errors import UsageError
from edgekd.runtime.gateway.mqtt.connection import (
    KEEPALIVE_S,
    Address,
    Connection,
    Secrets,
    check_topic,
    parse_url,
    stable_client_id,
)
from edgekd.runtime.gateway.outbox import Outbox, Tell
from edgekd.runtime.gateway.sinks.interface import DeliveryProblem
from edgekd.runtime.json_fields import shown

if TYPE_CHECKING:
    from paho.mqtt.client import Client

IN_FLIGHT = 20  # what a broker takes of one client by default before it has acknowledged any


class Publisher:
    """Publishes each event of the outbox with QoS 1, in order; the broker's PUBACK is the acknowledgement.

    TOPIC/status holds {"status": "online"} or "offline", retained; the broker says "offline" where this end cannot.
    """

    reading = True

    def __init__(
        self, address: Address, secrets: Secrets, outbox: Outbox, tell: Tell, keepalive_s: int = KEEPALIVE_S
    ) -> None:
        name = f"{secrets.client_id}-out" if secrets.client_id else stable_client_id(str(address), "out")
        self._connection = Connection(address, secrets, name, self, keepalive_s=keepalive_s)
        self._topic = address.topic
        self._outbox = outbox
        self._problem = DeliveryProblem("mqtt", str(address), tell)
        self._sent: deque[tuple[int, int]] = deque()  # message id and sequence number, not acknowledged yet
        self._acked: set[int] = set()  # message ids of those, out of turn
        self._farewell: int | None = None
        self._farewell_acked = False

    def start(self) -> None:
        """Begin to connect."""
        if self._connection.stopping:
            return
        self._cursor = self._outbox.cursor("mqtt", self._connection.wake)
        self._connection.start()

    def stop(self, timeout_s: float) -> None:
        """Say goodbye."""
        self._connection.stop(timeout_s)

    def prepare(self, client: Client) -> None:
        """A last will, for an end without goodbye."""
        client.on_publish = self._on_publish
        client.will_set(f"{self._topic}/status", _status("offline", reason="connection lost"), 1, retain=True)

    def up(self, client: Client, resumed: bool) -> None:
        """Send again what was not acknowledged."""
        self._problem.works()
        self._sent.clear()
        self._acked.clear()
        self._farewell, self._farewell_acked = None, False
        self._cursor.rewind()
        status = _status("online", time=datetime.now(UTC).isoformat(timespec="seconds"), version=__version__)
        client.publish(f"{self._topic}/status", status, 1, retain=True)

    def turn(self, client: Client) -> None:
        """Send what may be sent."""
        for record in self._cursor.read(IN_FLIGHT - len(self._sent)) if len(self._sent) < IN_FLIGHT else ():
            self._sent.append((client.publish(self._topic, record.payload, 1).mid, record.seq))

    def down(self, reason: str, was_up: bool) -> None:
        """Say so."""
        self._problem.waiting(reason)

    def leave(self, client: Client) -> bool:
        """Say offline, after all that is under way."""
        if self._farewell is None:
            time_ = datetime.now(UTC).isoformat(timespec="seconds")
            self._farewell = client.publish(
                f"{self._topic}/status", _status("offline", reason="stopped", time=time_), 1, retain=True
            ).mid
        return self._farewell_acked

    def _on_publish(self, client: Client, data: Any, mid: int, reason: Any, properties: Any) -> None:
        self._farewell_acked = mid == self._farewell
        if any(mid == sent for sent, _ in self._sent):  # else it is a status
            self._acked.add(mid)
        while self._sent and self._sent[0][0] in self._acked:
            first, seq = self._sent.popleft()
            self._acked.discard(first)
            self._cursor.ack(seq)


def _status(status: str, **more: str) -> str:
    return json.dumps({"status": status, **more})


def address_of(to: str, option: str, *broker_of: str | None) -> Address:
    """What a URL says, or a topic on the broker of the first of these URLs that is one."""
    if "://" in to:
        return parse_url(to, option)
    check_topic(to, option, filter=False)
    source = next((url for url in broker_of if url and "://" in url), None)
    if not source:
        raise UsageError(f"{option} {shown(to, 100)}: on which broker? Write mqtt[s]://[user@]host[:port]/topic")
    return replace(parse_url(source, "mqtt"), topic=to)
