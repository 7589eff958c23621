"""The flatbuffer of a TFLite model: unpacked into objects, tidied, written with its constants aligned."""

from __future__ import annotations

from typing import Any

import numpy as np

ALIGNMENT = 16  # of every constant, which the schema asks for and kernels rely on
KEPT_METADATA = (b"min_runtime_version",)

Model = Any  # ai_edge_litert.schema_py_generated.ModelT, whose classes are generated without types


def unpacked(model: bytes) -> Model:
    """The model as objects; buffers that lie behind the flatbuffer, as ai-edge-quantizer leaves them, are taken in."""
    from ai_edge_litert.schema_py_generated import ModelT

    tree = ModelT.InitFromPackedBuf(model, 0)
    for buffer in tree.buffers:
        if buffer.offset > 1:
            buffer.data = np.frombuffer(model, np.uint8, buffer.size, buffer.offset)
        buffer.offset = buffer.size = 0
    return tree


def packed(tree: Model) -> bytes:
    """The model as a file; flatbuffers' own builder would leave constants wherever they happen to fall."""
    import flatbuffers

    class Builder(flatbuffers.Builder):  # type: ignore[misc, name-defined]
        def StartVector(self, size: int, count: int, alignment: int) -> int:
            return super().StartVector(size, count, ALIGNMENT if size == 1 else alignment)

    builder = Builder(1024)
    builder.Finish(tree.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())


def tidied(model: bytes) -> bytes:
    """The same graph with each constant once, short names, and nothing told of the program that was converted.

    An unrolled recurrence repeats its constants, and the converter names every tensor after the modules and calls
    that it came from: a quarter of a small student's file.
    """
    tree = unpacked(model)
    (graph,) = tree.subgraphs
    tree.description = None
    tree.metadata = [entry for entry in tree.metadata or [] if entry.name in KEPT_METADATA]
    _merge_constants(tree, graph)
    _drop_unused(tree, graph)
    for index, tensor in enumerate(graph.tensors):
        tensor.name = str(index)
    (signature,) = tree.signatureDefs
    for named in [*signature.inputs, *signature.outputs]:
        graph.tensors[named.tensorIndex].name = named.name
    graph.name = "step"
    return packed(tree)


def constants(tree: Model, graph: Any) -> set[int]:
    """Indices of the tensors that nothing computes: weights, shapes, axes."""
    computed = {index for operator in graph.operators for index in operator.outputs} | set(graph.inputs)
    return {index for index, tensor in enumerate(graph.tensors) if index not in computed and not tensor.isVariable}


def content(tree: Model, tensor: Any) -> bytes:
    """The bytes of a constant."""
    data = tree.buffers[tensor.buffer].data
    return b"" if data is None else np.asarray(data, np.uint8).tobytes()


def _merge_constants(tree: Model, graph: Any) -> None:
    """Let every operator read the first of several equal constants."""
    first: dict[tuple[Any, ...], int] = {}
    same: dict[int, int] = {}
    for index in sorted(constants(tree, graph)):
        tensor = graph.tensors[index]
        key = (tensor.type, _numbers(tensor.shape), _numbers(tensor.shapeSignature), _scheme(tensor.quantization))
        same[index] = first.setdefault((*key, content(tree, tensor)), index)
    for operator in graph.operators:
        operator.inputs = [same.get(int(index), int(index)) for index in operator.inputs]
    graph.outputs = [same.get(int(index), int(index)) for index in graph.outputs]
    for named in tree.signatureDefs[0].outputs:
        named.tensorIndex = same.get(named.tensorIndex, named.tensorIndex)


def _drop_unused(tree: Model, graph: Any) -> None:
    """Leave out tensors and buffers that nothing reads; equal buffers become one."""
    used = {int(index) for operator in graph.operators for index in [*operator.inputs, *operator.outputs]}
    kept = sorted((used | {int(index) for index in [*graph.inputs, *graph.outputs]}) - {-1})
    place = {old: new for new, old in enumerate(kept)} | {-1: -1}
    graph.tensors = [graph.tensors[old] for old in kept]
    for operator in graph.operators:
        operator.inputs = [place[int(index)] for index in operator.inputs]
        operator.outputs = [place[int(index)] for index in operator.outputs]
    graph.inputs = [place[int(index)] for index in graph.inputs]
    graph.outputs = [place[int(index)] for index in graph.outputs]
    for named in [*tree.signatureDefs[0].inputs, *tree.signatureDefs[0].outputs]:
        named.tensorIndex = place[named.tensorIndex]

    old_buffers, tree.buffers = tree.buffers, [tree.buffers[0]]  # the first one stands for "no data"
    places: dict[bytes, int] = {b"": 0}
    for owner in [*graph.tensors, *tree.metadata]:
        data = old_buffers[owner.buffer].data
        key = b"" if data is None else np.asarray(data, np.uint8).tobytes()
        if key not in places:
            places[key] = len(tree.buffers)
            tree.buffers.append(old_buffers[owner.buffer])
        owner.buffer = places[key]


def _numbers(values: Any) -> tuple[int, ...] | None:
    return None if values is None else tuple(int(value) for value in values)


def _scheme(quantization: Any) -> tuple[Any, ...] | None:
    """What tells the quantization of one tensor from that of another."""
    if quantization is None or quantization.scale is None:
        return None
    return (
        tuple(float(scale) for scale in quantization.scale),
        _numbers(quantization.zeroPoint),
        quantization.quantizedDimension,
    )
