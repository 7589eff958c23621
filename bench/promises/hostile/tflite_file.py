"""Changes of a TFLite file's objects."""

from __future__ import annotations

import copy
import random
import struct
from collections.abc import Callable
from typing import Any

from bench.promises.hostile.any_file import ODD, Change, flip_structure


def tflite_change(change: Callable[[random.Random, Any, Any, str], None]) -> Change:
    """A change of the model's objects, and of its one graph, as one of its bytes."""

    def apply(rng: random.Random, data: bytes, canary: str) -> bytes:
        from edgekd.export.tflite.flatbuffer import packed, unpacked

        tree = unpacked(data)
        for buffer in tree.buffers:
            buffer.offset = buffer.size = 0
        change(rng, tree, tree.subgraphs[0], canary)
        try:
            return packed(tree)
        except Exception:  # the writer has no room for it
            return flip_structure(rng, data, canary)

    return apply


def tensor_shape(rng: random.Random, tree: Any, graph: Any, _: str) -> None:
    tensor = rng.choice(graph.tensors)
    shape = [int(d) for d in tensor.shape] if tensor.shape is not None else []
    value = rng.choice((*ODD, 2**20, 2**26))
    if shape and rng.random() < 0.7:
        shape[rng.randrange(len(shape))] = value
    else:
        shape = [*shape, value][: rng.choice((3, 9, 20))]
    tensor.shape = shape


def tensor_kind(rng: random.Random, tree: Any, graph: Any, _: str) -> None:
    tensor = rng.choice(graph.tensors)
    way = rng.randrange(4)
    if way == 0:
        tensor.type = rng.randrange(0, 20)
    elif way == 1:
        tensor.buffer = rng.choice((0, 1, rng.randrange(len(tree.buffers)), len(tree.buffers), 2**31))
    elif way == 2:
        tensor.isVariable = True
    else:
        from ai_edge_litert import schema_py_generated as schema

        count = rng.choice((1, 3, 1000))
        tensor.quantization = schema.QuantizationParametersT(
            None, None, [1.0] * count, [0] * rng.choice((0, count)), 0, None, rng.choice((0, 3, -1))
        )


def buffer_size(rng: random.Random, tree: Any, graph: Any, canary: str) -> None:
    import numpy as np

    buffer = rng.choice(tree.buffers)
    way = rng.randrange(4)
    if way == 0 and buffer.data is not None:
        buffer.data = np.asarray(buffer.data)[: rng.randrange(len(buffer.data) + 1)]
    elif way == 1 and buffer.data is not None:
        buffer.data = np.frombuffer(rng.randbytes(len(buffer.data)), np.uint8)
    elif way == 2 and buffer.data is not None:
        size = len(buffer.data) // 4
        buffer.data = np.frombuffer(
            struct.pack(f"<{size}i", *[rng.choice((*ODD, 2**20)) for _i in range(size)]), np.uint8
        )
    else:
        buffer.data, buffer.offset, buffer.size = None, rng.choice((2, 16, 2**40)), rng.choice((4, 2**40))


def operator(rng: random.Random, tree: Any, graph: Any, _: str) -> None:
    node, other = rng.choice(graph.operators), rng.choice(graph.operators)
    way = rng.randrange(7)
    inputs = [int(i) for i in node.inputs]
    if way == 0:
        node.opcodeIndex = rng.choice((other.opcodeIndex, len(tree.operatorCodes), 2**31))
    elif way == 1:
        inputs[rng.randrange(len(inputs))] = rng.choice(
            (-1, -2, 0, len(graph.tensors), 2**30, rng.randrange(len(graph.tensors)))
        )
    elif way == 2:
        inputs = inputs[:-1]
    elif way == 3:
        inputs = [*inputs, *inputs]
    elif way == 4:
        node.outputs = [rng.randrange(len(graph.tensors))]
    elif way == 5:
        node.outputs = []
    else:
        node.builtinOptionsType, node.builtinOptions = other.builtinOptionsType, other.builtinOptions
    node.inputs = inputs


