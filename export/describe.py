"""What a file says of itself: the manifest that is written into it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from edgekd import __version__
from edgekd.blocks.step import StepModule, multiply_adds
from edgekd.checkpoint import Checkpoint
from edgekd.data.gaps import HOLD_S, HOLD_SAMPLES
from edgekd.export.parity import Parity
from edgekd.export.scheme import Scheme
from edgekd.export.threshold import in_words
from edgekd.methods import method
from edgekd.runtime.engines import Engine
from edgekd.runtime.json_fields import record
from edgekd.runtime.layout import Layout
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
)
from edgekd.runtime.selftest import MAX_TOLERANCE_INT8, self_test_scores

SELF_TEST_STEPS = 12  # enough to run every state through; a start on a device pays for them
SELF_TEST_SEED = 1
SELF_TEST_TOLERANCE = 1e-3


def described(checkpoint: Checkpoint, step: StepModule) -> Manifest:
    """The manifest of the student's float file, but for what only the file itself can tell."""
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
        max_hold_s=max(HOLD_S, max(HOLD_SAMPLES, checkpoint.held_samples) * checkpoint.period_s),
        layout=None if checkpoint.layout is None else record(checkpoint.layout, "layout", Layout),
        state=tuple(StateSpec(name, tuple(shape), "float32") for name, shape in step.state_shapes().items()),
        threshold=ThresholdSpec(
            value=checkpoint.threshold["value"],
            rule=checkpoint.threshold["rule"],
            data=checkpoint.threshold["data"],
            alarms_per_day=AlarmRate(**known) if known else None,
            points=tuple((rate, value) for rate, value, _ in checkpoint.threshold.get("points", ())),
        ),
        outputs=step.outputs,
        self_test=SelfTestSpec(SELF_TEST_SEED, SELF_TEST_STEPS, (0.0,) * SELF_TEST_STEPS, SELF_TEST_TOLERANCE),
        score=ScoreSpec(
            "anomaly score, larger is stranger", *(float(np.quantile(normal, share)) for share in (0.5, 0.99, 0.9))
        ),
        digests=DigestSpec(student=checkpoint.digest(), data=checkpoint.data["digest"]),
        metrics=checkpoint.metrics,
        cost={"parameters": step.parameters_learned, "multiply_adds": multiply_adds(step)},
    )


def quantized(manifest: Manifest, scheme: Scheme) -> Manifest:
    """The manifest of the float file, told of an int8 one."""
    return replace(
        manifest,
        quantization=QuantizationSpec(scheme.words, scheme.calibration),
        self_test=replace(manifest.self_test, tolerance=MAX_TOLERANCE_INT8),
    )


def refitted(manifest: Manifest, parity: Parity) -> Manifest:
    """The manifest of an int8 file with the threshold on the file's own scale, and each of its points as it moved."""
    before, value = manifest.threshold, parity.threshold
    scaled = before.value > 0 and value > 0
    points = tuple(
        (rate, point * value / before.value if scaled else point + value - before.value)
        for rate, point in before.points
    )
    rule = in_words(before.rule, before.value)
    return replace(manifest, threshold=replace(before, value=value, rule=rule, points=points))


def proven(manifest: Manifest, engine: Engine, parity: Parity) -> Manifest:
    """The manifest with the parity record and the self-test's scores."""
    scores = self_test_scores(engine, manifest, SELF_TEST_SEED, SELF_TEST_STEPS)
    return replace(manifest, parity=parity.to_json(), self_test=replace(manifest.self_test, scores=tuple(scores)))
