"""One connection to an MQTT broker: its URL, its secrets, and the thread that keeps it up.

The thread owns its client: it connects, reads, writes and waits, and asks its `Handler` for everything else. Each
attempt uses a new client, so that nothing is left of an old one: what was not acknowledged is in the outbox (out) or at
the broker (in). It tries for ever, with a growing wait, and says why when the reason changes.

It speaks MQTT 5, in which a broker says what it refuses, and 3.1.1 where the broker has no MQTT 5.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import select
import socket
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import unquote

from edgekd.runtime.errors import MissingExtra, UsageError
from edgekd.runtime.files import sha256
from edgekd.runtime.gateway.mqtt.limits import Limits
from edgekd.runtime.gateway.secret import VARIABLES, read_secret
from edgekd.runtime.json_fields import shown
from edgekd.runtime.sources.reconnect import Backoff

if TYPE_CHECKING:
    import ssl

    from edgekd.runtime.gateway.mqtt.client import BoundedClient as Client

PASSWORD_VARIABLE = VARIABLES["mqtt-password"]
FIRST_WAIT_S = 0.5
LONGEST_WAIT_S = 10.0  # a broker that is back has the events soon; a broker that is down is not flooded
CONNECT_S = 10.0
KEEPALIVE_S = 30  # a connection that is dead without a word is found after one to two of these
TICK_S = 0.5
MESSAGE_BYTES = 8 * 2**20  # what is larger is cut off: paho holds a message three times while it takes it apart
OLD_AFTER = 3  # brokers that know no MQTT 5 say so; one that hangs up on it so often in a row is asked for 3.1.1, too
FOREVER = 0xFFFFFFFF  # how long a broker keeps a session that is not clean
_URL = re.compile(r"(mqtts?)://(?:([^/@]*)@)?(\[[0-9A-Fa-f:.]+\]|[^/@:\[\]]+)(?::(\d{1,5}))?/(.+)", re.DOTALL)


@dataclass(frozen=True)
class Address:
    """What `mqtt[s]://[user@]host[:port]/topic` says."""

    host: str
    port: int
    user: str
    tls: bool
    topic: str
    """As written: it may hold + and # where it is subscribed to."""

    def __str__(self) -> str:
        return shown(f"mqtt{'s' if self.tls else ''}://{self.host}:{self.port}/{self.topic}", 300)


@dataclass(frozen=True)
class Secrets:
    """Files and names that a connection needs beside its URL; see the options' help."""

    password_file: str | None = None
    ca: str | None = None
    cert: str | None = None
    key: str | None = None
    client_id: str | None = None

    def password(self) -> str | None:
        """From the file or the environment. Raises UsageError where the file cannot be read."""
        return read_secret("mqtt-password", self.password_file)

    def context(self) -> ssl.SSLContext:
        """For a broker whose certificate must be valid. Raises UsageError where a file is none of the kind."""
        import ssl

        if self.key and not self.cert:
            raise UsageError("mqtt-key goes with mqtt-cert, the certificate that it belongs to")
        files = [(name, f) for name, f in (("ca", self.ca), ("cert", self.cert), ("key", self.key)) if f]
        for name, file in files:
            if not os.access(file, os.R_OK):
                raise UsageError(f"mqtt-{name} {shown(file, 200)}: cannot be read; give a PEM file")
        try:
            context = ssl.create_default_context(cafile=self.ca)
            if self.cert:
                context.load_cert_chain(self.cert, self.key, password=lambda: b"")  # never ask a terminal for one
        except (OSError, ValueError) as error:
            given = " ".join(f"mqtt-{name} {shown(file, 100)}" for name, file in files)
            raise UsageError(
                f"{given}: no such certificate or key ({shown(str(error), 100)}); give PEM files"
            ) from None
        return context


