"""Faults found and false alarms on the simulated plants, by any detector, over seeds.

    python -m bench.detection.plants --method linear --preset ensemble --seeds 1-3

Seed s trains on 20,000 fault-free samples of a plant, is tested on 8,000 samples of seed s + 100 with every kind of
fault, and watches 20,000 fault-free ones of seed s + 200. The threshold is the one that `distill` wrote. An event is
found by a verdict above it for one of its samples; an alarm that only outlasts an event found is not a false one.

An event counts only if the oracle sees it, which knows the fault: matched filters for what the fault alone changes in
the sensors, and in their regressions on each other, and of a cycle drift the cycle's mean pace, each against what it
says to fault-free data.
"""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click
import numpy as np
import torch

from bench.results import rounded, save, table
from edgekd.checkpoint import Checkpoint
from edgekd.distillation import distill
from edgekd.evaluation.events import SECONDS_PER_DAY, Alarms, false_alarms, find_events
from edgekd.simulation.faults import CYCLE_DRIFT
from edgekd.simulation.plants import PLANTS
from edgekd.simulation.plants.line import SWING
from edgekd.simulation.simulate import KINDS, NAMES, Event, Simulation, simulate, without_noise

TRAINING, TESTED, CLEAN = 20_000, 8_000, 20_000
SEEN = 5.0
"""Standard deviations above fault-free data at which the oracle sees a fault."""
FLOOR = 1e-3
"""Least deviation of a regression's residual, in the sensor's own: below it readings are copies of each other."""


@click.command()
@click.option("--method", default="linear", show_default=True)
@click.option("--preset", default="ensemble", show_default=True)
@click.option("--seeds", default="1-3", show_default=True, help="FIRST-LAST.")
@click.option("--plant", "plants", multiple=True, type=click.Choice(NAMES), help="Only this one; may be repeated.")
def main(method: str, preset: str, seeds: str, plants: tuple[str, ...]) -> None:
    """Measure, print and save."""
    torch.set_num_threads(1)
    first, last = (int(seed) for seed in seeds.split("-"))
    rows = []
    for plant in plants or NAMES:
        for seed in range(first, last + 1):
            rows.append({"plant": plant, "seed": seed, **measured(plant, seed, method, preset)})
        print(table(summary(rows)[-1:]), flush=True)
    everything = summary([{**row, "plant": "all"} for row in rows])
    print(table(summary(rows) + everything))
    save(f"plants-{method}-{preset}", rounded(rows), summary=rounded(summary(rows) + everything), seen_z=SEEN)


def measured(plant: str, seed: int, method: str, preset: str) -> dict[str, Any]:
    """One detector on one plant: its events with the oracle's z, and the false alarms in normal time."""
    training = simulate(TRAINING, seed=seed, faults=(), plant=plant)
    with TemporaryDirectory() as folder:
        checkpoint = distill(training.recording, Path(folder) / "s.pt", method=method, preset=preset)
    test = simulate(TESTED, seed=seed + 100, plant=plant)
    detected, beside = alarms(checkpoint, test)
    _, clean = alarms(checkpoint, simulate(CLEAN, seed=seed + 200, faults=(), plant=plant))
    zs = oracle(training.recording.values, test, seed + 100, plant)
    rate = clean.per_day * test.recording.period_s / SECONDS_PER_DAY
    counting = [event for event, z in zip(test.events, zs) if z >= SEEN]
    return {
        "chance": float(sum(1 - np.exp(-rate * (event.end - event.start)) for event in counting)),
        "events": [
            {"kind": event.kind, "sensor": event.sensors[0], "z": z, "found": bool(hit)}
            for event, z, hit in zip(test.events, zs, detected)
        ],
        "false alarms": beside.episodes - beside.trailing, "days": beside.normal_days,
        "clean alarms": clean.episodes, "clean days": clean.normal_days,
    }  # fmt: skip


def alarms(checkpoint: Checkpoint, simulation: Simulation) -> tuple[np.ndarray, Alarms]:
    """bool (m,) which events were found, and the false alarms."""
    step, recording = checkpoint.step(), simulation.recording
    assert recording.labels is not None
    found = step.score(recording)
    positive = found.scores > float(checkpoint.threshold["value"])
    detected = find_events(recording.labels, found.samples, positive, step.hop).detected
    return detected, false_alarms(
        recording.labels, found.samples, positive, step.hop, recording.period_s, len(recording)
    )


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
            hits = [event["found"] for event in events if event["kind"] == kind and event["z"] >= SEEN]
            line[kind] = f"{sum(hits)}/{len(hits)}"
        # how many would be found by false alarms alone that come at random, at the rate of the clean recordings
        line["by chance"] = sum(row["chance"] for row in own)
        line["not seen"] = sum(event["z"] < SEEN for event in events)
        for name, count, days in (("a day", "false alarms", "days"), ("clean, a day", "clean alarms", "clean days")):
            line[name] = sum(row[count] for row in own) / sum(row[days] for row in own)
        lines.append(line)
    return lines


if __name__ == "__main__":
    main()
