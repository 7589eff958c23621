"""The parts of one stream from a start to its end, put together."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, cast

from edgekd.runtime import assembly
from edgekd.runtime.detector import Detector
from edgekd.runtime.errors import EdgeKDError, InputLost
from edgekd.runtime.gateway.bell import Bell
from edgekd.runtime.gateway.models.exchange import Exchange
from edgekd.runtime.gateway.models.store import Store
from edgekd.runtime.gateway.models.trial import Switch
from edgekd.runtime.gateway.mute import Mute
from edgekd.runtime.gateway.options import GatewayOptions, StreamOptions, at_broker
from edgekd.runtime.gateway.shared import Shared
from edgekd.runtime.gateway.sinks.voice import Voice
from edgekd.runtime.gateway.watchers.site_threshold import SiteThreshold, ThresholdWatcher
from edgekd.runtime.gateway.watchers.systemd import HUNG_S
from edgekd.runtime.loop import Loop
from edgekd.runtime.sources import TICK_S, InputEvent, Items, Row, Source
from edgekd.runtime.sources.reconnect import Door
from edgekd.runtime.watchers.state_keeper import StateKeeper

if TYPE_CHECKING:
    from edgekd.runtime.gateway.mqtt.each import Subscription


TURN_S = 0.005
"""What a stream may take at once while others wait: a step takes a tenth of that."""


class PartedLoop(Loop):
    """A loop that can leave the rest of what has come for later."""

    _left: Iterator[Row | InputEvent] = iter(())

    def take(self, items: Items) -> None:
        """What has come, to go through it with `go_on`."""
        for watcher in self.watchers:
            watcher.arrived(items)
        self._left = iter(items)

    def go_on(self, seconds: float) -> bool:
        """For about so long; whether all has gone through."""
        until = time.monotonic() + seconds
        for item in self._left:
            if isinstance(item, InputEvent):
                self._input(item)
            else:
                self._sample(item)
            if self.stopped:
                break
            if time.monotonic() > until:
                return False
        for watcher in self.watchers:
            watcher.tick()
        return True


class Life:
    """A stream that runs."""

    def __init__(
        self,
        options: StreamOptions,
        voice: Voice,
        shared: Shared,
        reset_threshold: bool,
        subscription: Subscription | None = None,
    ) -> None:
        """reset_threshold: forget what the site has learned. subscription: that it has together with other streams.

        Raises EdgeKDError for what cannot work.
        """
        self.options = options
        self.voice = voice
        self.more = True
        """Whether there may be more to do at once."""
        self.due = 0.0
        """When it is to be turned if nothing comes, on the monotonic clock."""
        self._left = False  # whether the last turn was not whole
        self._shared = shared
        self._store = Store(Path(f"{options.state}.models") if options.state else None, options.model)
        running, self._path = self._load()
        switch = Switch(running)
        detector = cast(Detector, switch)
        source = open_source(shared.options, options, detector, subscription)
        self.fd: int | None = getattr(source, "fd", None)
        """What can be read when there is more; None: no such thing."""
        self._bell = Bell(shared.wake) if hasattr(source, "changed") else None
        if self._bell:
            source.changed = self._bell  # type: ignore[attr-defined]
        voice.mute = Mute(
            Path(f"{options.state}.mute") if options.state else None, shared.writer, voice.emit, voice.say
        )
        episodes = assembly.episodes_of(options, detector)
        self.loop = PartedLoop(source, detector, episodes, voice.emit, voice.say, options.scores)
        self.exchange = self._watch(switch, voice.mute, reset_threshold)
        self._arriving = cast(Generator[Items, None, None], iter(source))

    def begin(self) -> None:
        """Before the first turn; the disk is waited for."""
        self.exchange.start(self._path, self._store.begin(self._path))
        try:
            self.loop.begin()
        except BaseException:
            self.exchange.end()
            raise

    def is_due(self, now: float) -> bool:
        """Whether there may be something to do."""
        return self.more or now >= self.due or (self._bell is not None and self._bell.rung)

    def turn(self, now: float, alone: bool) -> bool:
        """What has come, once, or a part of it; False where the input has ended.

        alone: no other stream waits. Else raises InputLost where the thread of the input hangs.
        """
        source = self.loop.source
        if not self._left:
            if self._bell:
                self._bell.rung = False
            items = next(self._arriving, None)
            if items is None:
                return False
            self.loop.take(items)
            self.more, self.due = bool(items) or not (source.live and source.idle), now + TICK_S
        self._left = not self.loop.go_on(math.inf if alone else TURN_S)
        if not alone and source.turned_s is not None and now - source.turned_s > HUNG_S:
            raise InputLost(f"{source.name}: the thread that reads it hangs")
        return True

    def close(self) -> threading.Thread:
        """Let go of the input, which may take a while."""
        return aside(self._arriving.close)

    def _load(self) -> tuple[Detector, Path]:
        """The model to start with and where it lies; raises what `Detector.load` does where none is good."""
        *kept, model = self._store.first(self.options.state)
        for path in (*kept, model):
            try:
                return self._shared.engines.load(path, self.options), path
            except EdgeKDError as error:
                if path is model:
                    raise
                self.voice.say(f"a kept model is left out: {error}")
        raise AssertionError

    def _watch(self, switch: Switch, mute: Mute, reset_threshold: bool) -> Exchange:
        """All that looks on."""
        loop, stream, writer = self.loop, self.options, self._shared.writer
        first = assembly.samples_in(stream.calibrate_for, switch.manifest.period_s)
        band = stream.adapt_band if stream.adapt else None

        def site_of(detector: Detector, reset: bool = False) -> SiteThreshold:
            return SiteThreshold(detector.manifest, detector.threshold, first, band, reset, stream.calibrate_band)

        threshold = ThresholdWatcher(loop, site_of(switch.running, reset_threshold))

        def keeper() -> list[StateKeeper]:
            """What keeps the state of the model that runs now."""
            keepers = assembly.keeper_of(stream, loop, writer, {"threshold": threshold, "mute": mute})
            self.voice.keeper = keepers[0] if keepers else None
            return keepers

        def save() -> None:
            if old := self.voice.keeper:
                (new,) = keeper()
                new.stream_id, new.failures = old.stream_id, old.failures
                loop.watchers[loop.watchers.index(old)] = new
                new.save()

        engines = self._shared.engines
        exchange = Exchange(loop, switch, stream, self._store, engines, site_of, threshold, writer, save)
        loop.watchers = [*assembly.watchers_of(stream, loop), mute, exchange, threshold, *keeper()]
        if stream.give_up_after is not None and (stream.serial or stream.tcp):
            from edgekd.runtime.gateway.watchers.give_up import GiveUp

            loop.watchers.append(GiveUp(loop, stream.give_up_after))
        return exchange


def aside(job: Callable[[], None]) -> threading.Thread:
    """Do what may take a while, in a thread of its own."""
    thread = threading.Thread(target=job, name="aside", daemon=True)
    thread.start()
    return thread


def open_source(
    options: GatewayOptions, stream: StreamOptions, detector: Detector, subscription: Subscription | None = None
) -> Source:
    """The stream's input, of the kinds that only a gateway has or of those of `edgekd-run`."""
    manifest = detector.manifest
    if stream.tcp or stream.serial:
        from edgekd.runtime.gateway.sources.tcp import TcpServer
        from edgekd.runtime.sources.serial_line import SerialPort

        door: Door = TcpServer(stream.tcp) if stream.tcp else SerialPort(stream.serial or "", stream.baud)
        if stream.idle_timeout:
            from edgekd.runtime.gateway.sources.idle_timeout import IdleTimeout

            door = IdleTimeout(door, stream.idle_timeout)
        return assembly.connection(door, stream, detector)
    columns, layout = assembly.columns_of(stream.maps, manifest), assembly.layout_of(stream, manifest)
    likely = stream.layout is None
    if stream.csv and stream.follow:
        from edgekd.runtime.gateway.sources.growing_file import GrowingFile

        return GrowingFile(stream.csv, manifest, columns, layout, stream.give_up_after, likely)
    if stream.mqtt:
        from edgekd.runtime.gateway.mqtt.connection import parse_url
        from edgekd.runtime.gateway.mqtt.subscribe import MqttMessages

        address, (secrets, place) = parse_url(stream.mqtt, "mqtt"), at_broker(options, stream)
        return MqttMessages(address, secrets, manifest, columns, layout, likely, place=place, subscription=subscription)
    return assembly.open_source(stream, detector)
