"""int8 of a float TFLite model: convolutions alone, recognized by their weights.

What remembers or subtracts stays float by construction, since nothing but convolutions is ever named to the quantizer:
accumulator, signature matrices, attention (whose softmax picks the wrong step when one logit clips), residual, and the
layers that `StepModule.float_weights` names.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec

import numpy as np
import torch

from edgekd.blocks.step import StepModule
from edgekd.data.recording import Recording
from edgekd.export.calibration import STEPS, Feeds, closed_loop
from edgekd.export.scheme import Scheme
from edgekd.export.tflite import MICRO
from edgekd.export.tflite.convert import SIGNATURE, quiet
from edgekd.export.tflite.flatbuffer import Model, constants, content, packed, tidied, unpacked
from edgekd.runtime.errors import MissingExtra

WIDENED = 1.1  # calibrated ranges: what clips costs more than the resolution that this takes away
# operator -> where its input and its weights stand, and what the quantizer calls it; depthwise convolutions hold next
# to no weights, and LiteRT has no fast kernel for them
CONVOLUTIONS = {"CONV_2D": (0, 1, "CONV_2D"), "TRANSPOSE_CONV": (2, 1, "CONV_2D_TRANSPOSE")}
MATRIX = {"FULLY_CONNECTED": (0, 1, "FULLY_CONNECTED")}  # the same of a product with a constant matrix


@dataclass(frozen=True)
class Product:
    """One convolution of the graph, or a product with a constant matrix."""

    operator: str
    """A key of `CONVOLUTIONS` or `MATRIX`."""
    input: str
    """Tensor names."""
    output: str
    weights: np.ndarray
    """float32, flat, in the file's order."""
    side: int
    """Longest side of what goes in or comes out."""


@dataclass(frozen=True)
class Plan:
    """Which convolutions compute in int8, and how; all others that are not to stay float keep int8 weights alone."""

    operators: tuple[str, ...]
    """Those whose int8 kernel is there, and right, on the target."""
    calibrated: bool = False
    """Ranges of activations fixed beforehand, not taken from each input as it comes."""
    shallow: bool = True
    """Also the convolutions at full resolution."""

    def computes(self, product: Product, full: int) -> bool:
        """Whether this one computes in int8; `full`: side of the maps at full resolution."""
        return product.operator in self.operators and (self.shallow or product.side < full)


def quantize(plan: Plan, model: bytes, step: StepModule, replay: Recording) -> bytes:
    """The int8 model by a plan; a model without convolutions or `matrix_weights` comes back as it is.

    Raises MissingExtra.
    """
    if find_spec("ai_edge_quantizer") is None:
        raise MissingExtra("ai-edge-quantizer", "tflite-export")
    tree = unpacked(model)
    found = [c for c in constant_products(tree, CONVOLUTIONS) if not _stays_float(c, step)]
    found += [c for c in constant_products(tree, MATRIX) if _is_matrix(c, step)]
    if not found:
        return model
    computing = [c for c in found if plan.computes(c, found[0].side)]
    with quiet():
        from ai_edge_quantizer import quantizer
        from ai_edge_quantizer.qtyping import TFLOperationName

        work = quantizer.Quantizer(bytearray(model))
        for product in found:
            scope = f"^{re.escape(product.output)};?$"
            operator = TFLOperationName({**CONVOLUTIONS, **MATRIX}[product.operator][2])
            if product not in computing:
                work.add_weight_only_config(scope, operator, num_bits=8)
            elif plan.calibrated:
                work.add_static_config(scope, operator, activation_num_bits=8, weight_num_bits=8)
            else:
                work.add_dynamic_config(scope, operator, num_bits=8)
        ranges = calibrated(model, computing, step, replay) if plan.calibrated else None
        result = work.quantize(ranges, enable_progress_bar=False, enable_progress_report=False).quantized_model
    assert result is not None
    return tidied(bytes(result))


def constant_products(tree: Model, kinds: dict[str, tuple[int, int, str]]) -> Iterator[Product]:
    """Every operator of these kinds whose weights are a float constant, in the graph's order."""
    from ai_edge_litert.schema_py_generated import BuiltinOperator, TensorType

    names = {getattr(BuiltinOperator, name): name for name in kinds}
    (graph,) = tree.subgraphs
    known = constants(tree, graph)
    for operator in graph.operators:
        code = tree.operatorCodes[operator.opcodeIndex]
        name = names.get(max(code.builtinCode, code.deprecatedBuiltinCode))
        if name is None:
            continue
        x, weights = (int(operator.inputs[place]) for place in kinds[name][:2])
        around = graph.tensors[x], graph.tensors[int(operator.outputs[0])]
        if weights in known and graph.tensors[weights].type == TensorType.FLOAT32:
            yield Product(
                operator=name,
                input=around[0].name.decode(),
                output=around[1].name.decode(),
                weights=np.frombuffer(content(tree, graph.tensors[weights]), np.float32),
                side=max((int(side) for tensor in around for side in tensor.shape[1:3]), default=0),
            )


