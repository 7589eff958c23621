"""What saving the state writes to a disk: two slots in place, beside one file renamed over the old one.

    python -m bench.promises.state_wear [STUDENT ...]

On an ext4 image mounted through a loop device, whose own counters say what reached it: file, journal and directory.
Needs root. STUDENT is a checkpoint (bench/trained/smd-1-2.pt unless given); beside it, the largest state of preset
`edge`, 256 KiB.
"""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click
import numpy as np

from bench.results import save, table
from bench.trained_students import student
from edgekd.checkpoint import Checkpoint
from edgekd.runtime.files import atomic
from edgekd.runtime.state import SavedState, StateFile

SAVES = 200
PER_DAY = 86_400 // 60  # at the default --state-every


@contextlib.contextmanager
def ext4() -> Iterator[tuple[Path, Callable[[], int]]]:
    """A fresh file system of 64 MiB, and what counts the bytes that its device has taken."""
    with TemporaryDirectory() as name:
        image, folder = Path(name) / "image", Path(name) / "disk"
        folder.mkdir()
        image.write_bytes(bytes(64 * 2**20))
        subprocess.run(["mkfs.ext4", "-q", image], check=True)
        subprocess.run(["mount", "-o", "loop", image, folder], check=True)
        device = subprocess.run(["findmnt", "-no", "SOURCE", folder], check=True, capture_output=True, text=True)
        counters = Path("/sys/block") / Path(device.stdout.strip()).name / "stat"
        try:
            yield folder, lambda: 512 * int(counters.read_text().split()[6])
        finally:
            subprocess.run(["umount", folder], check=True)


def snapshots(checkpoint: Path | None) -> tuple[str, dict[str, np.ndarray]]:
    """A name, and arrays of the sizes that `Detector.snapshot` gives."""
    if checkpoint is None:
        return "256 KiB", {"state.all": np.zeros(2**16, np.float32)}
    step = Checkpoint.load(checkpoint).step()
    n = step.n_sensors
    arrays = {f"state.{name}": np.zeros(shape, np.float32) for name, shape in step.state_shapes().items()}
    arrays |= {"samples": np.zeros((step.hop, n), np.float32), "seen": np.array(0), "warm_at": np.array(0)}
    arrays |= {"diverged": np.array(0), "missing": np.zeros(n, np.int64), "held": np.zeros(n, np.int64)}
    return f"{checkpoint.stem}, {n} sensors", arrays | {name: np.zeros(n, np.float32) for name in ("valid", "last")}


def measured(arrays: dict[str, np.ndarray], in_place: bool) -> tuple[float, int]:
    """Bytes that a save brings to the device, mean, and the size of the file."""
    random = np.random.default_rng(0)
    with ext4() as (folder, written):
        path = folder / "state"
        file = StateFile(path, "ab" * 32)

        def once() -> None:
            for name, array in arrays.items():  # what is learned changes from save to save
                arrays[name] = random.random(array.shape).astype(array.dtype)
            file.save(SavedState(arrays, {}))

        once()
        content = path.read_bytes()[: path.stat().st_size // 2]
        subprocess.run(["sync"], check=True)
        before = written()
        for _ in range(SAVES):
            if in_place:
                once()
            else:
                with atomic(path) as whole:
                    whole.write(content)
        subprocess.run(["sync"], check=True)
        return (written() - before) / SAVES, len(content)


@click.command()
@click.argument("students", nargs=-1, type=click.Path(path_type=Path))
def main(students: tuple[Path, ...]) -> None:
    """Measure, print and save."""
    rows: list[dict[str, Any]] = []
    for checkpoint in [*(students or [student("smd-1-2")]), None]:
        for way in ("two slots in place", "one file, renamed"):
            name, arrays = snapshots(checkpoint)
            written, size = measured(arrays, way.startswith("two"))
            state = sum(array.nbytes for key, array in arrays.items() if key.startswith("state."))
            rows.append({
                "state": name, "state KiB": state / 1024, "saved": way, "slot KiB": size / 1024,
                "KiB to the device a save": written / 1024, "MiB a day, one a minute": written * PER_DAY / 2**20,
            })  # fmt: skip
    print(table(rows))
    save("state_wear", rows, saves=SAVES, file_system="ext4, 4 KiB blocks, data=ordered")


if __name__ == "__main__":
    main()
