"""Stuck sensors: how many the device finds on the simulated plant, and how often it is wrong on real recordings.

    python -m bench.detection.stuck --data DIR

What a sensor may do is learned from the training part alone (`edgekd.blocks.stillness`), the test part is seen sample
by sample by the device's own detector around a graph that does nothing. On the plant (three seeds, 20,000 samples to
train, 8,000 to test) a fault counts as found where its sensor is told during it. On real recordings an event is false
where no label lies within it and 60 samples before; labels say nothing about which sensor.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import numpy as np

from bench.results import save, table
from edgekd.blocks.stillness import longest_still_s
from edgekd.data import Recording, load
from edgekd.evaluation import stuck
from edgekd.runtime.detector import Detector
from edgekd.runtime.manifest import SensorSpec
from edgekd.simulation.simulate import simulate

SEEDS, TRAIN, TEST = (1, 2, 3), 20_000, 8_000
HOP = 10
AROUND = 60  # samples before an event in which a label excuses it
STUCK = "stuck-sensor"


def watching(train: Recording) -> Detector:
    """A detector that knows what is normal in `train`, and only watches for stuck sensors."""
    still_s = longest_still_s(train)
    low, high, fill = train.values.min(0), train.values.max(0), np.median(train.values, axis=0)
    sensors = (
        SensorSpec(name, "", *map(float, numbers))
        for name, *numbers in zip(train.sensors, low, high, fill, still_s, strict=True)
    )
    return stuck.watching(tuple(sensors), train.period_s, HOP)


def on_real(train: Recording, test: Recording) -> dict[str, Any]:
    """False events a day of one recording."""
    assert test.labels is not None
    detector, false = watching(train), 0
    for change in stuck.stuck_sensors(detector, test):
        begin = max(start for start in test.starts if start <= change.start)
        since, until = max(change.start - AROUND, begin), change.sample + 1
        false += not test.labels[since:until].any()
    watched = sum(sensor.longest_still_s > 0 for sensor in detector.manifest.sensors)
    days = float((~test.labels).sum() * test.period_s / 86_400)
    return {
        "recording": test.source,
        "sensors": train.n_sensors,
        "watched": watched,
        "false": false,
        "normal days": days,
    }


def on_plant(seed: int) -> dict[str, Any]:
    """Stuck sensors of one plant that are found, and events elsewhere."""
    train = simulate(TRAIN, seed=seed, faults=()).recording
    plant = simulate(TEST, seed=seed + 100)
    faults = [event for event in plant.events if event.kind == STUCK]
    changes = list(stuck.stuck_sensors(watching(train), plant.recording))
    delays = [
        change.sample - fault.start
        for fault in faults
        for change in changes
        if change.sensor in fault.sensors and fault.start <= change.sample < fault.end + HOP
    ]
    false = len(changes) - len(delays)  # a fault holds one event: it ends when the sensor moves
    return {"seed": seed, "stuck": len(faults), "found": len(delays), "samples late": delays, "false": false}


def real(data: Path) -> Iterator[tuple[str, str]]:
    """Every recording at hand of the three sets; SKAB's runs are all trained on its anomaly-free one."""
    yield from (("SMD", str(path)) for path in sorted((data / "smd").glob("*.npz")))
    yield from (("ASD", str(path)) for path in sorted((data / "asd").glob("*.npz")))
    skab = data / "skab" / "SKAB.npz"
    yield from (("SKAB", f"{skab}#{name}") for name in np.load(skab)["files"] if name != "anomaly_free")


@click.command()
@click.option("--data", type=click.Path(path_type=Path), envvar="EDGEKD_DATA", required=True, help="Data folder.")
def main(data: Path) -> None:
    """Measure, print and save."""
    plant = [on_plant(seed) for seed in SEEDS]
    found = [(kind, on_real(load(name, "train"), load(name, "test"))) for kind, name in real(data)]
    rows = []
    for kind in ("SMD", "ASD", "SKAB"):
        mine = [row for of, row in found if of == kind]
        total = {key: sum(row[key] for row in mine) for key in ("sensors", "watched", "false", "normal days")}
        rows.append({"recordings": kind, **total, "false a day": total["false"] / total["normal days"]})
    print(table(plant), table(rows), sep="\n")
    save("stuck", {"plant": plant, "real": rows, "of": [row for _, row in found]})


if __name__ == "__main__":
    main()
