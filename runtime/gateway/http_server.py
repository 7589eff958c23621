"""The HTTP server behind `metrics` and `page`: a thousand clients that say nothing cost the run a few threads."""

from __future__ import annotations

import contextlib
import socket
import socketserver
import threading
from collections import deque
from typing import Any

from edgekd.runtime.errors import UsageError
from edgekd.runtime.json_fields import shown

MAX_CLIENTS = 16  # a scraper or two, and whoever looks
LOOPBACK = "127.0.0.1"
USUAL_PORTS = {"metrics": 9108, "page": 8420}


class HttpServer(socketserver.ThreadingTCPServer):
    """Answers each client in a thread. Where too many are open, the oldest is cut off: an honest one is long done."""

    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 128

    def __init__(self, key: str, address: str, handler: Any) -> None:
        """key: of the file, which has the address. Raises UsageError where nothing can listen there."""
        self.host, port = parse_address(key, address)
        self._clients: deque[Any] = deque()
        try:
            self.address_family = socket.getaddrinfo(self.host, port, type=socket.SOCK_STREAM)[0][0]
            super().__init__((self.host, port), handler)
        except OSError as error:
            why = error.strerror or error
            raise UsageError(f"{key} {shown(address, 100)}: {why}; give another address or port") from None
        threading.Thread(target=self.serve_forever, name=key, daemon=True).start()

    @property
    def url(self) -> str:
        """Where it listens, also where the system chose the port."""
        host = socket.gethostname() if self.host in ("0.0.0.0", "::") else self.host
        return f"http://{f'[{host}]' if ':' in host else host}:{self.server_address[1]}"

    def process_request(self, request: Any, client_address: Any) -> None:
        """Make room first."""
        self._clients.append(request)
        if len(self._clients) > MAX_CLIENTS:
            with contextlib.suppress(OSError):
                self._clients.popleft().shutdown(socket.SHUT_RDWR)  # its thread finds the end, and closes it
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        """It is over."""
        with contextlib.suppress(ValueError):  # it was cut off
            self._clients.remove(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that leaves early is no news."""


def parse_address(key: str, text: str) -> tuple[str, int]:
    """`[HOST]:PORT`; loopback where there is no host. Raises UsageError."""
    host, _, port = text.rpartition(":")
    if not (port.isascii() and port.isdigit() and int(port) < 65536):
        port = f":{USUAL_PORTS[key]}"
        raise UsageError(f"{key} {shown(text, 100)}: write {port}, or 0.0.0.0{port} for the whole network")
    return host.removeprefix("[").removesuffix("]") or LOOPBACK, int(port)
