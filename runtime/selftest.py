"""The self-test: samples from a documented generator, scores that the workstation expects of them.

The generator, for any language. For value number k = 0, 1, 2 … (unsigned 64-bit arithmetic, wrapping):

    z = seed + k + 0x9E3779B97F4A7C15
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB
    z = z ^ (z >> 31)                             # splitmix64 (Steele, Lea, Flood, OOPSLA 2014)
    u = (z >> 40) / 2^24                          # the top 24 bits: a float in [0, 1)

Values run over sensors first, then samples, then steps: k = (step * hop + row) * n + column. A sample is
`low + u * (high - low)` of its sensor's training range, computed in double precision and rounded to float32. Every
sensor is valid, the state starts cold (zeros), and the score of every step counts, those in warm-up too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edgekd.runtime.engines import Engine
from edgekd.runtime.errors import EdgeKDError, GateFailed, ModelRefused
from edgekd.runtime.json_fields import shown
from edgekd.runtime.manifest import Manifest, SensorSpec

# The reader's own caps: a file cannot wave itself through. Other processors round float32 sums in another order; int8
# adds rounding at the edge of a quantization step.
MAX_TOLERANCE_FLOAT = 0.01
MAX_TOLERANCE_INT8 = 0.05


@dataclass(frozen=True)
class SelfTestResult:
    """Outcome of a replay."""

    passed: bool
    worst_error: float
    """Largest |score - expected| / max(|expected|, threshold)."""
    worst_step: int
    tolerance: float
    """The relative error that was allowed: the file's, capped by the reader."""
    steps: int


def splitmix64(first: int, count: int) -> np.ndarray:
    """splitmix64 of first, first + 1, …: uint64 (count,)."""
    z = np.arange(count, dtype=np.uint64) + np.uint64((first + 0x9E3779B97F4A7C15) % 2**64)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def self_test_samples(
    sensors: Sequence[SensorSpec], hop: int, steps: int, seed: int, first_step: int = 0
) -> np.ndarray:
    """Samples of steps first_step … first_step + steps - 1: float32 (steps, hop, n), raw units."""
    n = len(sensors)
    bits = splitmix64(seed + first_step * hop * n, steps * hop * n)
    u = (bits >> np.uint64(40)).astype(np.float64) / 2**24
    low, high = np.array([(sensor.low, sensor.high) for sensor in sensors], np.float64).T  # (n,) each
    return (low + u.reshape(steps, hop, n) * (high - low)).astype(np.float32)


def self_test_scores(engine: Engine, manifest: Manifest, seed: int, steps: int) -> list[float]:
    """The engine's scores over the generator's samples, from cold state: what the exporter writes into the manifest."""
    feeds = {spec.name: np.zeros(spec.shape, spec.dtype) for spec in manifest.state}
    feeds["valid"] = np.ones(len(manifest.sensors), np.float32)
    scores = []
    for step in range(steps):
        feeds["samples"] = self_test_samples(manifest.sensors, manifest.hop, 1, seed, step)[0]  # (hop, n)
        found = engine.run(feeds)
        feeds.update((spec.name, value) for spec, value in zip(manifest.state, found[len(manifest.outputs) :]))
        scores.append(float(found[0]))
    return scores


def run_self_test(engine: Engine, manifest: Manifest) -> SelfTestResult:
    """Replay the manifest's self-test on this engine and compare; raises ModelRefused where the graph does not run."""
    test = manifest.self_test
    int8 = manifest.quantization.scheme.startswith("int8")
    tolerance = min(test.tolerance, MAX_TOLERANCE_INT8 if int8 else MAX_TOLERANCE_FLOAT)
    try:
        scores = np.array(self_test_scores(engine, manifest, test.seed, test.steps))
    except (EdgeKDError, MemoryError):
        raise
    except Exception as error:  # the engines' own, of many kinds
        raise ModelRefused(f"{engine.name} cannot run the graph ({shown(str(error), 200)}); export it again") from None
    expected = np.array(test.scores)
    scale = np.maximum(np.abs(expected), abs(manifest.threshold.value))
    difference = np.abs(scores - expected)
    errors = np.divide(difference, scale, out=np.where(difference == 0, 0.0, np.inf), where=scale > 0)
    errors[~np.isfinite(scores)] = np.inf
    worst = int(errors.argmax())
    return SelfTestResult(bool(errors[worst] <= tolerance), float(errors[worst]), worst, tolerance, test.steps)


def check_self_test(engine: Engine, manifest: Manifest) -> SelfTestResult:
    """Like `run_self_test`, but raises GateFailed where the engine computes something else."""
    result = run_self_test(engine, manifest)
    if not result.passed:
        # tflite-runtime's kernels for dynamic int8 are silently wrong for weights quantized per channel
        other = "with --target tflite-runtime" if engine.name.startswith("tflite-runtime") else "without --int8"
        raise GateFailed(
            f"self-test: {engine.name} scores step {result.worst_step} off by {result.worst_error:.2g} of its scale,"
            f" allowed is {result.tolerance:g}; this engine does not compute what was trained: try"
            f" another version of it, or export {other}"
        )
    return result
