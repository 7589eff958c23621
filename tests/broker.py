"""A real Mosquitto on a free port of loopback, a consumer with its own client, a network that fails on demand."""

from __future__ import annotations

import contextlib
import json
import shutil
import socket
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from device import eventually as eventually

PATIENCE_S = 30.0  # only a hang takes this long
MOSQUITTO = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin")

needs_broker = pytest.mark.skipif(MOSQUITTO is None, reason="the mosquitto broker is not installed")


def free_port() -> int:
    """A port of loopback that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Broker:
    """A Mosquitto that can be stopped and started again, its configuration and what it keeps in one folder."""

    def __init__(self, folder: Path, *lines: str, port: int = 0) -> None:
        self.port = port or free_port()
        self._config = folder / f"mosquitto-{self.port}.conf"
        keep = folder / f"kept-{self.port}"
        keep.mkdir()
        settings = [
            f"listener {self.port} 127.0.0.1",
            "user root",  # only where the test runs as root: it could not read its own files otherwise
            "persistence true",
            f"persistence_location {keep}/",
            "max_queued_messages 100000",
            *(lines or ("allow_anonymous true",)),
        ]
        self._config.write_text("\n".join(settings) + "\n")
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    def __enter__(self) -> Broker:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Until it takes connections."""
        assert MOSQUITTO is not None
        log = self._config.with_suffix(".log").open("ab")
        self._process = subprocess.Popen([MOSQUITTO, "-c", self._config], stdout=log, stderr=log)
        log.close()
        eventually(self._listens, "the broker's start")

    def stop(self) -> None:
        """In an orderly way, as a system that is updated does."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(PATIENCE_S)
            self._process = None

    def signal(self, number: int) -> None:
        """A signal to its process."""
        assert self._process is not None
        self._process.send_signal(number)

    def _listens(self) -> bool:
        assert self._process is not None and self._process.poll() is None, self._config.with_suffix(".log").read_text()
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1.0):
            return True
        return False


class Consumer:
    """Subscribes to topics and keeps what comes."""

    def __init__(self, port: int, topic: str = "#", **session: Any) -> None:
        import paho.mqtt.client as paho

        self.messages: list[tuple[str, bytes]] = []
        self._ready = threading.Event()
        self.client = paho.Client(paho.CallbackAPIVersion.VERSION2, **session)
        self.client.on_connect = lambda client, *_: client.subscribe(topic, 1)
        self.client.on_subscribe = lambda *_: self._ready.set()
        self.client.on_message = lambda _, __, message: self.messages.append((message.topic, message.payload))
        self.client.reconnect_delay_set(0.1, 0.2)
        self.client.connect("127.0.0.1", port, 600)
        self.client.loop_start()
        assert self._ready.wait(PATIENCE_S)

    def __enter__(self) -> Consumer:
        return self

    def __exit__(self, *_: object) -> None:
        self.client.disconnect()
        self.client.loop_stop()

    def publish(self, topic: str, payload: str | bytes, retain: bool = False) -> None:
        """Until the broker has it."""
        self.client.publish(topic, payload, 1, retain).wait_for_publish(PATIENCE_S)

    def events(self, topic: str = "alerts") -> list[dict[str, Any]]:
        """What came under a topic, as JSON."""
        return [json.loads(payload) for found, payload in list(self.messages) if found == topic]


class Network:
    """A TCP proxy before a port: it can stall, be slow, refuse, and cut off what is open."""

    def __init__(self, port: int) -> None:
        self._to = port
        self.delay_s = 0.0
        self.stalled = False
        self._open: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        """Every connection at once."""
        for end in self._open:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        self._open.clear()

    def close(self) -> None:
        """Refuse from now on."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
                far = socket.create_connection(("127.0.0.1", self._to))
            except OSError:
                with contextlib.suppress(OSError, UnboundLocalError):
                    near.close()
                if self._listener.fileno() < 0:
                    return
                continue
            self._open += [near, far]
            for source, sink in ((near, far), (far, near)):
                threading.Thread(target=self._pass, args=(source, sink), daemon=True).start()

    def _pass(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                while self.stalled:
                    time.sleep(0.01)
                time.sleep(self.delay_s)
                sink.sendall(data)
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
