"""paho's client, bounded in memory: it reads past what is too large, and may let a broker wait."""

from __future__ import annotations

import paho.mqtt.client as paho

KEPT_BYTES = 2**18  # of one that is cut off: its topic and properties, so that it can be acknowledged
CHUNK_BYTES = 65536


class BoundedClient(paho.Client):
    """Hooks into what paho calls its own, for paho has no limits; `tests/gateway/test_memory.py` checks them."""

    message_bytes = 0
    """What is larger is cut off."""

    @property
    def too_large(self) -> bool:
        """Whether the message in hand was cut off."""
        return self._in_packet["remaining_length"] > self.message_bytes

    def pause(self) -> None:
        """Nothing is read for now, so no answer to a ping can be missed."""
        self._ping_t = 0

    def limit_in_flight(self, most: int | None) -> None:
        """Send no more at once than the broker's Receive Maximum."""
        if most is not None:
            self._max_inflight_messages = min(self._max_inflight_messages, most)

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
