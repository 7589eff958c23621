"""Faults found and false alarms on the simulated plants, by any detector, over seeds.

    python -m bench.detection.plants --preset innovations --seeds 1-3

Seed s trains on 20,000 fault-free samples of a plant, is tested on 8,000 samples of seed s + 100 with every kind of
fault, and watches 20,000 fault-free ones of seed s + 200. The threshold is the one that `distill` wrote. An event is
found by a verdict above it for one of its samples, by a slow verdict, or as a stuck sensor. False alarms are counted as
a device tells them, of all three; one that comes within 84 hops of a fault is not false.

An event counts only if the oracle sees it, which knows the fault: matched filters for what the fault alone changes in
the sensors, and in their regressions on each other, and of a cycle drift the cycle's mean pace, each against what it
says to fault-free data.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click
import numpy as np
import torch

from bench.detection.slow import TRAIL_HOPS
from bench.detection.stuck import watching
from bench.results import WORK, rounded, save, table, write_json
from edgekd.blocks.step import Scores
from edgekd.checkpoint import Checkpoint
from edgekd.data import Recording
from edgekd.distillation import distill
from edgekd.evaluation.events import SECONDS_PER_DAY
from edgekd.evaluation.stuck import stuck_sensors
from edgekd.runtime.detector import Verdict
from edgekd.runtime.episodes import COOLDOWN_HOPS, Episodes, Onset
from edgekd.runtime.loop import SLOW_HYSTERESIS
from edgekd.simulation.faults import CYCLE_DRIFT
from edgekd.simulation.plants import PLANTS
from edgekd.simulation.plants.line import SWING
from edgekd.simulation.simulate import KINDS, NAMES, Event, Simulation, simulate, without_noise

TRAINING, TESTED, CLEAN = 20_000, 8_000, 20_000
SEEN = 5.0
"""Standard deviations above fault-free data at which the oracle sees a fault."""
FLOOR = 1e-3
"""Least deviation of a regression's residual, in the sensor's own: below it readings are copies of each other."""


@dataclass(frozen=True)
class Told:
    """What a device tells of a recording."""

    fast: np.ndarray
    """int (k,): samples of the verdicts above the threshold."""
    slow: dict[int, tuple[str, ...]]
    """Sample of each slow verdict above its own, and the two sensors that contribute most to it."""
    stuck: list[tuple[int, str]]
    """Sample at which a sensor is told to be stuck, and its name."""
    alarms: dict[str, list[int]]
    """By "fast", "slow" and "stuck": samples at which the device tells an alarm of it, at its default cooldown."""

    def finds(self, event: Event, hop: int) -> list[str]:
        """By which of them: a slow verdict and a stuck sensor have to name the event's own sensor."""
        inside = range(event.start, event.end + hop - 1)
        by = ["fast"] if ((self.fast >= event.start) & (self.fast < event.end + hop - 1)).any() else []
        if any(sample in inside and set(event.sensors) & set(named) for sample, named in self.slow.items()):
            by.append("slow")
        return by + ["stuck"] * any(sample in inside and name in event.sensors for sample, name in self.stuck)


@click.command()
@click.option("--preset", default="innovations", show_default=True)
@click.option("--set", "settings", multiple=True, metavar="NAME=VALUE", help="A setting of the preset, as JSON.")
@click.option("--seeds", default="1-3", show_default=True, help="FIRST-LAST.")
@click.option("--plant", "plants", multiple=True, type=click.Choice(NAMES), help="Only this one; may be repeated.")
def main(preset: str, settings: tuple[str, ...], seeds: str, plants: tuple[str, ...]) -> None:
    """Measure, print and save."""
    torch.set_num_threads(1)
    first, last = (int(seed) for seed in seeds.split("-"))
    chosen = {name: json.loads(value) for name, value in (setting.split("=") for setting in settings)}
    done = WORK / f"plants-{preset}-{seeds}.json"  # so far; a run that is cut off goes on from here
    done.parent.mkdir(parents=True, exist_ok=True)
    rows = json.loads(done.read_text()) if done.exists() else []
    for plant in plants or NAMES:
        for seed in range(first, last + 1):
            if not any(row["plant"] == plant and row["seed"] == seed for row in rows):
                rows.append({"plant": plant, "seed": seed, **measured(plant, seed, preset, chosen)})
                write_json(done, rows)
        print(table(summary(rows)[-1:]), flush=True)
    everything = summary([{**row, "plant": "all"} for row in rows])
    print(table(summary(rows) + everything))
    save(
        f"plants-{preset}-{seeds}",
        rounded(rows),
        settings=chosen,
        summary=rounded(summary(rows) + everything),
        seen_z=SEEN,
    )
    done.unlink()


