"""`page`: puts its parts together."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgekd.runtime import assembly
from edgekd.runtime.gateway.disk_writer import DiskWriter
from edgekd.runtime.gateway.http_server import HttpServer
from edgekd.runtime.gateway.options import GatewayOptions, history_of
from edgekd.runtime.gateway.page.handler import Handler, Site, token_of
from edgekd.runtime.gateway.page.history import History
from edgekd.runtime.gateway.page.sampler import Sampler
from edgekd.runtime.gateway.page.stream import Stream
from edgekd.runtime.gateway.sinks.fan_out import FanOut
from edgekd.runtime.layout import PLAIN

if TYPE_CHECKING:
    from edgekd.runtime.gateway.life import Life

NAMELESS = "stream"


class Page:
    """The history and the streams that it is of."""

    def __init__(self, options: GatewayOptions, writer: DiskWriter, fan_out: FanOut) -> None:
        """Raises UsageError where the page needs a token and has none."""
        self._options = options
        token = token_of(options)
        self._history = History(history_of(options) or "", writer, fan_out.tell)
        self._site = Site(self._history, {}, token)
        self._called: dict[str, str] = {}  # a stream's name -> what the page calls it
        self._several = lambda: fan_out.several

    def watch(self, name: str, life: Life) -> None:
        """Show this stream from now on."""
        options, loop = life.options, life.loop
        called = self._called[name] = options.name or (name if self._several() else NAMELESS)
        sampler = Sampler(called, loop, self._history)
        loop.watchers.insert(0, sampler)
        life.voice.history = sampler.event
        layout = PLAIN if options.frames or options.raw else assembly.layout_of(options, loop.detector.manifest)
        stream = Stream(called, loop, sampler, life.voice, life.exchange, layout, options.record, bool(options.state))
        # by name, whichever began first; a request may look at the old ones
        self._site.streams = dict(sorted({**self._site.streams, called: stream}.items()))

    def pause(self, name: str) -> None:
        """It is shown as silent meanwhile."""

    def forget(self, name: str) -> None:
        """This stream is gone; what is kept of it stays."""
        called = self._called.get(name)
        self._site.streams = {other: stream for other, stream in self._site.streams.items() if other != called}

    def serve(self) -> str:
        """From a thread of its own; the URL. Raises UsageError."""
        handler = type("PageHandler", (Handler,), {"site": self._site})
        return HttpServer("page", self._options.page or "", handler).url
