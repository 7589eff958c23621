"""int8 of a float TFLite model: convolutions alone, recognized by their weights.

What remembers or subtracts stays float by construction, since nothing but convolutions is ever named to the quantizer:
accumulator, signature matrices, attention (whose softmax picks the wrong step when one logit clips), residual, and the
layers that `StepModule.float_weights` names.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec

import numpy as np

from edgekd.data.recording import Recording
from edgekd.export.calibration import STEPS, Feeds, closed_loop
from edgekd.export.scheme import Scheme
from edgekd.export.tflite.convert import SIGNATURE, quiet
from edgekd.export.tflite.flatbuffer import Model, constants, content, tidied, unpacked
from edgekd.runtime.errors import MissingExtra
from edgekd.step import StepModule

WIDENED = 1.1  # calibrated ranges: what clips costs more than the resolution that this takes away
CONVOLUTIONS = {"CONV_2D": 1, "DEPTHWISE_CONV_2D": 1, "TRANSPOSE_CONV": 1}  # operator -> which input its weights are
ACTIVATIONS = {"CONV_2D": 0, "DEPTHWISE_CONV_2D": 0, "TRANSPOSE_CONV": 2}


@dataclass(frozen=True)
class Convolution:
    """One convolution of the graph."""

    operator: str
    input: str
    """Tensor names."""
    output: str
    weights: np.ndarray
    """float32, flat, in the file's order."""


def _dynamic(operators: tuple[str, ...], model: bytes, step: StepModule, replay: Recording) -> bytes:
    """int8 weights, one scale a channel; activations are quantized as they come."""
    return _quantized(model, step, operators, None)


def _static(operators: tuple[str, ...], model: bytes, step: StepModule, replay: Recording) -> bytes:
    """int8 weights and activations, whose ranges come from closed-loop steps of the replay stretch."""
    return _quantized(model, step, operators, replay)


def _quantized(model: bytes, step: StepModule, operators: tuple[str, ...], replay: Recording | None) -> bytes:
    if find_spec("ai_edge_quantizer") is None:
        raise MissingExtra("ai-edge-quantizer", "tflite-export")
    chosen = [
        convolution
        for convolution in convolutions(unpacked(model))
        if convolution.operator in operators and not _stays_float(convolution, step)
    ]
    if not chosen:
        return model
    with quiet():
        from ai_edge_quantizer import quantizer
        from ai_edge_quantizer.qtyping import TFLOperationName

        work = quantizer.Quantizer(bytearray(model))
        for convolution in chosen:
            scope = f"^{re.escape(convolution.output)};?$"
            operator = TFLOperationName(NAMES.get(convolution.operator, convolution.operator))
            if replay is None:
                work.add_dynamic_config(scope, operator, num_bits=8)
            else:
                work.add_static_config(scope, operator, activation_num_bits=8, weight_num_bits=8)
        ranges = None if replay is None else calibrated(model, chosen, step, replay)
        result = work.quantize(ranges, enable_progress_bar=False, enable_progress_report=False).quantized_model
    assert result is not None
    return tidied(bytes(result))


# Where the quantizer has a name of its own for an operator.
NAMES = {"TRANSPOSE_CONV": "CONV_2D_TRANSPOSE"}


def convolutions(tree: Model) -> Iterator[Convolution]:
    """Every convolution whose weights are a float constant."""
    from ai_edge_litert.schema_py_generated import BuiltinOperator, TensorType

    names = {getattr(BuiltinOperator, name): name for name in CONVOLUTIONS}
    (graph,) = tree.subgraphs
    known = constants(tree, graph)
    for operator in graph.operators:
        code = tree.operatorCodes[operator.opcodeIndex]
        name = names.get(max(code.builtinCode, code.deprecatedBuiltinCode))
        if name is None:
            continue
        index = int(operator.inputs[CONVOLUTIONS[name]])
        tensor = graph.tensors[index]
        if index in known and tensor.type == TensorType.FLOAT32:
            yield Convolution(
                name,
                graph.tensors[int(operator.inputs[ACTIVATIONS[name]])].name.decode(),
                graph.tensors[int(operator.outputs[0])].name.decode(),
                np.frombuffer(content(tree, tensor), np.float32),
            )


def _stays_float(convolution: Convolution, step: StepModule) -> bool:
    """Whether its weights are those of a layer in `step.float_weights`, however the converter has turned them."""
    mine = np.sort(convolution.weights)
    for name, parameter in step.named_parameters():
        if name.startswith(step.float_weights) and parameter.numel() == mine.size:
            theirs = np.sort(parameter.detach().numpy(), axis=None)
            if np.array_equal(theirs, mine):
                return True
    return False


def calibrated(
    model: bytes, chosen: list[Convolution], step: StepModule, replay: Recording
) -> dict[str, dict[str, np.ndarray]]:
    """Range of every tensor around the chosen convolutions, over steps of the stretch with their state fed back."""
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    fast = Interpreter(model_content=model, num_threads=1)
    # a delegate would keep what lies between its operators to itself
    observed = Interpreter(
        model_content=model,
        num_threads=1,
        experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
        experimental_preserve_all_tensors=True,
    )
    runner, watcher = (interpreter.get_signature_runner(SIGNATURE) for interpreter in (fast, observed))
    wanted = {name for convolution in chosen for name in (convolution.input, convolution.output)}
    places = {item["name"]: item["index"] for item in observed.get_tensor_details() if item["name"] in wanted}
    low, high = dict.fromkeys(wanted, 0.0), dict.fromkeys(wanted, 0.0)  # zero must be a value

    def advance(feeds: Feeds) -> list[np.ndarray]:
        following = runner(**feeds)
        return [following[f"next_{name}"] for name in step.state_shapes()]

    for feeds in closed_loop(advance, step, replay):
        watcher(**feeds)
        for name, place in places.items():
            values = observed.get_tensor(place)
            low[name], high[name] = min(low[name], values.min()), max(high[name], values.max())
    return {name: {"min": np.array(WIDENED * low[name]), "max": np.array(WIDENED * high[name])} for name in wanted}


def _schemes(*operators: str) -> dict[str, Scheme]:
    made = (
        Scheme("dynamic", "int8 dynamic range, per-channel weights of the convolutions", partial(_dynamic, operators)),
        Scheme(
            "static",
            "int8 static, convolutions with per-channel weights, all else float32",
            partial(_static, operators),
            f"{STEPS} closed-loop steps of the replay stretch",
        ),
    )
    return {scheme.name: scheme for scheme in made}


# Depthwise convolutions hold next to no weights, and LiteRT has no fast kernel for them in the dynamic scheme.
# tflite-runtime refuses a transposed convolution with int8 weights and float activations, and computes
# FULLY_CONNECTED with per-channel weights wrongly without a word: only plain convolutions are left.
SCHEMES = {"litert": _schemes("CONV_2D", "TRANSPOSE_CONV"), "tflite-runtime": _schemes("CONV_2D")}
