"""`page`: puts its parts together."""

from __future__ import annotations

from edgekd.runtime import assembly
from edgekd.runtime.disk_writer import DiskWriter
from edgekd.runtime.gateway.http_server import HttpServer
from edgekd.runtime.gateway.models.exchange import Exchange
from edgekd.runtime.gateway.options import GatewayOptions, StreamOptions, history_of
from edgekd.runtime.gateway.page.handler import Handler, Site, token_of
from edgekd.runtime.gateway.page.history import History
from edgekd.runtime.gateway.page.sampler import Sampler
from edgekd.runtime.gateway.page.stream import Stream
from edgekd.runtime.gateway.sinks.fan_out import FanOut
from edgekd.runtime.layout import PLAIN
from edgekd.runtime.loop import Loop

NAMELESS = "stream"


class Page:
    """The history and the streams that it is of."""

    def __init__(self, options: GatewayOptions, writer: DiskWriter, fan_out: FanOut) -> None:
        """Raises UsageError where the page needs a token and has none."""
        self._options = options
        self._token = token_of(options)
        self._history = History(history_of(options) or "", writer, fan_out.tell)
        self._streams: dict[str, Stream] = {}

    def watch(self, options: StreamOptions, loop: Loop, fan_out: FanOut, exchange: Exchange) -> None:
        """Show this stream."""
        name = options.name or NAMELESS
        sampler = Sampler(name, loop, self._history)
        loop.watchers.insert(0, sampler)
        fan_out.history = sampler.event
        layout = PLAIN if options.frames or options.raw else assembly.layout_of(options, loop.detector.manifest)
        muted = options.state is not None
        self._streams[name] = Stream(name, loop, sampler, fan_out, exchange, layout, options.record, muted)

    def serve(self) -> str:
        """From a thread of its own; the URL. Raises UsageError."""
        site = Site(self._history, self._streams, self._token)
        handler = type("PageHandler", (Handler,), {"site": site})
        return HttpServer("page", self._options.page or "", handler).url
