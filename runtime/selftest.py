"""The self-test: samples from a documented generator, scores that the workstation expects of them.

The generator is splitmix64 (Steele, Lea, Flood, OOPSLA 2014); docs/file-format.md has it for any language. Every sensor
is valid, the state starts cold (zeros), and the score of every step counts, those in warm-up too.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np

from edgekd.runtime.engines import Engine, Stream
from edgekd.runtime.errors import EdgeKDError, GateFailed, ModelRefused
from edgekd.runtime.json_fields import shown
from edgekd.runtime.manifest import Manifest, SensorSpec

# The reader's own caps: a file cannot wave itself through. Other processors round float32 sums in another order; int8
# adds rounding at the edge of a quantization step.
MAX_TOLERANCE_FLOAT = 0.01
MAX_TOLERANCE_INT8 = 0.05


class SelfTestResult(NamedTuple):
    """Outcome of a replay: the largest |score - expected| / max(|expected|, threshold), and what was allowed."""

    passed: bool
    worst_error: float
    worst_step: int
    tolerance: float
    steps: int


def splitmix64(first: int, count: int) -> np.ndarray:
    """splitmix64 of first, first + 1, …: uint64 (count,)."""
    z = np.arange(count, dtype=np.uint64) + np.uint64((first + 0x9E3779B97F4A7C15) % 2**64)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def self_test_samples(sensors: Sequence[SensorSpec], hop: int, steps: int, seed: int, first: int = 0) -> np.ndarray:
    """Samples of steps first … first + steps - 1: float32 (steps, hop, n), raw units."""
    n = len(sensors)
    bits = splitmix64(seed + first * hop * n, steps * hop * n)
    u = (bits >> np.uint64(40)).astype(np.float64) / 2**24
    low, high = np.array([(sensor.low, sensor.high) for sensor in sensors], np.float64).T  # (n,) each
    return (low + u.reshape(steps, hop, n) * (high - low)).astype(np.float32)


def self_test_scores(engine: Engine, manifest: Manifest, seed: int, steps: int) -> list[float]:
    """The engine's scores over the generator's samples, from cold state: what the exporter writes into the manifest."""
    samples = (self_test_samples(manifest.sensors, manifest.hop, 1, seed, step)[0] for step in range(steps))
    return [float(found[0]) for found in replay(engine, manifest, samples)]


def replay(engine: Engine, manifest: Manifest, samples: Iterable[np.ndarray]) -> Iterator[Sequence[np.ndarray]]:
    """What `Engine.run` returns for each hop of samples, (hop, n) raw units, from cold state, as a detector runs it."""
    hop, valid = np.empty((manifest.hop, len(manifest.sensors)), "f"), np.ones(len(manifest.sensors), "f")
    feeds = Stream(manifest.cold_state() | {"samples": hop, "valid": valid})
    for hop[:] in samples:
        found = engine.run(feeds)
        feeds.update((spec.name, value) for spec, value in zip(manifest.state, found[len(manifest.outputs) :]))
        yield found


def run_self_test(engine: Engine, manifest: Manifest) -> SelfTestResult:
    """Replay the manifest's self-test on this engine and compare; raises ModelRefused where the graph does not run."""
    test = manifest.self_test
    int8 = manifest.quantization.scheme.startswith("int8")
    tolerance = min(test.tolerance, MAX_TOLERANCE_INT8 if int8 else MAX_TOLERANCE_FLOAT)
    with cannot_run(engine):
        scores = np.array(self_test_scores(engine, manifest, test.seed, test.steps))
    expected = np.array(test.scores)
    scale = np.maximum(np.abs(expected), abs(manifest.threshold.value))
    difference = np.abs(scores - expected)
    errors = np.divide(difference, scale, out=np.where(difference == 0, 0.0, np.inf), where=scale > 0)
    errors[~np.isfinite(scores)] = np.inf
    worst = int(errors.argmax())
    return SelfTestResult(bool(errors[worst] <= tolerance), float(errors[worst]), worst, tolerance, test.steps)


@contextmanager
def cannot_run(engine: Engine) -> Iterator[None]:
    """Make what an engine raises, of many kinds, a ModelRefused."""
    try:
        yield
    except (EdgeKDError, MemoryError):
        raise
    except Exception as error:
        raise ModelRefused(f"{engine.name} cannot run the graph ({shown(str(error), 200)}); export it again") from None


def check_self_test(engine: Engine, manifest: Manifest) -> SelfTestResult:
    """Like `run_self_test`, but raises GateFailed where the engine computes something else."""
    result = run_self_test(engine, manifest)
    if not result.passed:
        # tflite-runtime's kernels for dynamic int8 are silently wrong for weights quantized per channel
        other = "with --target tflite-runtime" if engine.name.startswith("tflite-runtime") else "without --int8"
        off = f"step {result.worst_step} off by {result.worst_error:.2g} of its scale, allowed is {result.tolerance:g}"
        why = f"this engine does not compute what was trained: try another version of it, or export {other}"
        raise GateFailed(f"self-test: {engine.name} scores {off}; {why}")
    return result
