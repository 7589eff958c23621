"""The streams of the process, which come and go with its file and with what comes up at brokers."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from edgekd.runtime.gateway.life import aside
from edgekd.runtime.gateway.options import GatewayOptions, StreamOptions, name_of
from edgekd.runtime.gateway.shared import Shared
from edgekd.runtime.gateway.sinks.voice import Voice
from edgekd.runtime.gateway.stream import Stream
from edgekd.runtime.loop import Loop
from edgekd.runtime.sinks import wall_time

if TYPE_CHECKING:  # few files need a broker
    from edgekd.runtime.gateway.mqtt.each import Each


class Streams:
    """All of them, in the order of the file. `all` and `loops` may be asked from any thread."""

    def __init__(self, shared: Shared, reset_threshold: bool) -> None:
        self._shared = shared
        self._reset_threshold = reset_threshold
        streams = [Stream(shared, stream, reset_threshold) for stream in shared.options.streams if not stream.each]
        self._by_name = {stream.name: stream for stream in streams}
        self._each: dict[StreamOptions, Each] = {}

    @property
    def all(self) -> list[Stream]:
        """Those of now."""
        return list(self._by_name.values())

    @property
    def ended(self) -> bool:
        """Whether nothing will come any more."""
        return not self._each and all(stream.ended for stream in self._by_name.values())

    def loops(self) -> list[Loop]:
        """Of those that run."""
        return [stream.life.loop for stream in self.all if stream.life]

    def take(self, options: GatewayOptions) -> dict[str, list[str]]:
        """Go on with the streams of this file; those that are the same in it go on untouched."""
        wanted = {name_of(stream): stream for stream in options.streams if not stream.each}
        same = {name: s.options for name, s in self._by_name.items() if s.each and s.each.template in options.streams}
        wanted = {**same, **wanted}
        running = {name: stream.options for name, stream in self._by_name.items()}
        gone = [name for name in running if wanted.get(name) != running[name]]
        new = [name for name in wanted if wanted[name] != running.get(name)]
        if new or gone:
            self._shared.alone = False
        if len({*running, *wanted}) > 1 or options.several:
            self._name_streams()
        closing: dict[str, threading.Thread | None] = {}
        for name in gone:
            stream = self._by_name.pop(name)
            closing[name] = stream.end()
            stream.release()
        self._by_name |= {name: Stream(self._shared, wanted[name], after=closing.get(name)) for name in new}
        changes = {
            "added": [name for name in new if name not in running],
            "changed": [name for name in new if name in running],
            "removed": [name for name in gone if name not in wanted],
            "subscriptions": self.subscribe(options),
        }
        return {what: names for what, names in changes.items() if names}

    def _name_streams(self) -> None:
        """There are several from now on, and events say of which one they are."""
        fan_out = self._shared.fan_out
        if not fan_out.several:
            self._shared.alone = False
            fan_out.several, fan_out.voice = True, Voice(fan_out)

    def subscribe(self, options: GatewayOptions) -> list[str]:
        """Begin and end subscriptions of several streams, as the file says now; the topics of those that are new."""
        templates = [stream for stream in options.streams if stream.each]
        for template in [template for template in self._each if template not in templates]:
            aside(self._each.pop(template).subscription.stop)
        new = [template for template in templates if template not in self._each]
        for template in new:
            from edgekd.runtime.gateway.mqtt.each import Each

            shared = self._shared
            each = self._each[template] = Each(template, shared.options, shared.fan_out.tell, shared.wake)
            each.subscription.start()
        return [template.mqtt or "" for template in new]

    def tick(self) -> None:
        """Begin a stream for each name that has come up at a broker."""
        for each in self._each.values():
            for options in each.new():
                if (name := name_of(options)) in self._by_name:
                    reason = f"another stream is called '{name}'"
                    self._shared.fan_out.tell("stream_left_out", reason, {"topic": options.mqtt, "reason": reason})
                else:
                    self._by_name[name] = Stream(self._shared, options, self._reset_threshold, each=each)
                    self._by_name[name].voice.emit({"event": "stream_found", "time": wall_time()})

    def unsubscribe(self) -> list[threading.Thread | None]:
        """From all that several streams share; the threads that do so."""
        return [aside(each.subscription.stop) for each in self._each.values()]
