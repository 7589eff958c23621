"""The detector of `step_models.step_graph` as a TFLite flatbuffer, written by hand: no converter, no torch."""

from __future__ import annotations

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema
from step_models import ranges, recurrence


def step_tflite(n: int, hop: int, seed: int = 0) -> bytes:
    """The step graph for n sensors and this hop, with one signature `step`; the weights are those of `step_graph`."""
    low, high, fill = ranges(n)
    graph = _Graph()
    samples, valid = graph.tensor("samples", [hop, n]), graph.tensor("valid", [n])
    ema, swing = graph.tensor("ema", [n]), graph.tensor("swing", [n])
    fill_, span = graph.constant("fill", fill), graph.constant("span", high - low)
    keep, take = graph.constant("keep", 0.9), graph.constant("take", 0.1)
    weight = graph.constant("W", recurrence(n, seed).T)  # FULLY_CONNECTED takes (out, in)
    first = graph.constant("axis", [0], np.int32)
    row, vector = graph.constant("row", [1, n], np.int32), graph.constant("vector", [n], np.int32)

    mean = graph.op("MEAN", [samples, first], [n], "ReducerOptions")
    x = graph.op("SUB", [mean, fill_], [n], "SubOptions")
    x = graph.op("DIV", [x, span], [n], "DivOptions")
    x = graph.op("MUL", [x, valid], [n], "MulOptions")
    kept = graph.op("MUL", [ema, keep], [n], "MulOptions")
    taken = graph.op("MUL", [x, take], [n], "MulOptions")
    next_ema = graph.op("ADD", [kept, taken], [n], "AddOptions")
    turned = graph.op("RESHAPE", [swing, row], [1, n], "ReshapeOptions")
    turned = graph.op("FULLY_CONNECTED", [turned, weight, -1], [1, n], "FullyConnectedOptions")
    turned = graph.op("RESHAPE", [turned, vector], [n], "ReshapeOptions")
    pushed = graph.op("ADD", [turned, x], [n], "AddOptions")
    next_swing = graph.op("TANH", [pushed], [n])
    off = graph.op("SUB", [x, next_ema], [n], "SubOptions")
    off = graph.op("MUL", [off, off], [n], "MulOptions")
    swung = graph.op("MUL", [next_swing, next_swing], [n], "MulOptions")
    swung = graph.op("MUL", [swung, take], [n], "MulOptions")
    parts = graph.op("ADD", [off, swung], [n], "AddOptions")
    contributions = graph.op("MUL", [parts, valid], [n], "MulOptions")
    score = graph.op("SUM", [contributions, first], [], "ReducerOptions")
    inputs = {"samples": samples, "valid": valid, "ema": ema, "swing": swing}
    outputs = {"score": score, "contributions": contributions, "next_ema": next_ema, "next_swing": next_swing}
    return pack(graph.model(inputs, outputs))


def unpack(data: bytes) -> schema.ModelT:
    """The file as objects that a test can spoil."""
    return schema.ModelT.InitFromPackedBuf(data)


def pack(model: schema.ModelT) -> bytes:
    """The file of the objects."""
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


class _Graph:
    """Tensors, buffers and operators of one subgraph, in the order in which they are made."""

    def __init__(self) -> None:
        self.tensors: list[schema.TensorT] = []
        self.buffers = [schema.BufferT()]  # buffer 0 is by convention the empty one
        self.operators: list[schema.OperatorT] = []
        self.codes: list[str] = []

    def tensor(self, name: str, shape: list[int], dtype: type = np.float32, buffer: int = 0) -> int:
        kind = {np.float32: schema.TensorType.FLOAT32, np.int32: schema.TensorType.INT32}[dtype]
        self.tensors.append(schema.TensorT(shape=shape, type=kind, buffer=buffer, name=name.encode(), hasRank=True))
        return len(self.tensors) - 1

    def constant(self, name: str, value: object, dtype: type = np.float32) -> int:
        array = np.ascontiguousarray(value, dtype)
        self.buffers.append(schema.BufferT(data=np.frombuffer(array.tobytes(), np.uint8)))
        return self.tensor(name, list(np.shape(value)), dtype, len(self.buffers) - 1)

    def op(self, code: str, inputs: list[int], shape: list[int], options: str = "") -> int:
        if code not in self.codes:
            self.codes.append(code)
        output = self.tensor(f"{code.lower()}{len(self.operators)}", shape)
        operator = schema.OperatorT(opcodeIndex=self.codes.index(code), inputs=inputs, outputs=[output])
        if options:
            operator.builtinOptionsType = getattr(schema.BuiltinOptions, options)
            operator.builtinOptions = getattr(schema, f"{options}T")()
        self.operators.append(operator)
        return output

    def model(self, inputs: dict[str, int], outputs: dict[str, int]) -> schema.ModelT:
        def named(tensors: dict[str, int]) -> list[schema.TensorMapT]:
            return [schema.TensorMapT(name=name.encode(), tensorIndex=index) for name, index in tensors.items()]

        codes = [getattr(schema.BuiltinOperator, code) for code in self.codes]
        return schema.ModelT(
            version=3,
            operatorCodes=[schema.OperatorCodeT(c, None, 1, c) for c in codes],
            subgraphs=[
                schema.SubGraphT(self.tensors, list(inputs.values()), list(outputs.values()), self.operators, b"main")
            ],
            buffers=self.buffers,
            signatureDefs=[schema.SignatureDefT(named(inputs), named(outputs), b"step", 0)],
        )
