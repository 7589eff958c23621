"""Slow verdicts on the simulated plant's leaks and cycle drifts, and their false alarms on normal data.

    python -m bench.detection.slow --data DIR

Each seed trains on 20,000 fault-free samples of 12 sensors and is tested on 8,000 of seed + 100, once with the faults
and once without any. A fault is found where an alarm within it names its sensor first or second: one that trails after
another fault does not count. On servers the unlabeled part of the test is what is normal. The fast score that gates is
the linear ensemble's.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import numpy as np
import torch

from bench.results import save, table
from edgekd.blocks.scaling import SampleScaler, kept_columns
from edgekd.blocks.slow import SlowMonitors, fit_slow
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


class Detector:
    """The linear ensemble, and the slow monitors that it gates."""

    def __init__(self, recording: Recording) -> None:
        self.fast = train(recording, PRESETS["ensemble"], Training()).step
        kept = kept_columns(recording.values, True, recording.source)
        self.scaler = SampleScaler.fit(recording.values, kept, "zscore")
        self.level = float(np.quantile(self.fast.score(recording).scores, 0.995))
        self.slow: SlowMonitors = fit_slow(self.scaled(recording).numpy(), self.fast.hop, self.high(recording).numpy())

    def scaled(self, recording: Recording) -> torch.Tensor:
        """float32 (T, m)."""
        return self.scaler(torch.from_numpy(recording.values), torch.ones(recording.values.shape[1]))

    def high(self, recording: Recording) -> torch.Tensor:
        """bool (T // hop,): where the fast score is high; False before its first verdict."""
        scores, hop = self.fast.score(recording), self.fast.hop
        high = np.zeros(len(recording) // hop, bool)
        high[(scores.samples + 1) // hop - 1] = scores.scores > self.level
        return torch.from_numpy(high)

    def alarms(self, recording: Recording, sensor: str | None = None) -> np.ndarray:
        """int (k,): newest sample of every hop with a slow alarm, or with one that names `sensor` first or second."""
        scores, shares = self.slow.batch(self.scaled(recording), self.high(recording))
        alarm = scores >= 1
        if sensor is not None:
            column = int((self.scaler.kept == recording.sensors.index(sensor)).nonzero())
            alarm &= (shares.topk(2, dim=1).indices == column).any(1)
        return (np.flatnonzero(alarm.numpy()) + 1) * self.fast.hop - 1


def episodes(alarms: np.ndarray, hop: int) -> int:
    """Alarms that come within GAP_HOPS of each other are one."""
    return int(len(alarms) > 0) + int((np.diff(alarms) > GAP_HOPS * hop).sum())


def outside(alarms: np.ndarray, labels: np.ndarray, hop: int) -> np.ndarray:
    """Alarms with no labeled sample in what the averages hold."""
    return np.array([end for end in alarms if not labels[max(0, end - TRAIL_HOPS * hop) : end + 1].any()], int)


def plant(seed: int) -> dict[str, Any]:
    """One seed: slow faults found, and false alarms in days without any fault."""
    detector = Detector(simulate(TRAIN, SENSORS, seed, faults=()).recording)
    hop = detector.fast.hop
    faulty, clean = simulate(TEST, SENSORS, seed + 100), simulate(TEST, SENSORS, seed + 100, faults=())
    row: dict[str, Any] = {
        "cycle_samples": detector.slow.cycle_hops * hop,
        "mean_monitor": bool(detector.slow.mean_scale.any()),
    }
    for kind in (SLOW_LEAK, CYCLE_DRIFT):
        events = [event for event in faulty.events if event.kind == kind]
        found = []
        for event in events:
            alarms = detector.alarms(faulty.recording, event.sensors[0])
            found.append(((alarms >= event.start) & (alarms < event.end)).any())
        row |= {f"{kind}_found": int(sum(found)), f"{kind}s": len(events)}
    row["false_alarms"] = episodes(detector.alarms(clean.recording), hop)
    row["clean_days"] = TEST * clean.recording.period_s / 86_400
    return row


def server(spec: str, data: Path) -> dict[str, Any]:
    """One server: false alarms in the normal part of its test."""
    train_part, test = (load(str(data / f"{spec}.npz"), part) for part in ("train", "test"))
    detector = Detector(train_part)
    hop = detector.fast.hop
    labels = test.labels if test.labels is not None else np.zeros(len(test), bool)
    false = outside(detector.alarms(test), labels, hop)
    return {
        "cycle_samples": detector.slow.cycle_hops * hop,
        "mean_monitor": bool(detector.slow.mean_scale.any()),
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