def parse_url(text: str, option: str) -> Address:
    """The address in a URL; raises UsageError, without repeating a password, where it is none."""
    found = _URL.fullmatch(text)
    if ":" in text.partition("://")[2].partition("/")[0].rpartition("@")[0]:
        raise UsageError(
            f"{option}: no password in the URL, where every user of this machine can read it; write user@host and"
            f" give it with {PASSWORD_VARIABLE} or mqtt-password-file"
        )
    if not found or not 0 < int(found[4] or 1) < 65536:
        raise UsageError(f"{option}: write mqtt[s]://[user@]host[:port]/topic")  # what was given may hold a password
    scheme, user, host, port, topic = found.groups()
    tls = scheme == "mqtts"
    check_topic(topic, option, filter=option == "mqtt")
    return Address(host.strip("[]"), int(port or (8883 if tls else 1883)), unquote(user or ""), tls, topic)


def check_topic(topic: str, option: str, filter: bool) -> None:
    """Raises UsageError for what is no topic, or where it is to be subscribed to no filter."""
    levels = topic.split("/")
    wild = any("+" in level or "#" in level for level in levels)
    right = all(level in ("+", "#") or not set("+#") & set(level) for level in levels) and "#" not in levels[:-1]
    if wild and not filter:
        raise UsageError(f"{option}: a topic to publish to has no + or #, got '{shown(topic, 100)}'")
    if not right or not topic or "\0" in topic or len(topic.encode(errors="replace")) > 60000:
        raise UsageError(f"{option}: '{shown(topic, 100)}' is no topic; + stands for one level, # for all that follow")


def stable_client_id(*parts: str) -> str:
    """The same on every start of the same run on the same machine, another one elsewhere."""
    machine = ""
    with contextlib.suppress(OSError):
        machine = Path("/etc/machine-id").read_text()
    return "edgekd-" + sha256("\0".join([machine, socket.gethostname(), *parts]).encode())[:12]


class Handler(Protocol):
    """What a connection is for. All is called in the connection's own thread."""

    @property
    def reading(self) -> bool:
        """Whether messages are wanted now; if not, the broker keeps them."""

    def prepare(self, client: Client) -> None:
        """Before it connects: callbacks, last will."""

    def up(self, client: Client, resumed: bool) -> None:
        """It is connected; `resumed`: to the session that the broker has kept."""

    def turn(self, client: Client) -> None:
        """Something may have happened."""

    def down(self, reason: str, was_up: bool) -> None:
        """An attempt failed, or the connection was lost."""

    def leave(self, client: Client) -> bool:
        """The end, still connected; True when there is nothing more to wait for."""


