"""What a broker says that it does not do, in its answer to CONNECT (MQTT 5, 3.2.2.3)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

MAX_PACKET_BYTES = 268_435_460  # MQTT has no larger one
HEADER_BYTES = 10  # of a PUBLISH, at most, beside its topic and payload


@dataclass(frozen=True)
class Limits:
    """Those of a broker that has not said any."""

    five: bool = True
    """Whether it speaks MQTT 5."""
    qos: int = 1
    retain: bool = True
    packet_bytes: int = MAX_PACKET_BYTES

    @classmethod
    def told(cls, five: bool, properties: Any) -> Limits:
        """Those in a broker's answer."""
        return cls(
            five,
            min(1, getattr(properties, "MaximumQoS", 1)),
            bool(getattr(properties, "RetainAvailable", True)),
            getattr(properties, "MaximumPacketSize", MAX_PACKET_BYTES),
        )

    def lowered(self, refusal: str) -> Limits:
        """For the next attempt, where a broker has refused the last will for one of them."""
        if refusal == "QoS not supported":
            return replace(self, qos=0)
        return replace(self, retain=False) if refusal == "Retain not supported" else self

    def payload_bytes(self, topic: str) -> int:
        """How long a message to this topic may be."""
        return self.packet_bytes - len(topic.encode()) - HEADER_BYTES

    def lacks(self, receipts: bool) -> list[str]:
        """What one who publishes there has to know. receipts: whether consumers confirm what arrives."""
        found = []
        if not (receipts or self.five):
            found.append("it speaks MQTT 3.1.1, and acknowledges what its rules forbid, too")
        if not (receipts or self.qos):
            found.append("it takes QoS 0 alone, and acknowledges nothing")
        found = [f"{words}; set receipts to know what arrives" for words in found]
        if not self.retain:
            found.append("it retains nothing; the status is for those alone who listen when it is sent")
        return found
