"""`metrics`: what a run is doing, for Prometheus. Everything is read from the running objects when it is asked for.

The hot path does no work for it but to count how long steps take (`TimedEngine`), in plain integers.
"""

from __future__ import annotations

import time
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from edgekd import __version__
from edgekd.runtime.engines import Engine, Feeds
from edgekd.runtime.errors import MissingExtra
from edgekd.runtime.gateway.sinks.fan_out import FanOut
from edgekd.runtime.gateway.sinks.voice import Voice
from edgekd.runtime.loop import Loop, Watcher
from edgekd.runtime.sources import Items

if TYPE_CHECKING:
    from edgekd.runtime.gateway.life import Life

BOUNDS_S = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 0.1, 1.0)  # a Pi's step is .1 to 10 ms; what is slower is a fault


class TimedEngine:
    """An engine that counts how long its steps take."""

    def __init__(self, engine: Engine) -> None:
        self.around(engine)
        self.counts = [0] * (len(BOUNDS_S) + 1)
        """Steps up to each bound and above the last, not cumulated."""
        self.total_s = 0.0

    def around(self, engine: Engine) -> TimedEngine:
        """From now on this engine's steps are counted."""
        self.engine, self.name, self._run = engine, engine.name, engine.run
        return self

    def run(self, feeds: Feeds) -> Sequence[np.ndarray]:
        """See `Engine.run`."""
        began = time.perf_counter()
        outputs = self._run(feeds)
        took_s = time.perf_counter() - began
        self.counts[bisect_left(BOUNDS_S, took_s)] += 1
        self.total_s += took_s
        return outputs


class Figures(Watcher):
    """The figures of one stream, at the moment of the scrape."""

    def __init__(self, loop: Loop, voice: Voice, engine: TimedEngine) -> None:
        self._loop = loop
        self._voice = voice
        self._engine = engine
        self._arrived_at: float | None = None  # when the input last brought something, on the monotonic clock

    def arrived(self, items: Items) -> None:
        """Remember when."""
        if items:
            self._arrived_at = time.monotonic()

    def collect(self) -> Iterator[Any]:
        """Every metric family."""
        yield from self._run()
        yield from self._input()
        yield from self._optional()
        yield from self._sensors()
        yield self._steps()
        yield self._build()

    def _run(self) -> Iterator[Any]:
        loop = self._loop
        yield _counter("edgekd_samples", "Samples of this run.", loop.samples)
        yield _counter("edgekd_verdicts", "Scores of this run.", loop.verdicts)
        yield _counter("edgekd_anomalies", "Anomalies that began in this run.", loop.anomalies)
        yield _counter("edgekd_diverged_steps", "Steps without a finite score.", loop.detector.diverged_steps)
        if loop.last is not None:
            yield _gauge("edgekd_score", "The newest score.", loop.last.score)
            if loop.last.slow is not None:
                yield _gauge("edgekd_slow_score", "The newest slow score; above 1 is anomalous.", loop.last.slow.score)
        yield _gauge("edgekd_threshold", "Scores above are anomalous.", loop.detector.threshold)
        yield _gauge(
            "edgekd_anomaly_open",
            "1 while an anomaly lasts.",
            int(any(episodes.start is not None for episodes in (loop.episodes, loop.slow))),
        )

    def _input(self) -> Iterator[Any]:
        loop = self._loop
        yield _counter("edgekd_bad_lines", "Lines or images of the input that were no sample.", loop.source.rows.bad)
        if self._arrived_at is not None:
            age_s = time.monotonic() - self._arrived_at
            yield _gauge("edgekd_input_age_seconds", "Time since the input last brought something.", age_s)

    def _optional(self) -> Iterator[Any]:
        """What only some sources and runs have."""
        source, keeper, mute = self._loop.source, self._voice.keeper, self._voice.mute
        trial = getattr(self._loop.detector, "trial", None)
        return _found(
            (_counter, "edgekd_input_reconnects", "Times the input was opened again.", source, "reconnects"),
            (_counter, "edgekd_input_dropped_samples", "Samples left out to catch up.", source, "dropped"),
            (_gauge, "edgekd_input_lag_seconds", "Age of the oldest sample not yet scored.", source, "lag_s"),
            (_gauge, "edgekd_input_backlog", "Samples read and not yet scored.", source, "backlog"),
            (_gauge, "edgekd_state_age_seconds", "Age of the saved state.", keeper, "age_s"),
            (_counter, "edgekd_state_failures", "Saves of the state that failed.", keeper, "failures"),
            (_gauge, "edgekd_muted_seconds", "How long alarms are still held back.", mute, "left_s"),
            (_counter, "edgekd_muted_alarms", "Alarms that were held back.", mute, "total"),
            (_gauge, "edgekd_shadow_score", "The newest score of the model in the shadow.", trial, "score"),
            (_gauge, "edgekd_trial_verdicts", "Scores in which two models were compared.", trial, "verdicts"),
            (_gauge, "edgekd_trial_anomalies_new", "Of these, anomalous to the new one.", trial, "alarms_new"),
            (_gauge, "edgekd_trial_anomalies_old", "Of these, anomalous to the old one.", trial, "alarms_old"),
            (_gauge, "edgekd_probation", "1: the new one runs; 0: it is in the shadow.", trial, "probation"),
        )

    def _sensors(self) -> Iterator[Any]:
        detector = self._loop.detector
        missing, held = set(detector.missing_sensors), detector.held_values
        gauge = _gauge("edgekd_sensor_missing", "1 where a sensor is left out of the score.", labels=["sensor"])
        counter = _counter("edgekd_held_values", "Missing values that the last good one stood for.", labels=["sensor"])
        for name in detector.manifest.names:
            gauge.add_metric([name], int(name in missing))
            counter.add_metric([name], held.get(name, 0))
        yield gauge
        yield counter

    def _steps(self) -> Any:
        from prometheus_client.core import HistogramMetricFamily

        counts, total_s = list(self._engine.counts), self._engine.total_s
        bounds = [*map(str, BOUNDS_S), "+Inf"]
        buckets = [(bound, sum(counts[: i + 1])) for i, bound in enumerate(bounds)]
        return HistogramMetricFamily("edgekd_step_seconds", "Time of one step of the model.", buckets, total_s)

    def _build(self) -> Any:
        from prometheus_client.core import InfoMetricFamily

        manifest = self._loop.detector.manifest
        return InfoMetricFamily(
            "edgekd_build",
            "What runs here.",
            {
                "version": __version__,
                "engine": self._engine.name,
                "method": manifest.method,
                "preset": manifest.preset or "",
                "model": manifest.digests.file[:16],
            },
        )


