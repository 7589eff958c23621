"""The page over HTTP: who may see what, and what is answered.

Everything but the page's own files wants the token, in a header that no other site's page can send. On loopback the
page brings one that lives as long as this process; elsewhere it asks for the user's. A page of another site that calls
itself by our address (DNS rebinding) has neither: with our own token, only loopback's names are answered.
"""

from __future__ import annotations

import base64
import contextlib
import gzip
import hmac
import io
import ipaddress
import json
import math
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from http.server import BaseHTTPRequestHandler
from importlib.resources import files
from typing import Any
from urllib.parse import parse_qs, urlsplit

from edgekd.runtime.errors import EdgeKDError, UsageError
from edgekd.runtime.files import sha256
from edgekd.runtime.gateway.http_server import parse_address
from edgekd.runtime.gateway.mute import MAX_BYTES as MAX_SPAN_BYTES
from edgekd.runtime.gateway.options import GatewayOptions
from edgekd.runtime.gateway.page import queries
from edgekd.runtime.gateway.page.download import write_download
from edgekd.runtime.gateway.page.history import TIERS, History, Unkept
from edgekd.runtime.gateway.page.stream import Stream
from edgekd.runtime.gateway.secret import VARIABLES, credential, read_secret
from edgekd.runtime.gateway.watchers.threads import fault
from edgekd.runtime.json_fields import shown

LEAST_TOKEN = 16  # characters: whoever guesses it may take years
PATIENCE_S = 10.0  # for a client that says nothing, or takes nothing
HEAD_BYTES, BODY_BYTES = 16_384, 16_384
MOST_NOTE = 1000  # characters
MOST_FIELDS = 40  # of an address
DAY_S = 86_400.0
FRESH_S = 1.0
FILES = {
    "page.js": "text/javascript",
    "vendor/uPlot.iife.min.js": "text/javascript",
    "vendor/uPlot.min.css": "text/css",
}
"""What the page is made of beside index.html, and its kind."""


class Refused(Exception):
    """An answer that is no good news."""

    def __init__(self, status: int, words: str) -> None:
        super().__init__(words)
        self.status = status


@dataclass
class Site:
    """All that is served."""

    history: History
    streams: Mapping[str, Stream]
    token: str | None
    """The user's; None on loopback, where the page brings one."""
    told: dict[str, tuple[float, bytes]] = field(default_factory=dict)
    """What was said of each stream, and until when it is fresh."""

    @cached_property
    def own_token(self) -> str:
        """Of this process."""
        return os.urandom(24).hex()

    @cached_property
    def index(self) -> str:
        """The page itself."""
        return (files("edgekd.runtime.gateway.page") / "index.html").read_text(encoding="utf-8")

    @cached_property
    def packed(self) -> dict[str, bytes]:
        """The files, as they go out."""
        folder = files("edgekd.runtime.gateway.page")
        return {name: gzip.compress((folder / name).read_bytes()) for name in FILES}

    @cached_property
    def policy(self) -> str:
        """What a browser may load and run for the page: its own files and no others."""
        style = self.index.partition("<style>")[2].partition("</style>")[0]
        digest = base64.b64encode(bytes.fromhex(sha256(style.encode()))).decode()
        return (
            f"default-src 'none'; script-src 'self'; style-src 'self' 'sha256-{digest}'; connect-src 'self';"
            " img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
        )


