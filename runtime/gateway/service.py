"""The service: the streams of one file, driven by one thread, with everything that they share.

To read it, begin here; then `streams.py`, `stream.py` for one of them, and `life.py` for what it is while it runs.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable
from functools import partial
from typing import Protocol

from edgekd.runtime import assembly
from edgekd.runtime.cli import SWITCH_S, forget_stdout
from edgekd.runtime.errors import EdgeKDError, InputLost
from edgekd.runtime.gateway.bell import Wake
from edgekd.runtime.gateway.config_file import ConfigFile
from edgekd.runtime.gateway.disk_writer import DiskWriter
from edgekd.runtime.gateway.options import GatewayOptions, place_of
from edgekd.runtime.gateway.outlets import deliver
from edgekd.runtime.gateway.shared import Shared
from edgekd.runtime.gateway.sinks.fan_out import FanOut
from edgekd.runtime.gateway.sinks.interface import Turning
from edgekd.runtime.gateway.sinks.spare import SpareStdout
from edgekd.runtime.gateway.stream import Stream
from edgekd.runtime.gateway.streams import Streams
from edgekd.runtime.gateway.watchers.clock import WallClock
from edgekd.runtime.gateway.watchers.heartbeat import Heartbeat
from edgekd.runtime.gateway.watchers.systemd import Service, Systemd
from edgekd.runtime.gateway.watchers.threads import Threads
from edgekd.runtime.signals import Signals
from edgekd.runtime.sinks import Sink, StderrLines, wall_time
from edgekd.runtime.sources import END_S, TICK_S
from edgekd.runtime.watchers.state_keeper import END_WAIT_S, StateKeeper

M_MMAP_THRESHOLD, M_ARENA_MAX = -3, -8  # malloc.h


class Ticking(Protocol):
    """Something of the whole process that comes round with the streams."""

    def tick(self) -> None:
        """Nothing here may block."""


def give_back_memory() -> None:
    """glibc keeps blocks of a size that was freed once, up to 32 MiB of them, as a message or a model may be; and each
    thread, such as a viewer's, may leave some in an arena of its own."""
    with contextlib.suppress(OSError, AttributeError):  # another C library
        libc = ctypes.CDLL(None)
        libc.mallopt(M_MMAP_THRESHOLD, 2**20)
        libc.mallopt(M_ARENA_MAX, 1)


def run(file: str, options: GatewayOptions, reset_threshold: bool = False) -> int:
    """Run until the inputs end, or a signal; the exit code. reset_threshold: forget what the sites have learned."""
    return Gateway(file, options, reset_threshold).run()


