"""One stream: begun, driven, lost and begun again, and no other stream notices."""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from typing import TYPE_CHECKING, Any

from edgekd.runtime import assembly
from edgekd.runtime.errors import EdgeKDError, InputLost, ModelRefused
from edgekd.runtime.gateway.life import Life, aside
from edgekd.runtime.gateway.options import StreamOptions, name_of
from edgekd.runtime.gateway.shared import Shared
from edgekd.runtime.gateway.sinks.voice import Voice
from edgekd.runtime.gateway.watchers.threads import fault
from edgekd.runtime.sinks import wall_time
from edgekd.runtime.sources import END_S
from edgekd.runtime.sources.reconnect import Backoff

if TYPE_CHECKING:  # few files need a broker
    from edgekd.runtime.gateway.mqtt.each import Each

FIRST_WAIT_S = 1.0
LONGEST_WAIT_S = 300.0  # a model that is refused is loaded again so often; one that is replaced meanwhile is taken then


class Stream:
    """A stream of the file, and its life while it has one. `turn` drives it; all but `build` is for one thread."""

    def __init__(
        self,
        shared: Shared,
        options: StreamOptions,
        reset_threshold: bool = False,
        after: threading.Thread | None = None,
        each: Each | None = None,
    ) -> None:
        """reset_threshold: forget what the site has learned. after: lets go of what this one may need. each: the table
        that it is made of, with others."""
        self.each = each
        self.name = name_of(options)
        self.options = options
        self.voice = Voice(shared.fan_out, self.name)
        self.life: Life | None = None
        self.ended = False
        """Whether its input was read to its end, or failed on the way where it has one: it does not begin again."""
        self.error: EdgeKDError | None = None
        """Why it ended, where that is no good end."""
        self._shared = shared
        self._backoff = Backoff(FIRST_WAIT_S, LONGEST_WAIT_S)
        self._begin_at: float | None = 0.0  # None: its parts are being made
        self._begun_at = 0.0
        self._made: queue.SimpleQueue[Life | Exception] = queue.SimpleQueue()
        self._closing = after
        self._lock = contextlib.ExitStack()
        self._locked = self._released = False
        self._reset_threshold = reset_threshold

    def build(self) -> Life:
        """Make its parts, which may take long. Raises EdgeKDError for what cannot work."""
        if self._closing:
            self._closing.join(END_S)  # it may hold a port
        if not self._locked:
            self._lock.enter_context(assembly.lock_of(self.options, self.voice.say))
            self._locked = True
        self.voice.hold()
        subscription = self.each.subscription if self.each else None
        life = Life(self.options, self.voice, self._shared, self._reset_threshold, subscription)
        self._reset_threshold = False  # it has done so from now on
        return life

    def show(self, life: Life) -> None:
        """Let be seen what these parts do."""
        for watching in self._shared.watching:
            watching.watch(self.name, life)

    def begin(self, life: Life) -> None:
        """Go on with these parts, which have begun."""
        self._begun_at = time.monotonic()
        self.life = life
        self.voice.release()

    def turn(self, now: float) -> bool:
        """A bounded piece of work, if there is any; whether there may be more at once. `Shared.alone`: raises."""
        try:
            if self.life is None:
                return self._begin(now)
            return self.life.is_due(now) and self._go_on(self.life, now)
        except OSError:  # of standard output, which is everybody's
            raise
        except Exception as error:
            if self._shared.alone:
                if self.life and isinstance(error, (InputLost, ModelRefused)):
                    self.life.loop.end()
                raise
            self._lose(error, now)
            return False

    def due(self, now: float) -> float:
        """When it has to be turned at the latest, on the monotonic clock."""
        if self.life:
            return self.life.due
        return now + 1.0 if self._begin_at is None else self._begin_at

    def end(self, whole: bool = False) -> threading.Thread | None:
        """Save what there is to save, and let go of the input, in the thread that is given back. whole: see `Loop`."""
        life, self.life = self.life, None
        for watching in self._shared.watching:
            watching.pause(self.name)
        if life:
            self._closing = life.close()
            life.loop.end(whole)
        return self._closing

    def release(self) -> None:
        """Let another one have its state, for good."""
        self._released = True
        for watching in self._shared.watching:
            watching.forget(self.name)
        self._lock.close()

    def _begin(self, now: float) -> bool:
        if self._begin_at is None:
            with contextlib.suppress(queue.Empty):
                made = self._made.get_nowait()
                if isinstance(made, Exception):
                    raise made
                self.show(made)
                self.begin(made)
                return True
        elif now >= self._begin_at and not self.ended:
            self._begin_at = None
            aside(self._make)
        return False

    def _make(self) -> None:
        try:
            life = self.build()
            life.begin()
            self._made.put(life)
            if self._released:  # meanwhile
                life.loop.end()
        except Exception as error:
            self._made.put(error)
        if self._released:
            self._lock.close()
        self._shared.wake.ring()

    def _go_on(self, life: Life, now: float) -> bool:
        if life.turn(now, alone=self._shared.alone):
            return life.more
        self.ended = True
        self.end(whole=True)
        self.voice.say(life.loop.summary())
        return False

    def _lose(self, error: Exception, now: float) -> None:
        """End alone, tell why, and begin again later."""
        self.voice.release()
        known = error if isinstance(error, EdgeKDError) else fault(error, f"stream {self.name}")
        with contextlib.suppress(EdgeKDError):
            self.end()
        if now - self._begun_at > LONGEST_WAIT_S:
            self._backoff.reset()
        self.ended = self.ended or self.options.ends  # it would fail again at the same sample
        told: dict[str, Any] = {"event": "stream_lost", "time": wall_time(), "reason": str(known)}
        if self.ended:
            self.error = known
            self.voice.say(f"{known}; this stream has ended")
        else:
            wait_s = self._backoff.wait_s()
            self._begin_at = now + wait_s
            told["again_s"] = round(wait_s, 1)
            self.voice.say(f"{known}; it is begun again in {wait_s:.1f} s")
        self.voice.emit(told)