def measured(plant: str, seed: int, preset: str, settings: dict[str, Any]) -> dict[str, Any]:
    """One detector on one plant: its events with the oracle's z, and the false alarms in normal time."""
    training = simulate(TRAINING, seed=seed, faults=(), plant=plant)
    with TemporaryDirectory() as folder:
        checkpoint = distill(training.recording, Path(folder) / "s.pt", preset=preset, settings=settings)
    hop = checkpoint.step().hop
    test, clean = (
        simulate(TESTED, seed=seed + 100, plant=plant),
        simulate(CLEAN, seed=seed + 200, faults=(), plant=plant),
    )
    beside, quiet = told(checkpoint, training.recording, test), told(checkpoint, training.recording, clean)
    zs = oracle(training.recording.values, test, seed + 100, plant)
    labels, period_s = test.recording.labels, test.recording.period_s
    assert labels is not None
    clean_days = CLEAN * period_s / SECONDS_PER_DAY
    rate = sum(map(len, quiet.alarms.values())) / CLEAN
    counting = [event for event, z in zip(test.events, zs) if z >= SEEN]
    return {
        "chance": float(sum(1 - np.exp(-rate * (event.end - event.start)) for event in counting)),
        "events": [
            {"kind": event.kind, "sensor": event.sensors[0], "z": z, "by": beside.finds(event, hop)}
            for event, z in zip(test.events, zs)
        ],
        "false": {kind: _outside(samples, labels, hop) for kind, samples in beside.alarms.items()},
        "days": float((~labels).sum() * period_s / SECONDS_PER_DAY),
        "clean": {kind: len(samples) for kind, samples in quiet.alarms.items()},
        "clean days": clean_days,
    }  # fmt: skip


def told(checkpoint: Checkpoint, training: Recording, simulation: Simulation) -> Told:
    """What the device would tell: of scores, of slow scores, of stuck sensors."""
    step, recording = checkpoint.step(), simulation.recording
    found = step.score(recording)
    threshold = float(checkpoint.threshold["value"])
    slow = found.slow or Scores(found.samples, np.zeros_like(found.scores), found.contributions)
    stuck = [(change.sample, change.sensor) for change in stuck_sensors(watching(training), recording)]
    two = np.argsort(-slow.contributions, axis=1)[:, :2]
    return Told(
        found.samples[found.scores > threshold],
        {
            int(sample): tuple(recording.sensors[i] for i in pair)
            for sample, score, pair in zip(slow.samples, slow.scores, two)
            if score > 1
        },
        stuck,
        {
            "fast": _onsets(found, threshold, Episodes(0, COOLDOWN_HOPS * step.hop)),
            "slow": _onsets(slow, 1.0, Episodes(0, COOLDOWN_HOPS * step.hop, SLOW_HYSTERESIS)),
            "stuck": [sample for sample, _ in stuck],
        },
    )


def _onsets(found: Scores, threshold: float, episodes: Episodes) -> list[int]:
    """Samples at which an alarm is told."""
    nobody, turns = np.zeros(0), []
    for sample, score in zip(found.samples.tolist(), found.scores.tolist()):
        turns.append(episodes.update(Verdict(sample, score, threshold, score > threshold, nobody, ())))
    return [turn.verdict.sample for turn in turns if isinstance(turn, Onset)]


def _outside(samples: list[int], labels: np.ndarray, hop: int) -> int:
    """Alarms with no labeled sample in the TRAIL_HOPS before: averages hold a fault for as long as they are long."""
    return sum(not labels[max(0, sample - TRAIL_HOPS * hop) : sample + 1].any() for sample in samples)