class Metrics:
    """A collector of prometheus-client: the figures of all streams, and of the sinks that they share."""

    def __init__(self, fan_out: FanOut) -> None:
        self._fan_out = fan_out
        self._streams: dict[str, Figures] = {}

    def watch(self, name: str, life: Life) -> None:
        """From now on of this stream, too."""
        loop, engine = life.loop, TimedEngine(life.loop.detector.engine)
        figures = Figures(loop, life.voice, engine)
        loop.detector.engine = engine
        loop.watchers.insert(0, figures)
        self._streams = {**self._streams, name: figures}  # a scrape may look at the old ones

    def pause(self, name: str) -> None:
        """This stream does not run."""
        self._streams = {other: figures for other, figures in self._streams.items() if other != name}

    def forget(self, name: str) -> None:
        """It is gone, and was paused before."""

    def collect(self) -> Iterator[Any]:
        """Every metric family; with the stream as a label where there are several."""
        families: dict[str, Any] = {}
        for name, figures in self._streams.items():
            for family in figures.collect():
                if self._fan_out.several:
                    family.samples = [s._replace(labels={"stream": name, **s.labels}) for s in family.samples]
                if family.name in families:
                    families[family.name].samples += family.samples
                else:
                    families[family.name] = family
        yield from families.values()
        yield from self._sinks()

    def _sinks(self) -> Iterator[Any]:
        outbox, outlets = self._fan_out.outbox, self._fan_out.outlets
        dropping = next((outlet for outlet in outlets if outlet.name == "exec"), None)
        yield from _found(
            (_gauge, "edgekd_outbox_events", "Events that no consumer has confirmed yet.", outbox, "depth"),
            (_gauge, "edgekd_outbox_bytes", "Size of the outbox on disk.", outbox, "bytes"),
            (_counter, "edgekd_outbox_dropped", "Events dropped because the outbox was full.", outbox, "dropped"),
            (_counter, "edgekd_exec_dropped", "Events the command never took.", dropping, "dropped"),
        )
        delivered = _counter("edgekd_delivered_events", "Events of this run that have arrived.", labels=["sink"])
        for outlet in outlets:
            delivered.add_metric([outlet.name], outlet.delivered)
        yield delivered


def serve_metrics(address: str, metrics: Metrics) -> str:
    """Serve the figures of a run from a thread of its own; the URL. Raises UsageError, MissingExtra."""
    try:
        from prometheus_client import CollectorRegistry, MetricsHandler
    except ModuleNotFoundError:
        raise MissingExtra("prometheus-client", "metrics") from None
    from edgekd.runtime.gateway.http_server import HttpServer

    registry = CollectorRegistry(auto_describe=False)
    registry.register(metrics)  # type: ignore[arg-type]
    return f"{HttpServer('metrics', address, MetricsHandler.factory(registry)).url}/metrics"


def _found(*rows: tuple[Callable[..., Any], str, str, Any, str]) -> Iterator[Any]:
    """Families of one figure each: how to make it, name, words, whose it is, and the attribute; where there is one."""
    for make, name, words, owner, attribute in rows:
        value = getattr(owner, attribute, None)
        if value is not None:
            yield make(name, words, value)


def _counter(name: str, words: str, value: float | None = None, labels: Sequence[str] | None = None) -> Any:
    from prometheus_client.core import CounterMetricFamily

    return CounterMetricFamily(name, words, value=value, labels=labels)


def _gauge(name: str, words: str, value: float | None = None, labels: Sequence[str] | None = None) -> Any:
    from prometheus_client.core import GaugeMetricFamily

    return GaugeMetricFamily(name, words, value=value, labels=labels)
