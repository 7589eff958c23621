"""A step module as one float ONNX graph: `samples`, `valid`, each state in; `score`, `contributions`, `next_*` out."""

from __future__ import annotations

import contextlib
import logging
import math
import sys
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import onnx
import onnx_ir
import torch
from onnxscript.optimizer import optimize_ir

from edgekd.blocks.step import StepModule

OPSET = 20
LARGE_BYTES = 2**20


def float_graph(step: StepModule) -> onnx.ModelProto:
    """The graph with all that its constants alone make computed, and without what it tells of the workstation."""
    return finished(raw_graph(step))


def raw_graph(step: StepModule) -> Any:
    """The graph (of `onnx_ir`) by torch's dynamo exporter, in which no value of the step is computed with yet.

    Every state gets an example tensor of its own: one tensor given for two states makes the exporter take them for one.
    """
    names = list(step.state_shapes())
    generator = torch.Generator().manual_seed(0)
    examples = [torch.rand(shape, generator=generator) for shape in step.state_shapes().values()]
    args = (torch.rand(step.hop, step.n_sensors, generator=generator), torch.ones(step.n_sensors), *examples)
    with _quiet():
        program = torch.onnx.export(
            step.eval(),
            args,
            dynamo=True,
            opset_version=OPSET,
            input_names=["samples", "valid", *names],
            output_names=[*step.outputs, *(f"next_{name}" for name in names)],
            custom_translation_table={torch.ops.aten.rnn_tanh.input: _rnn, torch.ops.aten.selu.default: _selu},
            verbose=False,
            optimize=False,
        )
        assert program is not None
        optimize_ir(program.model, should_fold=lambda node: False if _computes_with_values(node) else None)
    _join_to_bias(program.model.graph)
    _check(program.model)
    return program.model


def finished(graph: Any) -> onnx.ModelProto:
    """A raw graph with its constants computed, stripped."""
    with _quiet():
        optimize_ir(graph, input_size_limit=sys.maxsize, output_size_limit=sys.maxsize)
    model = onnx_ir.to_proto(graph)
    strip(model)
    return model


def _computes_with_values(node: Any) -> bool:
    """Whether a node (of `onnx_ir`) has an input that is a float parameter or buffer."""
    return any(
        value is not None and value.is_initializer() and value.dtype.is_floating_point() for value in node.inputs
    )


def _join_to_bias(graph: Any) -> None:
    """Join what is added to each channel of a transposed convolution to its bias, as onnxruntime does for others."""
    for node in graph:
        x: Any = node.inputs[0] if node.op_type == "Add" else None
        made = None if x is None or len(x.uses()) > 1 else x.producer()
        if made is None or made.op_type != "ConvTranspose" or node.inputs[1].shape != (x.shape[1], 1, 1):
            continue
        flat = onnx_ir.node("Squeeze", [node.inputs[1]])
        bias = onnx_ir.node("Add", [made.inputs[2], flat.outputs[0]])
        graph.insert_before(made, [flat, bias])
        made.replace_input_with(2, bias.outputs[0])
        node.outputs[0].replace_all_uses_with(x)
        graph.remove(node, safe=True)
    graph.sort()


def _check(model: Any) -> None:
    """Let onnx look at a model (of `onnx_ir`, which does not copy weights) whose large weights stand as inputs.

    The checker takes several copies of what it is given: of a language model a gigabyte.
    """
    graph = model.graph
    large = [value for value in graph.initializers.values() if value.const_value.nbytes > LARGE_BYTES]
    for value in large:
        graph.initializers.pop(value.name)
        graph.inputs.append(value)
    try:
        onnx.checker.check_model(onnx_ir.to_proto(model), full_check=True)
    finally:
        for value in large:
            graph.inputs.remove(value)
            graph.initializers[value.name] = value


def strip(model: onnx.ModelProto) -> None:
    """Remove stack traces with local paths, source lines and names of modules: hundreds of entries in every graph."""
    del model.metadata_props[:]
    model.doc_string = model.graph.doc_string = ""
    model.producer_name, model.producer_version = "edgekd", ""
    model.graph.name = "step"
    del model.graph.metadata_props[:]
    del model.graph.value_info[:]
    for item in [*model.graph.node, *model.graph.initializer, *model.graph.input, *model.graph.output]:
        del item.metadata_props[:]
        item.doc_string = ""
    for function in model.functions:
        del function.metadata_props[:]
        function.doc_string = ""


def _rnn(
    x: Any, h: Any, params: Sequence[Any], biases: bool, layers: int, dropout: float, train: bool,
    bidirectional: bool, batch_first: bool,
) -> tuple[Any, Any]:  # fmt: skip
    """A one-layer tanh RNN as the ONNX operator; the exporter would unroll it into five nodes for every sample."""
    from onnxscript import opset20 as op

    if layers != 1 or bidirectional or not biases:
        raise NotImplementedError("only the accumulator's RNN: one layer, one direction, with biases")
    w, r, b_input, b_hidden = params
    axis: Any = op.Constant(value_ints=[0])
    hidden = r.shape[0]
    sequence = op.Transpose(x, perm=[1, 0, 2]) if batch_first else x
    outputs, last = op.RNN(
        sequence,
        op.Unsqueeze(w, axis),
        op.Unsqueeze(r, axis),
        op.Unsqueeze(op.Concat(b_input, b_hidden, axis=0), axis),
        None,
        h,
        hidden_size=hidden,
    )
    direction: Any = op.Constant(value_ints=[1])
    outputs = op.Squeeze(outputs, direction)  # (T, batch, hidden)
    return (op.Transpose(outputs, perm=[1, 0, 2]) if batch_first else outputs), last


def _selu(x: Any) -> Any:
    """SELU by way of `Exp`, which onnxruntime vectorizes; its own `Selu` takes about four times as long.

    What the exponential is multiplied with is added beforehand, which onnxruntime joins to the bias of a convolution.
    """
    from onnxscript import opset20 as op

    scale, alpha = 1.0507009873554805, 1.6732632423543772  # Klambauer et al., 2017
    shift = math.log(scale * alpha)
    channels = onnx.helper.make_tensor("shift", onnx.TensorProto.FLOAT, (x.shape[1], 1, 1), [shift] * x.shape[1])
    shifted, zero = op.Add(x, op.Constant(value=channels)), op.Constant(value_float=shift)
    negative = op.Exp(op.Clip(shifted, None, zero))
    positive = op.Mul(op.Clip(shifted, zero, None), op.Constant(value_float=scale))
    return op.Add(op.Add(positive, negative), op.Constant(value_float=-scale * (alpha + shift)))


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The exporter warns of packages that are not needed here."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "torch.export", "onnxscript")]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels):
                logger.setLevel(level)