class Connection:
    """Keeps one client connected until `stop`. Raises UsageError, or MissingExtra, for what cannot work."""

    def __init__(
        self,
        address: Address,
        secrets: Secrets,
        client_id: str,
        handler: Handler,
        clean: bool = True,
        keepalive_s: int = KEEPALIVE_S,
        message_bytes: int = MESSAGE_BYTES,
    ) -> None:
        """message_bytes: of a larger message the end is cut off, see `BoundedClient.too_large`."""
        try:
            import paho.mqtt.client as paho

            from edgekd.runtime.gateway.mqtt.client import BoundedClient
        except ModuleNotFoundError:
            raise MissingExtra("paho-mqtt", "mqtt") from None
        self._paho = paho
        self._make = BoundedClient
        self._address = address
        self._password = secrets.password()
        self._context = secrets.context() if address.tls else None
        if not address.tls and (secrets.ca or secrets.cert or secrets.key):
            raise UsageError("mqtt-ca, mqtt-cert and mqtt-key go with mqtts://; this broker is mqtt://")
        self._client_id = client_id
        self._handler = handler
        self._clean = clean
        self._keepalive_s = keepalive_s
        self._message_bytes = message_bytes
        self._stopping = threading.Event()
        self._leave_by = 0.0
        self._wake_end, self._waker = socket.socketpair()
        self._wake_end.setblocking(False)
        self._waker.setblocking(False)
        self._log = logging.Logger("paho", logging.WARNING)  # its own, so that nobody's settings reach it
        self._log.addHandler(_LastWords(self))
        self.last_words = ""
        """What the client has said went wrong."""
        self.turned_s = time.monotonic()
        """When its thread last came round; ahead of now while it may wait."""
        self.limits = Limits()
        """What the broker has said last; the last will has to keep to it, too."""
        self._refused = ""
        self._lowered = False
        self._up = self._answered = self._old = False
        self._hung_up = 0  # times in a row that the broker closed the connection instead of answering
        self._thread = threading.Thread(target=self._run, name="mqtt", daemon=True)

    def start(self) -> None:
        """Begin to connect."""
        self.turned_s = time.monotonic()
        self._thread.start()

    @property
    def stopping(self) -> bool:
        """Whether it was told to disconnect."""
        return self._stopping.is_set()

    def wake(self) -> None:
        """There is something to do."""
        with contextlib.suppress(BlockingIOError):  # full: it will wake
            self._waker.send(b"x")

    def refuse(self, reason: str) -> None:
        """Of the handler: this connection is of no use; try again later."""
        self._refused = reason

    def stop(self, timeout_s: float) -> bool:
        """Say goodbye and disconnect; whether that was done in time."""
        self._leave_by = time.monotonic() + timeout_s
        self._stopping.set()
        self.wake()
        if self._thread.is_alive():
            self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        backoff = Backoff(FIRST_WAIT_S, LONGEST_WAIT_S)
        while not self._stopping.is_set():
            began = time.monotonic()
            reason = self._attempt()
            if self._stopping.is_set():
                return
            if time.monotonic() - began > LONGEST_WAIT_S and self._up:
                backoff.reset()
            self._handler.down(reason, self._up)
            wait_s = backoff.wait_s()
            self.turned_s = time.monotonic() + wait_s
            self._stopping.wait(wait_s)

    def _attempt(self) -> str:
        """Connect and stay connected as long as it lasts; why it ended. The broker may be newer than the last time."""
        reason = self._connect(self._paho.MQTTv5)
        while self._lowered:
            reason = self._connect(self._paho.MQTTv5)
        if self._old or self._hung_up >= OLD_AFTER:
            reason = self._connect(self._paho.MQTTv311)
        return reason

    def _connect(self, protocol: Any) -> str:
        self._up = self._answered = self._old = self._lowered = False
        self._refused = self.last_words = ""
        self.turned_s = time.monotonic() + self._keepalive_s  # so long a TLS handshake may take
        client = self._client(protocol)
        five: dict[str, Any] = {}
        if protocol == self._paho.MQTTv5:
            five = {"clean_start": self._clean, "properties": self._paho.Properties(self._paho.PacketTypes.CONNECT)}
            if not self._clean:
                five["properties"].SessionExpiryInterval = FOREVER
        try:
            client.connect(self._address.host, self._address.port, self._keepalive_s, **five)
        except (OSError, ValueError) as error:
            return self._explain(error)
        try:
            reason = self._stay(client)
        finally:
            if (left := client.socket()) is not None:
                left.close()
        if protocol == self._paho.MQTTv5:
            self._hung_up = 0 if self._answered or left is not None else self._hung_up + 1
        return reason

    def _client(self, protocol: Any) -> Client:
        clean = None if protocol == self._paho.MQTTv5 else self._clean
        client = self._make(
            self._paho.CallbackAPIVersion.VERSION2,
            client_id=self._client_id,
            clean_session=clean,
            protocol=protocol,
            reconnect_on_failure=False,
        )
        client.message_bytes = self._message_bytes
        client.enable_logger(self._log)
        if self._address.user:
            client.username_pw_set(self._address.user, self._password)
        if self._context is not None:
            client.tls_set_context(self._context)
        client.on_connect = self._on_connect
        client.on_disconnect = self._on_disconnect
        self._handler.prepare(client)
        return client

    def _stay(self, client: Client) -> str:
        give_up = time.monotonic() + CONNECT_S
        while (sock := client.socket()) is not None:
            self.turned_s = time.monotonic()
            try:
                self._wait(client, sock)
                client.loop_misc()
            except Exception as error:  # nothing that a broker sends ends this thread
                return f"it sends what cannot be read ({shown(f'{type(error).__name__}: {error}', 100)})"
            if self._refused or client.socket() is None:
                break
            if self._up:
                if self._stopping.is_set():
                    if self._handler.leave(client) or time.monotonic() >= self._leave_by:
                        client.disconnect()
                        return ""
                else:
                    self._handler.turn(client)
            elif self._stopping.is_set():
                return ""
            elif time.monotonic() > give_up:
                return "it does not answer"
        return self._refused or self._lost()

    def _wait(self, client: Client, sock: Any) -> None:
        """Until there is something to read or write, or for one tick; and read and write it."""
        reading = not self._up or self._handler.reading
        if not reading:
            client.pause()
        pending = reading and hasattr(sock, "pending") and sock.pending() > 0  # decrypted already: select is not told
        poll = select.poll()  # select() takes no file number above 1023
        poll.register(self._wake_end, select.POLLIN)
        poll.register(sock, (select.POLLIN if reading else 0) | (select.POLLOUT if client.want_write() else 0))
        tick_s = 0.05 if self._stopping.is_set() else TICK_S
        ready = dict(poll.poll(0 if pending else 1000 * tick_s))
        if self._wake_end.fileno() in ready:
            self._wake_end.recv(4096)
        events = ready.get(sock.fileno(), 0)
        if pending or events & ~select.POLLOUT:
            client.loop_read()
        if events & select.POLLOUT and client.socket() is not None:
            client.loop_write()

    def _on_connect(self, client: Any, data: Any, flags: Any, reason: Any, properties: Any) -> None:
        self._answered = True
        if reason.is_failure:
            self._old = str(reason) == "Unsupported protocol version"
            before, self.limits = self.limits, self.limits.lowered(str(reason))
            self._lowered = self.limits != before
            self._refused = self._explain_refusal(str(reason))
        else:
            self._up = True
            self.limits = Limits.told(client.five, properties)
            client.limit_in_flight(getattr(properties, "ReceiveMaximum", None))
            self._handler.up(client, flags.session_present)

    def _on_disconnect(self, client: Any, data: Any, flags: Any, reason: Any, properties: Any) -> None:
        if flags.is_disconnect_packet_from_server:
            taken = f"another client calls itself {self._client_id}; give one of them another mqtt-client-id"
            said = f"the broker ends the connection: {shown(str(reason), 100)}"
            self.last_words = taken if str(reason) == "Session taken over" else said
        elif str(reason) == "Keep alive timeout":
            self.last_words = "it does not answer any more"

    def _explain_refusal(self, said: str) -> str:
        if said not in ("Not authorized", "Bad user name or password"):
            return f"the broker refuses the connection: {shown(said, 100)}"
        if not self._address.user:
            return "the broker wants a user name; write user@host"
        if self._password is None:
            return f"the broker wants a password; give it with {PASSWORD_VARIABLE} or mqtt-password-file"
        return f"the broker does not take this password of user '{shown(self._address.user, 60)}'"

    def _lost(self) -> str:
        if not (self._up or self._address.tls):
            return "it closes the connection; if it wants TLS, write mqtts://"
        if self.last_words or not self._up:
            return self.last_words or "it closes the connection"
        return f"the connection was closed (or another client calls itself {self._client_id})"

    def _explain(self, error: Exception) -> str:
        import ssl

        if isinstance(error, socket.gaierror):
            return f"the name '{shown(self._address.host, 100)}' is not found ({error.strerror})"
        if isinstance(error, ConnectionRefusedError):
            return f"connection refused; is a broker listening on port {self._address.port}?"
        if isinstance(error, TimeoutError):
            return "it does not answer"
        if why := getattr(error, "verify_message", ""):
            mended_there = any(word in why for word in ("ostname", "IP address", "expired"))
            trust = "" if mended_there else "; give its CA with mqtt-ca"
            return f"its certificate is not valid: {shown(why, 160)}{trust}"
        if isinstance(error, ssl.SSLEOFError):
            return "it hung up on the TLS handshake; it may ask for a certificate, mqtt-cert"
        if why := getattr(error, "reason", ""):
            return f"TLS failed: {shown(str(why), 100).replace('_', ' ').lower()}"
        return shown(getattr(error, "strerror", None) or str(error) or type(error).__name__, 160)


class _LastWords(logging.Handler):
    """Keeps what the client says of a failure: it hands out no exceptions."""

    def __init__(self, connection: Connection) -> None:
        super().__init__(logging.WARNING)
        self._connection = connection

    def emit(self, record: logging.LogRecord) -> None:
        error = next((arg for arg in record.args or () if isinstance(arg, Exception)), None)
        self._connection.last_words = (
            self._connection._explain(error) if error is not None else shown(record.getMessage(), 160)
        )
