"""ONNX: a step module as one graph for ONNX Runtime, in float or int8."""

from __future__ import annotations

from edgekd.data.recording import Recording
from edgekd.export.scheme import Scheme
from edgekd.step import StepModule

SUFFIX = ".onnx"


def float_model(step: StepModule, target: str | None = None) -> bytes:
    """The float graph, serialized, without a manifest. There is one target: ONNX Runtime."""
    from edgekd.export.onnx.graph import float_graph

    return float_graph(step).SerializeToString()


def schemes(target: str | None = None) -> dict[str, Scheme]:
    """The int8 schemes in the order of trying, the default first."""
    from edgekd.export.onnx.int8 import SCHEME

    return {"static": Scheme("static", SCHEME, _static)}


def _static(model: bytes, step: StepModule, replay: Recording) -> bytes:
    import onnx

    from edgekd.export.onnx.int8 import quantize

    graph = onnx.load_from_string(model)
    quantized = quantize(graph, step, replay)
    return model if quantized is graph else quantized.SerializeToString()
