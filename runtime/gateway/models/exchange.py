"""A new model takes the old one's place while the stream goes on, and makes room for it again where it does not do.

Admitted (`offers`), it runs in the old one's shadow for `shadow-for`, then takes its place between two hops, with the
state that it has warmed up meanwhile, so that no verdict is missing. For `probation-for` the old one goes on in its
shadow, and comes back at the first sign of trouble (`trial`).
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from edgekd.runtime import assembly
from edgekd.runtime.detector import Detector
from edgekd.runtime.duration import duration
from edgekd.runtime.gateway.disk_writer import DiskWriter
from edgekd.runtime.gateway.models.engines import Engines
from edgekd.runtime.gateway.models.offers import BEFORE, RUNNING, Offer, Offers
from edgekd.runtime.gateway.models.store import SHOWN, Store
from edgekd.runtime.gateway.models.trial import Switch, Trial, carry_over
from edgekd.runtime.gateway.options import StreamOptions
from edgekd.runtime.gateway.watchers.metrics import TimedEngine
from edgekd.runtime.gateway.watchers.site_threshold import SiteThreshold, ThresholdWatcher
from edgekd.runtime.loop import Loop, Watcher
from edgekd.runtime.sinks import wall_time
from edgekd.runtime.sources import Row


class Exchange(Watcher):
    """Puts what `Offers` finds on trial, and tells what comes of it."""

    def __init__(
        self,
        loop: Loop,
        switch: Switch,
        stream: StreamOptions,
        store: Store,
        engines: Engines,
        site_of: Callable[[Detector], SiteThreshold],
        threshold: ThresholdWatcher,
        writer: DiskWriter,
        save: Callable[[], None],
    ) -> None:
        """save: begin to keep the state of another model, with this one's."""
        self.offers = Offers(stream, store, site_of, switch.running, engines)
        self._loop = loop
        self._switch = switch
        self._stream = stream
        self._store = store
        self._threshold = threshold
        self._writer = writer
        self._save = save
        self._running = Offer(RUNNING, stream.model, "")
        self._other: Offer | None = None
        self._waiting: Offer | None = None  # for the end of the hop

    def start(self, running: Path, before: Path | None) -> None:
        """Look for models from now on; see `Offers.start`."""
        self.offers.start(running, before)

    @property
    def words(self) -> str:
        """What is on trial, for a status line; empty where nothing is."""
        trial, other = self._switch.trial, self._other
        if not (trial and other):
            return ""
        if trial.probation:
            return f"model {self._running.digest[:SHOWN]} is on probation"
        return f"model {other.digest[:SHOWN]} is in shadow"

    def end(self) -> None:
        """Look for no more."""
        self.offers.stop()

    def sample(self, row: Row) -> None:
        """Between two hops: end a trial, or begin one."""
        if (self._switch.trial or self._waiting) and self._switch.between_hops:
            self._turn()

    def tick(self) -> None:
        """Hear what the thread has found."""
        while self.offers.found:
            self._hear(self.offers.found.popleft())

    def _hear(self, offer: Offer) -> None:
        if offer.source == RUNNING:
            self._running = offer
            if offer.refused:
                self._loop.say(f"the model is not kept for the next start: {offer.refused}")
        elif offer.source == BEFORE and offer.refused:
            self._loop.say(f"the model that ran before is not there to go back to: {offer.refused}")
        elif offer.refused:
            self._refuse(offer, offer.refused)
        else:
            if self._waiting:
                self._refuse(self._waiting, "another one was offered")
            self._waiting = offer

    def _turn(self) -> None:
        trial, other = self._switch.trial, self._other
        if trial and other and trial.problem:
            if trial.probation:
                self._roll_back(trial, other, trial.problem)
            else:
                self._refuse(other, trial.problem, **trial.figures())
            self._end()
        elif trial and other and trial.over:
            if trial.probation:
                self._confirm(trial, other)
                self._end()
            else:
                self._swap(trial, other)
        elif self._waiting and not (trial and trial.probation):
            if other:
                self._refuse(other, "another one was offered")
            offer, self._waiting = self._waiting, None
            self._begin(offer, probation=offer.source == BEFORE)

    def _begin(self, offer: Offer, probation: bool) -> None:
        assert offer.detector and offer.site
        carry_over(self._switch.running, offer.detector)
        self._put(offer, offer.detector, offer.site, probation)
        if not probation:
            told = {"from": offer.shown, "running": self._running.digest[:SHOWN], "shadow_s": self._stream.shadow_for}
            self._tell("model_offered", offer, told)
            self._loop.say(
                f"model {offer.digest[:SHOWN]} from {offer.shown} is good; it runs in shadow for"
                f" {duration(self._stream.shadow_for)} before it is taken"
            )

    def _put(self, offer: Offer, other: Detector, site: SiteThreshold, probation: bool) -> None:
        """A trial from here on; a first day that sets the site's threshold is part of the shadow."""
        seconds = self._stream.probation_for
        if not probation:
            seconds = max(self._stream.shadow_for, self._stream.calibrate_for)
        running = self._switch.running
        samples = assembly.samples_in(seconds, running.manifest.period_s)
        self._switch.trial = Trial(running, other, site, samples, self._stream.alarm_factor, probation)
        self._other = offer
        self.offers.busy, self.offers.at_work = probation, {self._running.digest, offer.digest}

    def _end(self) -> None:
        self._switch.trial = self._other = None
        self.offers.busy, self.offers.at_work = False, {self._running.digest}

    def _swap(self, trial: Trial, new: Offer) -> None:
        old = self._running
        self._exchange(trial, new)
        self._put(old, trial.other, trial.site, probation=True)
        self._later(lambda: self._store.see(new.source, new.name))
        told = {"was": old.digest[:SHOWN], "from": new.shown, "threshold": self._switch.threshold}
        self._tell("model_swapped", new, told | trial.figures() | {"probation_s": self._stream.probation_for})
        self._loop.say(
            f"model {new.digest[:SHOWN]} runs in the place of {old.digest[:SHOWN]}, which goes on in its shadow for"
            f" {duration(self._stream.probation_for)} and comes back if it does not do"
        )

    def _roll_back(self, trial: Trial, old: Offer, reason: str) -> None:
        new = self._running
        self._exchange(trial, old)
        self._later(lambda: self._store.discard(new.kept))
        self._tell("model_rolled_back", old, {"was": new.digest[:SHOWN], "reason": reason} | trial.figures())
        self._loop.say(f"model {old.digest[:SHOWN]} runs again in the place of {new.digest[:SHOWN]}: {reason}")

    def _confirm(self, trial: Trial, old: Offer) -> None:
        self._later(lambda: self._store.retire(old.kept))
        self._tell("model_confirmed", self._running, {"was": old.digest[:SHOWN]} | trial.figures())
        self._loop.say(f"model {self._running.digest[:SHOWN]} has passed its probation")

    def _refuse(self, offer: Offer, reason: str, **figures: Any) -> None:
        if offer.kept:  # it was on trial
            self._later(lambda: self._store.see(offer.source, offer.name))
            self._later(lambda: self._store.discard(offer.kept))
        self._tell("model_refused", offer, {"from": offer.shown, "reason": reason} | figures)
        self._loop.say(f"the model from {offer.shown} is not taken: {reason}; the one that runs goes on")

    def _exchange(self, trial: Trial, to: Offer) -> None:
        """The one in the shadow runs from here on; how long steps take is counted of the one that runs."""
        timed = self._switch.engine
        if isinstance(timed, TimedEngine):
            bare = timed.engine
            trial.other.engine, self._switch.engine = timed.around(trial.other.engine), bare
        self._switch.exchange()
        self._threshold.site, trial.site = trial.site, self._threshold.site
        self._running = to
        self._save()

    def _later(self, job: Callable[[], None]) -> None:
        """Behind the state that was handed to the disk before."""
        self._writer.submit(job)

    def _tell(self, event: str, offer: Offer, more: dict[str, Any]) -> None:
        sample = self._switch.running.samples_seen - 1
        told = {"event": event, "sample": sample, "time": wall_time(), "model": offer.digest[:SHOWN]}
        self._loop.emit(told | more)
