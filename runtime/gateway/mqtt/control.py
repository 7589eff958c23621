"""`control`: what a gateway is told over MQTT. TOPIC/model takes a model's bytes, TOPIC/mute a span without alarms.

Where it has several streams, TOPIC/STREAM/model and TOPIC/STREAM/mute are one stream's, the others are for all.
A model may be retained: what was offered before is known again. A span that is retained would begin anew at every
connection, and is left out.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from edgekd.runtime.gateway.models.offers import MAX_BYTES
from edgekd.runtime.gateway.mqtt.connection import Address, Connection, Secrets, stable_client_id
from edgekd.runtime.gateway.mute import MAX_BYTES as MAX_SPAN_BYTES
from edgekd.runtime.gateway.outbox import Tell
from edgekd.runtime.guard.signature import SIGNATURE_BYTES

if TYPE_CHECKING:
    from paho.mqtt.client import MQTTMessage

    from edgekd.runtime.gateway.mqtt.client import BoundedClient as Client

LARGEST = MAX_BYTES + SIGNATURE_BYTES  # message, in bytes
GOODBYE_S = 0.1


class Control:
    """Subscribes to both topics for ever. Raises UsageError, MissingExtra for what cannot work."""

    name = "control"
    reading = True

    def __init__(
        self,
        address: Address,
        secrets: Secrets,
        model: Callable[[str, str, bytes], None],
        mute: Callable[[str, str], None],
        tell: Tell,
        several: Callable[[], bool],
        place: str = "",
    ) -> None:
        """model, mute: take what comes, in the connection's thread, with the name of the stream, "" for all; a model
        with the topic that it came by. several: whether there are several streams.

        place: tells this gateway from another one on this machine.
        """
        name = f"{secrets.client_id}-control" if secrets.client_id else stable_client_id(str(address), place, "control")
        self._connection = Connection(address, secrets, name, self, message_bytes=LARGEST + 1024)
        self._shown = str(address)
        self._topic = address.topic
        self._model = model
        self._mute = mute
        self._tell = tell
        self._several = several
        self._asked = False  # for the topics of each stream
        self._reason: str | None = ""  # why it does not listen; None where it does

    @property
    def turned_s(self) -> float:
        """See `Turning`."""
        return self._connection.turned_s

    def begin(self) -> None:
        """Begin to connect."""
        self._connection.start()

    def end(self) -> None:
        """Listen no more."""
        self._connection.stop(GOODBYE_S)

    def prepare(self, client: Client) -> None:
        """Where messages go."""
        client.on_message = self._on_message
        client.on_subscribe = self._on_subscribe

    def up(self, client: Client, resumed: bool) -> None:
        """Subscribe."""
        client.subscribe([(f"{self._topic}/model", 1), (f"{self._topic}/mute", 1)])
        self._asked = False

    def turn(self, client: Client) -> None:
        """Subscribe to the topics of each stream, too, where there are several now."""
        if self._several() and not self._asked:
            client.subscribe([(f"{self._topic}/+/model", 1), (f"{self._topic}/+/mute", 1)])
            self._asked = True

    def down(self, reason: str, was_up: bool) -> None:
        """Say so, once for each reason."""
        if reason != self._reason:
            self._reason = reason
            words = f"waiting for {self._shown}: {reason}; models and mutes are not taken from there meanwhile"
            self._tell("control_waiting", words, {"from": self._shown, "reason": reason})

    def leave(self, client: Client) -> bool:
        """Nothing is under way."""
        return True

    def _on_subscribe(self, client: Any, data: Any, mid: int, reasons: Any, properties: Any) -> None:
        if any(reason.is_failure for reason in reasons):
            self.down("the broker does not allow the subscription", True)
        elif self._reason is not None:
            self._reason = None
            self._tell("control_open", f"listening to {self._shown}", {"from": self._shown})

    def _on_message(self, client: Any, data: Any, message: MQTTMessage) -> None:
        stream, _, kind = message.topic.removeprefix(f"{self._topic}/").rpartition("/")
        if kind == "model":
            payload = bytes(LARGEST + 1) if client.too_large else bytes(message.payload)  # refused for its size alone
            if payload:  # else the retained one is gone
                self._model(stream, message.topic, payload)
        elif not message.retain:
            self._mute(stream, message.payload[: MAX_SPAN_BYTES + 1].decode(errors="replace"))
