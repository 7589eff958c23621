"""Small models whose engine fails, at what a sample says."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from step_models import ranges

from edgekd.export.embed import embed
from edgekd.runtime.engines import load_engine
from edgekd.runtime.manifest import Manifest, SelfTestSpec, SensorSpec, StateSpec, ThresholdSpec
from edgekd.runtime.selftest import self_test_scores

N, FUSE, WARMUP = 3, 50, 4


def value(name: str, shape: list[int], kind: int = TensorProto.FLOAT) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, shape)


def model(path: Path, state: StateSpec, nodes: list[onnx.NodeProto], constants: dict[str, np.ndarray]) -> Path:
    """A detector whose score is the mean of its samples, and `more`; nodes make that, and the next state."""
    kind = TensorProto.INT64 if state.dtype == "int64" else TensorProto.FLOAT
    base = [
        helper.make_node("ReduceMean", ["samples"], ["mean"], axes=[0], keepdims=0),
        helper.make_node("Mul", ["mean", "valid"], ["contributions"]),
        helper.make_node("ReduceSum", ["contributions"], ["sum"], keepdims=0),
    ]
    graph = helper.make_graph(
        [*base, *nodes, helper.make_node("Add", ["sum", "more"], ["score"])],
        "bomb",
        [value("samples", [1, N]), value("valid", [N]), value(state.name, [*state.shape], kind)],
        [
            value("score", []), value("contributions", [N]),
            value(f"next_{state.name}", [*state.shape], kind),
        ],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )  # fmt: skip
    content = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8).SerializeToString()
    low, high, fill = (map(float, column) for column in ranges(N))
    manifest = Manifest(
        method="test", preset="bomb", period_s=1.0, hop=1, warmup_samples=WARMUP, max_hold_s=3.0, state=(state,),
        sensors=tuple(SensorSpec(f"s{i}", "u", *of) for i, of in enumerate(zip(low, high, fill))),
        threshold=ThresholdSpec(1e9), self_test=SelfTestSpec(7, 1, (0.0,), 1e-4),
    )  # fmt: skip
    scores = self_test_scores(load_engine(content, manifest), manifest, 7, 5)
    path.write_bytes(embed(content, replace(manifest, self_test=SelfTestSpec(7, 5, tuple(scores), 1e-4))))
    return path


def looking_model(path: Path) -> Path:
    """Looks up a number by its first sensor, of which there are FUSE + 1."""
    nodes = [
        helper.make_node("Identity", ["before"], ["next_before"]),
        helper.make_node("Slice", ["mean", "first", "second"], ["at"]),
        helper.make_node("Cast", ["at"], ["index"], to=TensorProto.INT64),
        helper.make_node("Gather", ["table", "index"], ["found"], axis=0),
        helper.make_node("ReduceSum", ["found"], ["more"], keepdims=0),
    ]
    constants = {"first": np.array([0]), "second": np.array([1]), "table": np.zeros(FUSE + 1, np.float32)}
    return model(path, StateSpec("before", (1,), "float32"), nodes, constants)
