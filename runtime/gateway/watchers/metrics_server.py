"""The HTTP server behind `metrics`: a thousand clients that say nothing cost the run a few threads and descriptors."""

from __future__ import annotations

import contextlib
import socket
import socketserver
import threading
from collections import deque
from typing import Any

from prometheus_client import CollectorRegistry, MetricsHandler

MAX_CLIENTS = 16  # a scraper or two, and whoever looks


class MetricsServer(socketserver.ThreadingTCPServer):
    """Answers each client in a thread. Where too many are open, the oldest is cut off: an honest one is long done.

    Raises OSError where it cannot listen there.
    """

    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 128

    def __init__(self, host: str, port: int, registry: CollectorRegistry) -> None:
        self.address_family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        self._clients: deque[Any] = deque()
        super().__init__((host, port), MetricsHandler.factory(registry))
        threading.Thread(target=self.serve_forever, name="metrics", daemon=True).start()

    @property
    def port(self) -> int:
        """Where it listens, also where the system chose."""
        return int(self.server_address[1])

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
