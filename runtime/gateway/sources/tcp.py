"""Lines from a TCP server, such as a serial-to-network bridge."""

from __future__ import annotations

import re
import select
import socket

from edgekd.runtime.errors import UsageError
from edgekd.runtime.json_fields import shown
from edgekd.runtime.sources import CHUNK_BYTES, TICK_S

CONNECT_S = 10.0
# A connection whose other end has lost its power looks like a silent one: asked after 30 s, it is lost after 60 s.
KEEPALIVE = {"TCP_KEEPIDLE": 30, "TCP_KEEPINTVL": 10, "TCP_KEEPCNT": 3}


class TcpServer:
    """The door to a TCP server; raises UsageError where `address` is not HOST:PORT or [IPV6]:PORT."""

    details = ""
    garbled = "check that this server and port send lines of samples"

    def __init__(self, address: str) -> None:
        self.name = address
        found = re.fullmatch(r"(?:\[([^]]+)\]|([^:\s]+)):(\d{1,5})", address)
        if not found or not 0 < int(found[3]) < 65536:
            raise UsageError(f"tcp {shown(address, 100)}: write HOST:PORT, or [ADDRESS]:PORT for IPv6")
        self._address = (found[1] or found[2], int(found[3]))

    def open(self) -> None:
        """Tries each address of the host; raises OSError where none answers."""
        self._connection = connection = socket.create_connection(self._address, CONNECT_S)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, value in KEEPALIVE.items():
            if hasattr(socket, option):
                connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)
        connection.settimeout(None)

    def read(self) -> bytes:
        """What has come, within TICK_S."""
        if not select.select([self._connection], [], [], TICK_S)[0]:
            return b""
        data = self._connection.recv(CHUNK_BYTES)
        if not data:
            raise ConnectionError("the server closed the connection")
        return data

    def close(self) -> None:
        """May raise OSError."""
        self._connection.close()

    def absent(self) -> bool:
        """To try costs the server something."""
        return False

    def advice(self, error: Exception) -> str:
        """What to do about a connection that failed."""
        if isinstance(error, socket.gaierror):
            return "; check the name and this machine's name server"
        if isinstance(error, ConnectionRefusedError):
            return "; check that the server runs and the port is right"
        return ""
