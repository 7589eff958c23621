"""Slow verdicts on the simulated plant's leaks and cycle drifts, and their false alarms on normal data.

    python -m bench.detection.slow --data DIR

Each seed trains on 20,000 fault-free samples of 12 sensors and is tested on 8,000 of seed + 100, once with the faults
and once without any. A fault is found where an alarm within it names its sensor first or second: one that trails after
another fault does not count. On servers the unlabeled part of the test is what is normal. The fast score that gates is
the committee's of innovations.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import numpy as np

from bench.results import save, table
from edgekd.blocks.step import StepModule
from edgekd.blocks.with_slow import WithSlow
from edgekd.data import Recording, load
from edgekd.methods.interface import Training
from edgekd.methods.linear import PRESETS, train
from edgekd.simulation.faults import CYCLE_DRIFT, SLOW_LEAK
from edgekd.simulation.simulate import simulate

PARTS = {"dev": range(1, 4), "confirm": range(4, 11)}
TRAIN, TEST, SENSORS = 20_000, 8_000, 12
GAP_HOPS = 6
"""Alarms within so many hops of each other are one."""
TRAIL_HOPS = 84
"""Hops after a label in which an average still holds what it saw; an alarm there is no false one."""
SERVERS = [*(f"smd/machine-1-{i}" for i in range(2, 9)), *(f"asd/omi-{i}" for i in (2, 4, 5))]


def fitted(recording: Recording) -> StepModule:
    """The committee with its slow monitors."""
    return train(recording, PRESETS["innovations"], Training()).step


def about(step: StepModule) -> dict[str, Any]:
    """Which monitors are on."""
    if not isinstance(step, WithSlow):
        return {"cycle_samples": 0, "steps": False, "means": False}
    steps, means = (bool(scale.any()) for scale in step.slow.mean_scale)
    return {"cycle_samples": step.slow.cycle_hops * step.hop, "steps": steps, "means": means}


def told(step: StepModule, recording: Recording, sensor: str | None = None) -> np.ndarray:
    """int (k,): newest sample of every hop with a slow alarm, or with one that names `sensor` first or second."""
    slow = step.score(recording).slow
    if slow is None:
        return np.zeros(0, int)
    alarm = slow.scores > 1
    if sensor is not None:
        alarm &= (np.argsort(-slow.contributions, 1)[:, :2] == recording.sensors.index(sensor)).any(1)
    return slow.samples[alarm]


def episodes(alarms: np.ndarray, hop: int) -> int:
    """Alarms that come within GAP_HOPS of each other are one."""
    return int(len(alarms) > 0) + int((np.diff(alarms) > GAP_HOPS * hop).sum())


def outside(alarms: np.ndarray, labels: np.ndarray, hop: int) -> np.ndarray:
    """Alarms with no labeled sample in what the averages hold."""
    return np.array([end for end in alarms if not labels[max(0, end - TRAIL_HOPS * hop) : end + 1].any()], int)


def plant(seed: int) -> dict[str, Any]:
    """One seed: slow faults found, and false alarms in days without any fault."""
    step = fitted(simulate(TRAIN, SENSORS, seed, faults=()).recording)
    faulty, clean = simulate(TEST, SENSORS, seed + 100), simulate(TEST, SENSORS, seed + 100, faults=())
    row = about(step)
    for kind in (SLOW_LEAK, CYCLE_DRIFT):
        events = [event for event in faulty.events if event.kind == kind]
        found = []
        for event in events:
            alarms = told(step, faulty.recording, event.sensors[0])
            found.append(((alarms >= event.start) & (alarms < event.end)).any())
        row |= {f"{kind}_found": int(sum(found)), f"{kind}s": len(events)}
    row["false_alarms"] = episodes(told(step, clean.recording), step.hop)
    row["clean_days"] = TEST * clean.recording.period_s / 86_400
    return row


def server(spec: str, data: Path) -> dict[str, Any]:
    """One server: false alarms in the normal part of its test."""
    train_part, test = (load(str(data / f"{spec}.npz"), part) for part in ("train", "test"))
    step = fitted(train_part)
    hop = step.hop
    labels = test.labels if test.labels is not None else np.zeros(len(test), bool)
    false = outside(told(step, test), labels, hop)
    return {
        **about(step),
        "false_alarms": episodes(false, hop),
        "share_of_normal": round(len(false) * hop / max(1, int((~labels).sum())), 4),
    }


@click.command()
@click.option("--data", type=click.Path(path_type=Path), envvar="EDGEKD_DATA", required=True, help="Data folder.")
def main(data: Path) -> None:
    """Measure, print and save."""
    plants = [{"part": name, "seed": seed, **plant(seed)} for name, seeds in PARTS.items() for seed in seeds]
    print(table(plants))
    servers = [{"server": spec, **server(spec, data)} for spec in SERVERS]
    print(table(servers))
    save("slow", {"plant": plants, "servers": servers})


if __name__ == "__main__":
    main()