def oracle(normal: np.ndarray, simulation: Simulation, seed: int, plant: str) -> list[float]:
    """z of each event: the best of what the oracle can ask, over its deviation on fault-free data.

    normal: (T, n) fault-free readings of the same plant, of another seed.
    """
    recording = simulation.recording
    center, spread = normal.mean(axis=0, dtype=float), np.maximum(normal.std(axis=0, dtype=float), FLOOR)
    usual = (normal - center) / spread
    others = residual_maker(usual)
    everything = without_noise(simulation, seed, plant, simulation.events)
    zs = []
    for event in simulation.events:
        rest = [other for other in simulation.events if other != event]
        change = (everything - without_noise(simulation, seed, plant, rest))[event.start : event.end] / spread
        found = [matched(usual, change), matched(usual @ others, change @ others)]
        if event.kind == CYCLE_DRIFT:
            column = recording.sensors.index(event.sensors[0])
            cycle = PLANTS[plant].cycle_s / recording.period_s if plant in PLANTS else SWING
            found.append(late(normal[:, column], recording.values[:, column], event, cycle))
        zs.append(max(found))
    return zs


def matched(usual: np.ndarray, change: np.ndarray) -> float:
    """z of a matched filter for a change (k, n) against what it says to fault-free signals (T, n)."""
    scale = np.maximum(usual.std(axis=0), FLOOR)
    shape = change / scale
    spectra = np.fft.rfft(usual / scale, axis=0) * np.fft.rfft(shape, len(usual), axis=0).conj()
    said = np.fft.irfft(spectra.sum(axis=1), len(usual))[: len(usual) - len(shape) + 1]
    energy = float((shape**2).sum())
    return energy / float(said.std()) if energy > 1e-9 else 0.0


def late(normal: np.ndarray, now: np.ndarray, event: Event, cycle: float) -> float:
    """z of the mean pace of a sensor's cycle during an event, against stretches as long of fault-free readings (T,)."""
    length = event.end - event.start
    paces = np.convolve(pace(normal, cycle), np.full(length, 1 / length), "valid")
    return float((paces.mean() - pace(now, cycle)[event.start : event.end].mean()) / paces.std())


def pace(x: np.ndarray, cycle: float) -> np.ndarray:
    """(T,) radians a sample, from the analytic signal around a cycle of so many samples."""
    frequency = np.fft.fftfreq(len(x))
    band = np.where((frequency > 0.4 / cycle) & (frequency < 1.6 / cycle), 2.0, 0.0)
    phase = np.unwrap(np.angle(np.fft.ifft(np.fft.fft(x.astype(float)) * band)))
    return np.diff(phase, prepend=phase[0])


def residual_maker(z: np.ndarray) -> np.ndarray:
    """(n, n) turns standardized samples (T, n) into each sensor's residual of its regression on all others."""
    precision = np.linalg.inv(z.T @ z / len(z) + FLOOR * np.eye(z.shape[1]))
    return precision / np.diag(precision)


def summary(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """For each plant the events found of those that count, by kind, and false alarms a day."""
    lines = []
    for plant in dict.fromkeys(row["plant"] for row in rows):
        own = [row for row in rows if row["plant"] == plant]
        line: dict[str, Any] = {"plant": plant, "seeds": len(own)}
        events = [event for row in own for event in row["events"]]
        for kind in KINDS:
            seen = [event for event in events if event["kind"] == kind and event["z"] >= SEEN]
            line[kind] = f"{sum(bool(event['by']) for event in seen)}/{len(seen)}"
        # how many would be found by false alarms alone that come at random, at the rate of the clean recordings
        line["by chance"] = sum(row["chance"] for row in own)
        line["not seen"] = sum(event["z"] < SEEN for event in events)
        for name, count, days in (("a day", "false", "days"), ("clean", "clean", "clean days")):
            line[name] = sum(sum(row[count].values()) for row in own) / sum(row[days] for row in own)
        line["clean, slow"] = sum(row["clean"]["slow"] for row in own) / sum(row["clean days"] for row in own)
        lines.append(line)
    return lines


if __name__ == "__main__":
    main()
