"""int8 scores on a processor without VNNI against the native ones: a Haswell model under qemu-user.

    python -m bench.files.int8_without_vnni bench/trained/smd-1-2-int8.onnx [FILE ...]

Needs Debian's qemu-user (qemu-x86_64). The same Python runs the same detector on the same samples, once as it is and
once with `qemu-x86_64 -cpu Haswell`.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import click
import numpy as np

from bench.results import save, table
from edgekd.runtime import Detector
from edgekd.runtime.selftest import self_test_samples

STEPS = 60
PROGRAM = """
import json, sys
from bench.files.int8_without_vnni import scores
print(json.dumps([scores(path) for path in sys.argv[1:]]))
"""


def scores(path: str) -> list[float]:
    """Scores of a closed loop over the generator's samples, warm-up included in the run but not in the list."""
    detector = Detector.load(path, check=False)
    manifest = detector.manifest
    hops = manifest.warmup_samples // manifest.hop + STEPS
    samples = self_test_samples(manifest.sensors, manifest.hop, hops, seed=7)
    return [verdict.score for verdict in detector.update_block(samples.reshape(-1, len(manifest.sensors)))]


@click.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
def main(files: tuple[Path, ...]) -> None:
    """Compare, print and save."""
    qemu = shutil.which("qemu-x86_64") or shutil.which("qemu-x86_64-static")
    if qemu is None:
        raise click.ClickException("qemu-x86_64 is not installed; on Debian: apt-get install qemu-user")
    paths = [str(path) for path in files]
    # the emulated model lacks AVX-512: numpy and onnxruntime choose their AVX2 kernels there
    run = subprocess.run(
        [qemu, "-cpu", "Haswell", sys.executable, "-c", PROGRAM, *paths], capture_output=True, text=True, check=False
    )
    if run.returncode:
        raise click.ClickException(f"the emulated run failed: {run.stderr.strip().splitlines()[-1]}")
    rows = []
    for path, emulated in zip(files, json.loads(run.stdout.splitlines()[-1])):
        native = np.array(scores(str(path)))
        scale = np.maximum(np.abs(native), Detector.load(path, check=False).manifest.threshold.value)
        error = np.abs(np.array(emulated) - native)
        rows.append({
            "file": path.name, "steps": len(native),
            "worst error, relative to score or threshold": float((error / scale).max()),
            "bit-equal": float(np.mean(error == 0)),
        })  # fmt: skip
    print(table(rows))
    save(
        "haswell",
        rows,
        emulator=subprocess.run([qemu, "--version"], capture_output=True, text=True).stdout.split("\n")[0],
    )


if __name__ == "__main__":
    main()
