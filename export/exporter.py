"""The export itself: graph, optional int8, manifest, parity, self-test; a file appears only when all of it holds."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from edgekd import __version__
from edgekd.checkpoint import Checkpoint
from edgekd.cost import multiply_adds
from edgekd.export.onnx.graph import float_graph
from edgekd.export.onnx.int8 import CALIBRATION_STEPS, SCHEME, quantize
from edgekd.export.parity import STEPS, Parity, prove
from edgekd.methods import method
from edgekd.runtime.engines import Engine, load_engine
from edgekd.runtime.errors import GateFailed
from edgekd.runtime.files import atomic
from edgekd.runtime.manifest import (
    AlarmRate,
    DigestSpec,
    Manifest,
    QuantizationSpec,
    ScoreSpec,
    SelfTestSpec,
    SensorSpec,
    StateSpec,
    ThresholdSpec,
    embed,
)
from edgekd.runtime.selftest import MAX_TOLERANCE_INT8, self_test_scores
from edgekd.step import StepModule

SELF_TEST_STEPS = 12  # enough to run every state through; a start on a device pays for them
SELF_TEST_SEED = 1
SELF_TEST_TOLERANCE = 1e-3
HOLD_S = 5.0  # a missing sensor is held for this long ...
HOLD_SAMPLES = 5  # ... or for so many samples, whichever is longer


@dataclass(frozen=True)
class Exported:
    """What was written, and how it compares."""

    path: Path
    manifest: Manifest
    parity: Parity
    file_bytes: int
    float_bytes: int
    """Size of the float file of the same student."""
    step_us: float
    """Median step in the engine on this machine, microseconds."""
    float_step_us: float
    """The same for the float graph, measured in turn with it."""


def export(
    checkpoint: Checkpoint, output: Path, *, int8: bool = False, force: bool = False, steps: int = STEPS
) -> Exported:
    """Write `output`; raises GateFailed, and leaves no file, where it is not what was trained (`force` writes it).

    `steps`: length of the closed-loop proof.
    """
    step, replay = checkpoint.step(), checkpoint.replay()
    graph = float_graph(step)
    float_model = graph.SerializeToString()
    quantized = quantize(graph, step, replay) if int8 else graph
    int8 = quantized is not graph  # a graph without convolutions stays float
    model = quantized.SerializeToString() if int8 else float_model
    manifest = _manifest(checkpoint, step, int8)
    engine = _engine(model, manifest)
    parity = prove(step, engine, manifest, replay, steps)
    if not force:
        parity.check(int8)
    manifest = replace(
        manifest,
        parity=parity.to_json(),
        self_test=replace(
            manifest.self_test, scores=tuple(self_test_scores(engine, manifest, SELF_TEST_SEED, SELF_TEST_STEPS))
        ),
    )
    content = embed(model, manifest)
    float_us, us = _step_times([_engine(float_model, manifest), engine], manifest, replay.values)
    _write(output, content)
    return Exported(output, manifest, parity, len(content), len(content) - len(model) + len(float_model), us, float_us)


def _manifest(checkpoint: Checkpoint, step: StepModule, int8: bool) -> Manifest:
    """All but the parity record and the self-test's scores."""
    normal = checkpoint.normal_scores.numpy()
    rate = checkpoint.threshold["alarms_per_day"]
    known = {name: rate[name] for name in ("measured", "upper95", "days")} if rate["days"] else None
    return Manifest(
        edgekd=__version__,
        method=checkpoint.method,
        preset=checkpoint.preset,
        system=method(checkpoint.method).SYSTEM,
        sensors=tuple(SensorSpec(**sensor) for sensor in checkpoint.sensors),
        dropped=tuple(checkpoint.dropped),
        period_s=checkpoint.period_s,
        hop=step.hop,
        warmup_samples=step.warmup_samples,
        max_hold_s=max(HOLD_S, HOLD_SAMPLES * checkpoint.period_s),
        state=tuple(StateSpec(name, tuple(shape), "float32") for name, shape in step.state_shapes().items()),
        threshold=ThresholdSpec(
            value=checkpoint.threshold["value"],
            rule=checkpoint.threshold["rule"],
            data=checkpoint.threshold["data"],
            alarms_per_day=AlarmRate(**known) if known else None,
        ),
        self_test=SelfTestSpec(
            SELF_TEST_SEED,
            SELF_TEST_STEPS,
            (0.0,) * SELF_TEST_STEPS,
            MAX_TOLERANCE_INT8 if int8 else SELF_TEST_TOLERANCE,
        ),
        score=ScoreSpec(
            "anomaly score, larger is stranger", float(np.median(normal)), float(np.quantile(normal, 0.99))
        ),
        quantization=QuantizationSpec(
            SCHEME if int8 else "float32",
            f"{CALIBRATION_STEPS} closed-loop steps of the replay stretch" if int8 else "",
        ),
        digests=DigestSpec(student=checkpoint.digest(), data=checkpoint.data["digest"]),
        metrics=checkpoint.metrics,
        cost={"parameters": step.parameters_learned, "multiply_adds": multiply_adds(step)},
    )


def _engine(model: bytes, manifest: Manifest) -> Engine:
    return load_engine(embed(model, manifest), manifest)


def _step_times(engines: list[Engine], manifest: Manifest, values: np.ndarray, rounds: int = 60) -> list[float]:
    """Median microseconds of a step in each engine, taken in turn so that a slow moment hits all of them."""
    feeds = {spec.name: np.zeros(spec.shape, spec.dtype) for spec in manifest.state}
    feeds |= {"samples": values[: manifest.hop], "valid": np.ones(values.shape[1], np.float32)}
    times = np.empty((rounds, len(engines)))
    for row in times:
        for i, engine in enumerate(engines):
            started = time.perf_counter()
            engine.run(feeds)
            row[i] = time.perf_counter() - started
    return [float(us) for us in np.median(times[5:], axis=0) * 1e6]


def _write(path: Path, content: bytes) -> None:
    """The whole file or none; one that was there before stays until then."""
    try:
        with atomic(path) as file:
            file.write(content)
    except OSError as error:
        raise GateFailed(f"{path}: cannot be written ({error.strerror}); choose another place with -o") from None
