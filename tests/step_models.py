"""Small step graphs with a manifest, built with onnx.helper: what the runtime's tests run instead of a student.

The graph is a detector in small, with a recurrence that never forgets at once, so that one wrong sample or one lost
state changes every later score:

    x      = mean over the hop of (samples - fill) / (high - low), invalid sensors at 0          (n,)
    ema'   = 0.9 ema + 0.1 x                                                                      (n,)
    swing' = tanh(swing @ W + x)                                                                  (n,)
    score  = sum of contributions,  contributions = valid * ((x - ema')^2 + 0.1 swing'^2)
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from edgekd.export.embed import embed
from edgekd.runtime.engines import load_engine
from edgekd.runtime.manifest import DigestSpec, Manifest, ScoreSpec, SelfTestSpec, SensorSpec, StateSpec, ThresholdSpec
from edgekd.runtime.selftest import self_test_scores


def step_graph(n: int, hop: int, seed: int = 0) -> onnx.ModelProto:
    """The step graph above for n sensors and this hop."""

    def constant(name: str, value: object) -> onnx.TensorProto:
        return numpy_helper.from_array(np.asarray(value, np.float32), name)

    def value(name: str, shape: list[int]) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)

    low, high, fill = ranges(n)
    constants = [
        constant("fill", fill),
        constant("span", high - low),
        constant("keep", 0.9),
        constant("take", 0.1),
        constant("W", recurrence(n, seed)),
    ]
    node = helper.make_node
    nodes = [
        node("ReduceMean", ["samples"], ["mean"], axes=[0], keepdims=0),
        node("Sub", ["mean", "fill"], ["centered"]),
        node("Div", ["centered", "span"], ["scaled"]),
        node("Mul", ["scaled", "valid"], ["x"]),
        node("Mul", ["ema", "keep"], ["kept"]),
        node("Mul", ["x", "take"], ["taken"]),
        node("Add", ["kept", "taken"], ["next_ema"]),
        node("MatMul", ["swing", "W"], ["turned"]),
        node("Add", ["turned", "x"], ["pushed"]),
        node("Tanh", ["pushed"], ["next_swing"]),
        node("Sub", ["x", "next_ema"], ["off"]),
        node("Mul", ["off", "off"], ["off2"]),
        node("Mul", ["next_swing", "next_swing"], ["swing2"]),
        node("Mul", ["swing2", "take"], ["swing_part"]),
        node("Add", ["off2", "swing_part"], ["parts"]),
        node("Mul", ["parts", "valid"], ["contributions"]),
        node("ReduceSum", ["contributions"], ["score"], keepdims=0),
    ]
    graph = helper.make_graph(
        nodes,
        "step",
        [value("samples", [hop, n]), value("valid", [n]), value("ema", [n]), value("swing", [n])],
        [value("score", []), value("contributions", [n]), value("next_ema", [n]), value("next_swing", [n])],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.checker.check_model(model)
    return model


def step_manifest(
    n: int, hop: int, warmup: int = 0, period_s: float = 1.0, threshold: float = 0.3, normal_p90: float = 0.0
) -> Manifest:
    """A manifest for `step_graph(n, hop)`; its self-test is empty until `step_file` fills it in."""
    low, high, fill = ranges(n)
    return Manifest(
        method="test",
        preset="small",
        system="a detector in small",
        sensors=tuple(SensorSpec(f"s{i}", "u", float(low[i]), float(high[i]), float(fill[i])) for i in range(n)),
        period_s=period_s,
        hop=hop,
        warmup_samples=warmup,
        max_hold_s=3 * period_s,
        state=(StateSpec("ema", (n,), "float32"), StateSpec("swing", (n,), "float32")),
        threshold=ThresholdSpec(threshold),
        score=ScoreSpec(normal_p90=normal_p90),
        self_test=SelfTestSpec(7, 1, (0.0,), 1e-4),
        digests=DigestSpec(),
        edgekd="0.1.0",
    )


def step_file(path: Path, n: int = 3, hop: int = 4, seed: int = 0, **manifest: float) -> Path:
    """Write a model file with a true self-test to `path`; the keywords go to `step_manifest`."""
    path.write_bytes(with_manifest(step_graph(n, hop, seed).SerializeToString(), n, hop, **manifest))
    return path


def with_manifest(model: bytes, n: int, hop: int, **manifest: float) -> bytes:
    """A step graph in either format with its manifest and a true self-test; the keywords go to `step_manifest`."""
    spec = step_manifest(n, hop, **manifest)  # type: ignore[arg-type]
    scores = self_test_scores(load_engine(model, spec), spec, seed=7, steps=12)
    return embed(model, replace(spec, self_test=SelfTestSpec(7, 12, tuple(scores), 1e-4)))


def step_samples(n: int, count: int, seed: int = 1) -> np.ndarray:
    """A random walk within the sensors' ranges with a few jumps: float32 (count, n)."""
    rng = np.random.default_rng(seed)
    low, high, fill = ranges(n)
    walk = np.cumsum(rng.normal(0, 0.05, (count, n)), axis=0)
    walk += (rng.random((count, 1)) < 0.05) * rng.normal(0, 1.5, (count, n))
    return (fill + (high - low) * np.sin(walk)).astype(np.float32)


def recurrence(n: int, seed: int) -> np.ndarray:
    """W (n, n)."""
    return np.random.default_rng(seed).normal(0, 0.8 / np.sqrt(n), (n, n))


def ranges(n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """low, high and fill (n,) of the sensors."""
    index = np.arange(n, dtype=np.float64)
    return -1.0 - index, 2.0 + 3 * index, 0.25 + index
