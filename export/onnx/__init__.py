"""ONNX: a step module as one graph for ONNX Runtime, in float or int8."""

from __future__ import annotations

from edgekd.blocks.step import StepModule
from edgekd.data.recording import Recording
from edgekd.export.scheme import Quantize, Scheme

SUFFIX = ".onnx"
WEIGHTS = "weights"  # the one scheme that has no ranges


def float_model(step: StepModule, target: str | None = None) -> bytes:
    """The float graph, serialized, without a manifest. There is one target: ONNX Runtime."""
    from edgekd.export.onnx.graph import float_graph

    return float_graph(step).SerializeToString()


def schemes(target: str | None = None) -> dict[str, Scheme]:
    """The int8 schemes in the order of trying, the default first."""
    from edgekd.export.onnx.int8 import RECIPES

    static = {name: Scheme(name, r.words, _with(name), calibration=r.calibration) for name, r in RECIPES.items()}
    words = "int8 weights in small groups, computed in float32"
    return {**static, WEIGHTS: Scheme(WEIGHTS, words, _weights_alone, weights_alone=True)}


def _with(name: str) -> Quantize:
    """What makes an int8 model by the recipe of this name; onnx is imported when it is called."""

    def quantize(model: bytes, step: StepModule, replay: Recording) -> bytes:
        import onnx

        from edgekd.export.onnx import int8

        graph = onnx.load_from_string(model)
        quantized = int8.quantize(graph, step, replay, int8.RECIPES[name])
        return model if quantized is graph else quantized.SerializeToString()

    return quantize


def _weights_alone(model: bytes, step: StepModule, replay: Recording) -> bytes:
    import onnx

    from edgekd.export.onnx import int8, weights

    graph = onnx.load_from_string(model)
    layers = int8.quantizable(graph, step.float_weights, step) + int8.matrices(graph, step)
    return weights.quantize(graph, layers).SerializeToString() if layers else model