def token_of(options: GatewayOptions) -> str | None:
    """What the page asks for; None on loopback without one. Raises UsageError where it cannot do without."""
    address, key = options.page or "", "page-token-file"
    token = read_secret("page-token", credential("page-token", options.page_token_file))
    if token is not None and not (len(token) >= LEAST_TOKEN and token.isascii() and token.isprintable()):
        raise UsageError(f"{key} or {VARIABLES['page-token']}: give {LEAST_TOKEN} or more characters of ASCII")
    if token is None and not _is_loopback(parse_address("page", address)[0]):
        make = "head -c 24 /dev/urandom | base64 > FILE"
        raise UsageError(f"page {shown(address, 100)} is open to the network; give {key}, made with {make}")
    return token


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _name_in(host: str) -> str:
    """The name without its port, of a Host header."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


class _Bounded:
    """A request, of which no more than so many bytes are read."""

    def __init__(self, file: Any) -> None:
        self._file = file
        self._left = HEAD_BYTES + BODY_BYTES

    def readline(self, limit: int = -1) -> bytes:
        return self._took(self._file.readline(self._left if limit < 0 else min(limit, self._left)))

    def read(self, count: int) -> bytes:
        return self._took(self._file.read(min(count, self._left)))

    def close(self) -> None:
        self._file.close()

    def _took(self, data: bytes) -> bytes:
        self._left -= len(data)
        return data


class Handler(BaseHTTPRequestHandler):
    """One request; a subclass has the `site`."""

    site: Site
    timeout = PATIENCE_S
    server_version, sys_version = "EdgeKD", ""

    def setup(self) -> None:
        super().setup()
        self.rfile: Any = _Bounded(self.rfile)

    def do_GET(self) -> None:
        self._answer({
            "/": self._page, **{f"/{name}": self._file for name in FILES}, "/api/streams": self._streams,
            "/api/stream": self._stream, "/api/curves": self._curves, "/api/alarms": self._alarms,
            "/api/events": self._events, "/api/download": self._download,
        })  # fmt: skip

    def do_POST(self) -> None:
        self._answer({"/api/mark": self._mark, "/api/mute": self._mute})

    def log_message(self, *_: Any) -> None:
        """Who looks at the page is nobody's business."""

    def _answer(self, known: Mapping[str, Callable[[], None]]) -> None:
        try:
            path = self._asked_path()
            self._admit(path.startswith("/api/"))
            if path not in known:
                raise Refused(404, "there is nothing here")
            known[path]()
        except OSError:  # whoever asked has left
            raise
        except Refused as error:
            self._json({"error": str(error)}, error.status)
        except Unkept as error:
            self._json({"error": str(error)}, 503)
        except EdgeKDError as error:
            self._json({"error": str(error)}, 400)
        except Exception as error:
            self._json({"error": str(fault(error, "page"))}, 500)

    def _asked_path(self) -> str:
        """The path; what is asked beside it goes to `asked`."""
        try:
            url = urlsplit(self.path)
            self.asked = parse_qs(url.query, max_num_fields=MOST_FIELDS)
        except ValueError:
            raise Refused(400, "this is no address") from None
        return url.path

    def _admit(self, secret: bool) -> None:
        host, origin = self.headers.get("Host", ""), self.headers.get("Origin")
        if self.site.token is None and not _is_loopback(_name_in(host)):
            raise Refused(403, "this page answers to localhost alone; page-token-file opens it")
        if origin is not None and origin.partition("://")[2] != host:
            raise Refused(403, "a page of another site asks for this")
        given = self.headers.get("Authorization", "").removeprefix("Bearer ").encode()
        if secret and not hmac.compare_digest(given, (self.site.token or self.site.own_token).encode()):
            raise Refused(401, "wrong token")

    def _page(self) -> None:
        token = "" if self.site.token else self.site.own_token
        self._send(200, "text/html; charset=utf-8", self.site.index.replace("{token}", token).encode())

    def _file(self) -> None:
        name = self._asked_path()[1:]
        self._send(200, FILES[name], self.site.packed[name], packed=True)

    def _streams(self) -> None:
        found = [{**stream.summary(), "counts": self._counts(stream)} for stream in self.site.streams.values()]
        self._json({"streams": found, "problem": self.site.history.problem})

    def _stream(self) -> None:
        """One answer serves all who ask at about the same time, so that viewers take little from detection."""
        stream, now = self._asked_stream(), time.monotonic()
        stale_at, data = self.site.told.get(stream.name, (0.0, b""))
        if now >= stale_at:
            history = {"changes": self.site.history.changes, "problem": self.site.history.problem}
            data = _encoded({**stream.details(), "counts": self._counts(stream), **history})
            self.site.told[stream.name] = now + FRESH_S, data
        self._json(data)

    def _counts(self, stream: Stream) -> dict[str, int]:
        """Events of a day; none where they cannot be read."""
        with contextlib.suppress(Unkept), self.site.history.read() as db:
            return queries.counts(db, stream.name, (stream.sampler.now or time.time()) - DAY_S)
        return {}

    def _curves(self) -> None:
        given = self.asked.get("size", [""])[0]
        size = int(given) if given.isdecimal() and int(given) in TIERS else None
        sensors = self.asked.get("sensor", [])
        with self.site.history.read() as db:
            self._json(queries.curves(db, self._asked_stream().name, *self._span(), sensors, size))

    def _alarms(self) -> None:
        with self.site.history.read() as db:
            self._json(queries.alarms(db, self._asked_stream().name, *self._span()))

    def _events(self) -> None:
        with self.site.history.read() as db:
            self._json(queries.events(db, self._asked_stream().name, *self._span()))

    def _download(self) -> None:
        stream, (begin, end) = self._asked_stream(), self._span()
        with self.site.history.read() as db:
            write_download(_Late(self), db, stream.name, begin, end, stream.record, stream.layout)

    def _mark(self) -> None:
        given = self._body()
        stream = self._known(given.get("stream"))
        alarm, mark, note = given.get("alarm"), given.get("mark"), given.get("note", "")
        if not (isinstance(note, str) and (alarm is None or isinstance(alarm, str)) and mark in (True, False, None)):
            raise Refused(400, "a mark is true, false or null, and a note is text")
        span = None if alarm else _ordered(given.get("start"), given.get("end"))
        line = " ".join("".join(c if c.isprintable() else " " for c in note).split())[:MOST_NOTE]
        self.site.history.mark(stream.name, alarm, span, mark, line)
        self.site.told.clear()
        self._json({})

    def _mute(self) -> None:
        given = self._body()
        stream, span = self._known(given.get("stream")), given.get("span")
        if not isinstance(span, str) or len(span.encode()) > MAX_SPAN_BYTES:
            raise Refused(400, "a span is text such as 2h")
        if not (stream.can_mute and stream.voice.mute):
            raise Refused(400, "without state, alarms cannot be muted")
        stream.voice.mute.ask(span)
        self.site.told.clear()
        self._json({})

    def _body(self) -> dict[str, Any]:
        length = self.headers.get("Content-Length", "")
        if not length.isdecimal() or int(length) > BODY_BYTES:
            raise Refused(413, f"at most {BODY_BYTES} bytes")
        try:
            found = json.loads(self.rfile.read(int(length)))
        except (ValueError, RecursionError):
            found = None
        if not isinstance(found, dict):
            raise Refused(400, "not a JSON object")
        return found

    def _asked_stream(self) -> Stream:
        return self._known(self.asked.get("stream", [""])[0])

    def _known(self, name: object) -> Stream:
        if not isinstance(name, str) or name not in self.site.streams:
            raise Refused(404, "there is no such stream")
        return self.site.streams[name]

    def _span(self) -> tuple[float, float]:
        return _ordered(*(self.asked.get(name, [None])[0] for name in ("from", "to")))

    def _json(self, what: Any, status: int = 200) -> None:
        data = what if isinstance(what, bytes) else _encoded(what)
        packed = len(data) > 1000 and "gzip" in self.headers.get("Accept-Encoding", "")
        self._send(status, "application/json", gzip.compress(data, 1) if packed else data, packed)

    def _send(self, status: int, kind: str, data: bytes, packed: bool = False) -> None:
        self._head(status, kind, {"Content-Length": str(len(data))} | ({"Content-Encoding": "gzip"} if packed else {}))
        self.wfile.write(data)

    def _head(self, status: int, kind: str, more: Mapping[str, str]) -> None:
        self.send_response(status)
        for name, value in {
            "Content-Type": kind,
            "Content-Security-Policy": self.site.policy,
            "X-Content-Type-Options": "nosniff",
            "Referrer-Policy": "no-referrer",
            "Cross-Origin-Resource-Policy": "same-origin",
            "Cache-Control": "no-store",
            **more,
        }.items():
            self.send_header(name, value)
        self.end_headers()


class _Late(io.RawIOBase):
    """A download whose head goes out with its first bytes: up to then it may be refused."""

    def __init__(self, handler: Handler) -> None:
        self._handler = handler
        self._begun = False

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        if not self._begun:
            self._begun = True
            self._handler._head(200, "application/zip", {"Content-Disposition": "attachment; filename=edgekd.zip"})
        return self._handler.wfile.write(data)


def _encoded(what: Any) -> bytes:
    return json.dumps(what, allow_nan=False, separators=(",", ":")).encode()


def _ordered(begin: Any, end: Any) -> tuple[float, float]:
    try:
        found = float(begin), float(end)
    except (TypeError, ValueError):
        found = math.nan, math.nan
    if not found[0] <= found[1] or not all(abs(at) < 1e11 for at in found):
        raise Refused(400, "a span is from … to, in seconds since 1970")
    return found