def options(rng: random.Random, tree: Any, graph: Any, _: str) -> None:
    found = [
        node.builtinOptions for node in graph.operators if node.builtinOptions is not None and vars(node.builtinOptions)
    ]
    chosen = rng.choice(found)
    key = rng.choice(
        sorted(key for key, value in vars(chosen).items() if isinstance(value, (int, float, bool))) or [""]
    )
    if key:
        setattr(chosen, key, rng.choice((0, -1, 1, 2, 7, 100)) if rng.random() < 0.7 else rng.choice(ODD))


def operator_code(rng: random.Random, tree: Any, graph: Any, canary: str) -> None:
    code = rng.choice(tree.operatorCodes)
    way = rng.randrange(4)
    if way == 0:
        code.builtinCode = code.deprecatedBuiltinCode = rng.randrange(0, 127)
    elif way == 1:
        code.builtinCode, code.deprecatedBuiltinCode, code.customCode = 32, 32, rng.choice((b"Flex", canary.encode()))
    elif way == 2:
        code.builtinCode = rng.choice((118, 119, 129, 142, 200, 2**30))  # IF, WHILE, CALL_ONCE, VAR_HANDLE, ...
    else:
        code.version = rng.choice((0, 99, -1))


def structure(rng: random.Random, tree: Any, graph: Any, canary: str) -> None:
    from ai_edge_litert import schema_py_generated as schema

    way = rng.randrange(8)
    if way == 0:
        tree.subgraphs.append(copy.deepcopy(graph))
    elif way == 1:
        graph.operators = graph.operators[::-1]
    elif way == 2:
        del graph.operators[rng.randrange(len(graph.operators))]
    elif way == 3:
        tree.externalBufferGroups = [schema.ExternalBufferGroupT(canary.encode())]
    elif way == 4:
        graph.outputs = [rng.choice((0, -1, len(graph.tensors), 2**30))] * len(graph.outputs)
    elif way == 5:
        signature = rng.choice([*tree.signatureDefs[0].inputs, *tree.signatureDefs[0].outputs])
        signature.tensorIndex = rng.choice((2**31, len(graph.tensors), rng.randrange(len(graph.tensors))))
    elif way == 6:
        tree.signatureDefs[0].subgraphIndex = rng.choice((1, 2**31))
    else:
        graph.inputs = [int(i) for i in graph.inputs] * 2


def blow_up(rng: random.Random, tree: Any, graph: Any, _: str) -> None:
    """Few bytes that make the interpreter fill the memory."""
    import numpy as np
    from ai_edge_litert import schema_py_generated as schema

    huge = rng.choice((2**16, 2**20, 2**28))
    kind = rng.choice(("PAD", "BROADCAST_TO", "TILE", "FILL", "RESIZE_BILINEAR", "CONCATENATION", "RANGE", "ADD"))
    source = int(graph.inputs[0])
    values = {"PAD": [huge, huge, huge, huge], "BROADCAST_TO": [huge, huge], "RESIZE_BILINEAR": [huge, huge]}
    code = getattr(schema.BuiltinOperator, kind)
    tree.operatorCodes.append(schema.OperatorCodeT(min(code, 127), None, 1, code))
    tree.buffers.append(schema.BufferT(np.frombuffer(np.array(values.get(kind, [huge]), np.int32).tobytes(), np.uint8)))
    shape = {"PAD": [2, 2]}.get(kind, [len(values.get(kind, [huge]))])
    graph.tensors.append(schema.TensorT(shape=shape, type=2, buffer=len(tree.buffers) - 1, name=b"evil", hasRank=True))
    graph.tensors.append(schema.TensorT(shape=[1], type=0, buffer=0, name=b"out", hasRank=True))
    evil, out = len(graph.tensors) - 2, len(graph.tensors) - 1
    inputs = {"CONCATENATION": [source] * 4000, "RANGE": [evil] * 3, "FILL": [evil, source]}.get(kind, [source, evil])
    graph.operators.insert(0, schema.OperatorT(len(tree.operatorCodes) - 1, inputs, [out]))


TFLITE_KINDS: dict[str, Change] = {
    "tflite tensor shapes": tflite_change(tensor_shape),
    "tflite tensor types and buffers": tflite_change(tensor_kind),
    "tflite buffers": tflite_change(buffer_size),
    "tflite operators": tflite_change(operator),
    "tflite options": tflite_change(options),
    "tflite operator codes": tflite_change(operator_code),
    "tflite structure": tflite_change(structure),
    "tflite huge allocations": tflite_change(blow_up),
}