class Gateway:
    """The process."""

    def __init__(self, file: str, options: GatewayOptions, reset_threshold: bool) -> None:
        sys.setswitchinterval(SWITCH_S)
        give_back_memory()
        self._options = options
        self._say = StderrLines("edgekd-gateway", options.quiet)
        self._writer, self._wake = DiskWriter(), Wake()
        self._fan_out = FanOut(self._stdout(), self._writer, self._say)
        self._fan_out.several = options.several
        self._shared = Shared(options, self._fan_out, self._writer, self._wake, alone=not options.several)
        self._turning: list[Turning] = []
        self._ticking: list[Ticking] = []
        self._ends: list[Callable[[], None]] = []
        self._stopped = False
        self._streams = Streams(self._shared, reset_threshold)
        self._file = ConfigFile(file, options, self._fan_out, self._streams.take)

    def run(self) -> int:
        """See `run`."""
        if self._shared.alone:  # what does not fit is told before anything else begins
            (first,) = self._streams.all
            self._fan_out.voice = first.voice
            life = first.build()
        deliver(self._options, self._fan_out, self._writer, patient=all(s.ends for s in self._options.streams))
        self._watch()
        self._serve(lambda: first.show(life) if self._shared.alone else None)
        signals = Signals("edgekd-gateway", self._stop)
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN and not os.isatty(2):  # else a terminal has closed
            signal.signal(signal.SIGHUP, lambda *_: self._look())
        gone, broken = False, True
        try:
            self._fan_out.begin()
            if self._shared.alone:
                life.begin()
                first.begin(life)
            self._streams.subscribe(self._options)
            self._drive()
            broken = False
        except InputLost:
            broken = False
            raise
        except BrokenPipeError:  # nobody reads the events any more: what they did not get is told after the next start
            gone = True
        finally:
            self._leave()
            self._fan_out.close(lambda: self._stopped or broken, lambda: signals.over_by)
        if gone:
            forget_stdout()
        sys.stdout.flush()
        signals.done()
        return 130 if signals.interrupted else 0

    def _drive(self) -> None:
        """Turn all streams until they have ended, or `_stop`."""
        while not (self._stopped or self._streams.ended):
            now, busy = time.monotonic(), False
            for stream in self._streams.all:
                busy = stream.turn(now) or busy
                if self._stopped:
                    break
            for ticking in self._ticking:
                ticking.tick()
            if not (busy or self._stopped):
                self._wait()
        self._end()

    def _wait(self) -> None:
        """Until any input has something, or a stream or a clock is due."""
        now = time.monotonic()
        due = min((stream.due(now) for stream in self._streams.all if not stream.ended), default=now + TICK_S)
        lives = [stream.life for stream in self._streams.all if stream.life]
        inputs = {life.fd: life for life in lives if life.fd is not None}
        for fd in self._wake.wait(min(due - now, TICK_S), inputs):
            inputs[fd].more = True

    def _end(self) -> None:
        """Save and close all; the first error of an input that has an end is the process's."""
        self._leave()
        closing: list[threading.Thread | None] = self._streams.unsubscribe()
        if not self._shared.alone:
            self._save()
        for stream in self._streams.all:
            life = stream.life
            try:
                closing.append(stream.end(whole=True))
            except EdgeKDError:
                if self._shared.alone:
                    raise
            if life:
                stream.voice.say(life.loop.summary())
        over = time.monotonic() + END_S
        for thread in filter(None, closing):
            thread.join(max(0.0, over - time.monotonic()))
        errors = [stream.error for stream in self._streams.all if stream.error]
        if errors and not self._stopped:
            raise errors[0]

    def _save(self) -> None:
        """The states of all streams together; a disk that hangs is not waited for once for each."""
        lives = [stream.life for stream in self._streams.all if stream.life]
        keepers = [watcher for life in lives for watcher in life.loop.watchers if isinstance(watcher, StateKeeper)]
        for keeper in keepers:
            keeper.save()
        if keepers and not self._writer.flush(END_WAIT_S):
            for life in lives:
                life.loop.watchers = [watcher for watcher in life.loop.watchers if watcher not in keepers]

    def _leave(self) -> None:
        """Tell the manager that the end has begun, and listen to nobody any more."""
        while self._ends:
            self._ends.pop(0)()

    def _stop(self) -> None:
        """End after the sample in hand; for a signal handler."""
        self._stopped = True
        for loop in self._streams.loops():
            loop.stop()
        self._wake.ring()

    def _look(self) -> None:
        """Look for new models, and into the file, now; for a signal handler."""
        self._file.look()
        for stream in self._streams.all:
            if stream.life:
                stream.life.exchange.offers.look()

    def _stdout(self) -> Sink:
        """Standard output, of which no stream that is live waits for a reader."""
        streams, options = self._options.streams, self._options
        patient = next((stream for stream in streams if stream.stdin), streams[0])
        stdout = assembly.stdout_of(patient, not all(stream.ends for stream in streams))

        def lost(reason: str) -> None:
            self._say(f"nothing takes standard output any more ({reason}); events go on to the other sinks")
            self._fan_out.emit({"event": "stdout_lost", "time": wall_time(), "reason": reason})

        return SpareStdout(stdout, lost) if options.publish or options.command else stdout

    def _watch(self) -> None:
        """All that looks on, and is not of one stream."""
        options, fan_out = self._options, self._fan_out
        self._turning += fan_out.outlets
        self._ticking.append(Threads(fan_out, self._writer, self._turned))
        if manager := Systemd.of():
            service = Service(manager, self._turned, self._notes)
            self._shared.watching.append(service)
            self._ticking.append(service)
            self._ends.append(service.end)
        if not all(stream.ends for stream in options.streams):
            self._ticking.append(WallClock(fan_out))
        if options.control:
            self._control(options.control)
        if options.heartbeat:
            self._ticking.append(Heartbeat(self._streams.loops, fan_out, options.heartbeat, self._notes))
        self._ticking += [self._file, self._streams, fan_out]

    def _serve(self, show: Callable[[], None]) -> None:
        """What is asked from outside. show: lets be seen what is there already, before anybody can ask."""
        options = self._options
        addresses: list[tuple[str, Callable[[], str]]] = []
        if options.metrics:
            from edgekd.runtime.gateway.watchers.metrics import Metrics, serve_metrics

            metrics = Metrics(self._fan_out)
            self._shared.watching.append(metrics)
            addresses.append(("metrics are", partial(serve_metrics, options.metrics, metrics)))
        if options.page:
            from edgekd.runtime.gateway.page.serve import Page

            page = Page(options, self._writer, self._fan_out)
            self._shared.watching.append(page)
            addresses.append(("the page is", page.serve))
        show()
        for what, serve in addresses:
            self._say(f"{what} at {serve()}")

    def _control(self, topic: str) -> None:
        from edgekd.runtime.gateway.mqtt.control import Control
        from edgekd.runtime.gateway.mqtt.publish import address_of

        def asked(name: str) -> list[Stream]:
            return [stream for stream in self._streams.all if stream.life and name in ("", stream.name)]

        def model(name: str, shown: str, data: bytes) -> None:
            for stream in asked(name):
                if stream.life:
                    stream.life.exchange.offers.post(shown, data)

        def mute(name: str, span: str) -> None:
            for stream in asked(name):
                if stream.voice.mute:
                    stream.voice.mute.ask(span)

        options, first = self._options, self._options.streams[0]
        address = address_of(topic, "control", *options.inputs, options.publish)
        several = lambda: self._fan_out.several  # noqa: E731
        control = Control(address, options.secrets, model, mute, self._fan_out.tell, several, place_of(first))
        control.begin()
        self._turning.append(control)
        self._ends.append(control.end)

    def _turned(self) -> Iterable[tuple[str, float | None]]:
        """The threads without which the process is of no use; of several inputs, one that hangs is lost alone."""
        if self._shared.alone:
            yield from (("input", loop.source.turned_s) for loop in self._streams.loops())
        yield from ((part.name, part.turned_s) for part in self._turning)

    def _notes(self) -> str:
        """What is muted, and which models are on trial."""
        told = []
        for stream in self._streams.all:
            mute, life = stream.voice.mute, stream.life
            of = f"{stream.name}: " if self._fan_out.several else ""
            words = (mute.words if mute else "", life.exchange.words if life else "")
            told += [f"{of}{word}; " for word in words if word]
        return "".join(told)
