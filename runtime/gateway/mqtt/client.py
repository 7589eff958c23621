"""paho's client, bounded in memory: it reads past what is too large, and may let a broker wait."""

from __future__ import annotations

from typing import Any

import paho.mqtt.client as paho

KEPT_BYTES = 2**18  # of one that is cut off: its topic and properties, so that it can be acknowledged
CHUNK_BYTES = 65536
TOO_LARGE, UNSPECIFIED = 0x95, 0x80  # reasons
PUBACK_REASONS = (0, 0x10, UNSPECIFIED, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99)


class BoundedClient(paho.Client):
    """Hooks into what paho calls its own, for paho has no limits; `tests/gateway/test_memory.py` checks them."""

    message_bytes = 0
    """What is larger is cut off."""
    refused_size = False
    """Whether the broker has refused the message in question for its size."""

    @property
    def too_large(self) -> bool:
        """Whether the message in hand was cut off."""
        return self._in_packet["remaining_length"] > self.message_bytes

    @property
    def five(self) -> bool:
        """Whether MQTT 5 is spoken."""
        return self._protocol == paho.MQTTv5

    def pause(self) -> None:
        """Nothing is read for now, so no answer to a ping can be missed."""
        self._ping_t = 0

    def limit_in_flight(self, most: int | None) -> None:
        """Send no more at once than the broker's Receive Maximum."""
        if most is not None:
            self._max_inflight_messages = min(self._max_inflight_messages, most)

    def _handle_pubackcomp(self, cmd: Any) -> paho.MQTTErrorCode:
        packet = self._in_packet["packet"]
        reason = packet[2] if self.five and len(packet) > 2 else 0
        self.refused_size = reason == TOO_LARGE
        if reason not in PUBACK_REASONS:  # mosquitto 2.0 says TOO_LARGE, which is none of them, and paho would hang up
            self._in_packet["packet"] = packet[:2] + bytes([UNSPECIFIED]) + packet[3:]
        return super()._handle_pubackcomp(cmd)

    def _handle_connack(self) -> paho.MQTTErrorCode:
        if self._protocol == paho.MQTTv5 and self._in_packet["packet"] in (b"\0\0", b"\1\0"):
            self._protocol = paho.MQTTv311  # whose answer has no properties: the broker has not looked at the version
        return super()._handle_connack()

    def _sock_recv(self, bufsize: int) -> bytes:
        size = min(bufsize, CHUNK_BYTES)
        if bufsize == 1 or not self.too_large or len(self._in_packet["packet"]) < KEPT_BYTES:
            return super()._sock_recv(size)
        skipped = super()._sock_recv(min(size, bufsize - 1))  # the last byte is paho's, which then takes it for whole
        if skipped:
            self._in_packet["to_process"] -= len(skipped)
            raise BlockingIOError
        return skipped
