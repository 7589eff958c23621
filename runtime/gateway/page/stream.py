"""What the page says of one stream now, read from the running objects when somebody asks."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from edgekd import __version__
from edgekd.runtime.detector import severity_of
from edgekd.runtime.gateway.models.exchange import Exchange
from edgekd.runtime.gateway.page.sampler import Sampler
from edgekd.runtime.gateway.sinks.voice import Voice
from edgekd.runtime.layout import Layout
from edgekd.runtime.loop import Loop
from edgekd.runtime.sinks import json_score, rounded

SILENT_S = 15.0  # or three periods, whichever is longer


@dataclass(frozen=True)
class Stream:
    """One stream and what runs for it."""

    name: str
    loop: Loop
    sampler: Sampler
    voice: Voice
    exchange: Exchange
    layout: Layout
    """How its time labels are written."""
    record: str | None
    """Where it is recorded."""
    can_mute: bool

    def summary(self) -> dict[str, Any]:
        """A line of the list of streams."""
        loop, mute, last = self.loop, self.voice.mute, self.loop.last
        threshold = loop.detector.threshold
        return {
            "stream": self.name,
            "state": self._state(),
            "now": self.sampler.now or None,
            "age_s": self._age_s(),
            "score": json_score(last.score) if last else None,
            "slow": json_score(last.slow.score) if last and last.slow else None,
            "threshold": threshold,
            "severity": rounded(severity_of(last.score, threshold)) if last else None,
            "muted_s": mute.left_s if mute else 0.0,
            "trial": self.exchange.words,
        }

    def details(self) -> dict[str, Any]:
        """All that is known of it."""
        detector = self.loop.detector
        manifest = detector.manifest
        return {
            **self.summary(),
            "sensors": self._sensors(),
            "can_mute": self.can_mute,
            "record": self.record is not None,
            "input": self._input(),
            "queue": self._queue(),
            "model": {
                "method": manifest.method,
                "preset": manifest.preset,
                "file": manifest.digests.file[:12],
                "written_by": manifest.edgekd,
                "engine": detector.engine.name,
                "period_s": manifest.period_s,
                "hop": manifest.hop,
            },
            "compared": self._compared(),
            "edgekd": __version__,
        }

    def _state(self) -> str:
        loop = self.loop
        age_s = self._age_s()
        if age_s is None:
            return "waiting"
        if age_s > max(SILENT_S, 3 * self.loop.detector.manifest.period_s):
            return "silent"
        if loop.episodes.start is not None or loop.slow.start is not None:
            return "alarm"
        return "warming up" if loop.last is None else "normal"

    def _age_s(self) -> float | None:
        arrived_at = self.sampler.arrived_at
        return None if arrived_at is None else round(time.monotonic() - arrived_at, 1)

    def _sensors(self) -> list[dict[str, Any]]:
        detector = self.loop.detector
        missing, newest = set(detector.missing_sensors), self.sampler.newest
        return [
            {
                "name": spec.name,
                "unit": spec.unit,
                "low": json_score(spec.low),
                "high": json_score(spec.high),
                "value": None if newest[i] != newest[i] else json_score(float(newest[i])),
                "missing": spec.name in missing,
            }
            for i, spec in enumerate(detector.manifest.sensors)
        ]

    def _input(self) -> dict[str, Any]:
        source, rate_hz = self.loop.source, self.sampler.rate_hz
        return {
            "name": source.name,
            "rate_hz": rate_hz,
            "expected_hz": 1 / self.loop.detector.manifest.period_s,
            "samples": self.loop.samples,
            "bad": source.rows.bad,
            "held": sum(self.loop.detector.held_values.values()),
            "dropped": source.dropped,
            "reconnects": source.reconnects,
            "lag_s": source.lag_s,
        }

    def _queue(self) -> dict[str, Any]:
        outbox, outlets, keeper = self.voice.fan_out.outbox, self.voice.fan_out.outlets, self.voice.keeper
        return {
            "waiting": outbox.depth if outbox else None,
            "problem": outbox.problem if outbox else "",
            "delivered": {outlet.name: outlet.delivered for outlet in outlets},
            "state_age_s": round(keeper.age_s, 1) if keeper else None,
        }

    def _compared(self) -> dict[str, Any] | None:
        """Two models, while one is on trial."""
        trial = getattr(self.loop.detector, "trial", None)
        if trial is None:
            return None
        return {
            "probation": trial.probation,
            "verdicts": trial.verdicts,
            "alarms_new": trial.alarms_new,
            "alarms_old": trial.alarms_old,
            "other_score": trial.score,
            "other_threshold": trial.other.threshold,
            "other_file": trial.other.manifest.digests.file[:12],
        }