def _stays_float(product: Product, step: StepModule) -> bool:
    """Whether its weights are from a layer in `step.float_weights`."""
    return _is_of(product, step.named_parameters(), step.float_weights)


def _is_matrix(product: Product, step: StepModule) -> bool:
    """Whether its weights are one of the `step.matrix_weights`."""
    return _is_of(product, step.named_buffers(), step.matrix_weights)


def _is_of(product: Product, tensors: Iterable[tuple[str, torch.Tensor]], prefixes: tuple[str, ...]) -> bool:
    """Whether its weights are those of a tensor with such a name, however the converter has turned or split them."""
    return any(
        np.isin(product.weights, tensor.detach().numpy()).all()
        for name, tensor in tensors
        if name.startswith(prefixes) and tensor.numel() >= product.weights.size
    )


def calibrated(
    model: bytes, chosen: list[Product], step: StepModule, replay: Recording
) -> dict[str, dict[str, np.ndarray]]:
    """Range of every tensor around the chosen convolutions, over steps of the stretch with their state fed back."""
    from ai_edge_litert.interpreter import Interpreter

    tree = unpacked(model)
    (graph,) = tree.subgraphs
    wanted = {name for product in chosen for name in (product.input, product.output)}
    places = {tensor.name.decode(): i for i, tensor in enumerate(graph.tensors) if tensor.name.decode() in wanted}
    # as outputs, they can be read whatever a delegate makes of the operators around them
    graph.outputs = [*graph.outputs, *sorted({*places.values()} - {*graph.outputs, *graph.inputs})]
    interpreter = Interpreter(model_content=packed(tree), num_threads=1)
    runner = interpreter.get_signature_runner(SIGNATURE)
    low, high = dict.fromkeys(wanted, 0.0), dict.fromkeys(wanted, 0.0)  # zero must be a value

    def advance(feeds: Feeds) -> list[np.ndarray]:
        following = runner(**feeds)
        return [following[f"next_{name}"] for name in step.state_shapes()]

    for feeds in closed_loop(advance, step, replay):
        runner(**feeds)
        for name, place in places.items():
            values = interpreter.get_tensor(place)
            low[name], high[name] = min(low[name], values.min()), max(high[name], values.max())
    return {name: {"min": np.array(WIDENED * low[name]), "max": np.array(WIDENED * high[name])} for name in wanted}


def _scheme(name: str, words: str, plan: Plan) -> Scheme:
    ranges = f"{STEPS} closed-loop steps of the replay stretch" if plan.calibrated else ""
    return Scheme(name, words, partial(quantize, plan), calibration=ranges)


WEIGHTS = Scheme("weights", "int8 weights, computed in float32", partial(quantize, Plan(())), weights_alone=True)


def _schemes(*operators: str) -> dict[str, Scheme]:
    made = (
        _scheme(
            "dynamic",
            "int8 weights, dynamic-range int8 convolutions below full resolution",
            Plan(operators, shallow=False),
        ),
        _scheme("static", "int8 static convolutions, all else float32", Plan(operators, calibrated=True)),
        _scheme("dynamic-full", "int8 dynamic-range convolutions, all else float32", Plan(operators)),
    )
    return {scheme.name: scheme for scheme in made}


# Ranges taken from each input anew are noise from step to step, at full resolution enough of it to shuffle the scores
# of a normal hour (MSL: Spearman .91 with all convolutions dynamic, .997 without those); hence the default.
# tflite-runtime refuses a transposed convolution with int8 weights and float activations, and its FULLY_CONNECTED with
# per-channel weights is wrong without a word: nothing but plain convolutions is given to it. TensorFlow Lite Micro
# computes dynamic ranges wrongly without a word.
SCHEMES = {
    "litert": {**_schemes("CONV_2D", "TRANSPOSE_CONV"), WEIGHTS.name: WEIGHTS},
    "tflite-runtime": _schemes("CONV_2D"),
    MICRO: {"static": _schemes("CONV_2D", "TRANSPOSE_CONV")["static"]},
}
