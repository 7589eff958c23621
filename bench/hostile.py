"""Mutations of exported files, as somebody would make them who wants to crash, fill or lead astray a gateway.

`undigested` files keep the digest of what they were; `redigested` ones get a manifest whose digest is right again, so
that only the checks behind it stand between them and an engine.
"""

from __future__ import annotations

import copy
import itertools
import json
import random
import re
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgekd.runtime.container import container_of
from edgekd.runtime.container.entry import KEY, cut
from edgekd.runtime.container.protobuf import varint
from edgekd.runtime.digest import sha256
from edgekd.runtime.manifest import read

HUGE = (2**20, 2**26, 2**31 - 1, 2**40, 2**62)
ODD = (0, -1, 1, 2, 3, 255, 2**15, 2**31 - 1, -(2**31))
Change = Callable[[random.Random, bytes, str], bytes]


@dataclass(frozen=True)
class Mutant:
    """One file."""

    name: str
    kind: str
    redigested: bool
    data: bytes


def mutants(bases: dict[str, bytes], count: int, canary: str, seed: int = 0) -> Iterator[Mutant]:
    """`count` files, every second one re-digested, all kinds of change in turn over all bases.

    bases: exported files, whole, by name. canary: path of a file that nobody may open.
    """
    rng = random.Random(seed)
    works = {name: (data, *_bare(data)) for name, data in bases.items()}
    turns = [
        (kind, name) for kind in KINDS for name in works if kind.partition(" ")[0] in ("any", _format(bases[name]))
    ]
    made = 0
    for kind, name in itertools.cycle(turns):
        if made == count:
            return
        whole, bare, manifest = works[name]
        redigested = made % 2 == 1
        change = KINDS[kind]
        if kind.startswith("any manifest"):
            text = change(rng, manifest, canary)
            bare_digest = _digest(bare, text)
            data = _with_manifest(bare, text if not redigested else _set_digest(text, bare_digest))
        elif redigested:
            changed = change(rng, bare, canary)
            try:
                data = _with_manifest(changed, _set_digest(manifest, _digest(changed, manifest)))
            except Exception:  # nothing is left of it that could carry a manifest
                data = changed
        else:
            changed = change(rng, bare, canary)
            try:
                data = _with_manifest(changed, manifest)
            except Exception:
                data = changed
        if data == whole:  # a change that changes nothing
            continue
        made += 1
        yield Mutant(f"{made:04d}-{name}", kind, redigested, data)


def _format(data: bytes) -> str:
    return container_of(data).name


def _bare(data: bytes) -> tuple[bytes, bytes]:
    """An exported file without its manifest, and the manifest's JSON."""
    container = container_of(data)
    (entry,) = container.entries(data)
    return container.bare(data), entry.value


def _with_manifest(bare: bytes, text: bytes) -> bytes:
    if bare[4:8] == b"TFL3":
        return container_of(bare).append(bare, text)
    entry = b"\x0a" + varint(len(KEY)) + KEY + b"\x12" + varint(len(text)) + text
    return bare + b"\x72" + varint(len(entry)) + entry


def _digest(bare: bytes, text: bytes) -> str:
    """Of the file that carries a manifest of this length."""
    if bare[4:8] != b"TFL3":
        return sha256(bare)
    data = container_of(bare).append(bare, text)
    return sha256(cut(data, container_of(data).entries(data)))


def _set_digest(text: bytes, digest: str) -> bytes:
    return re.sub(rb'("file":")[0-9a-f]{64}', b"\\g<1>" + digest.encode(), text)


# -- bytes, of either format -------------------------------------------------------------------------------------------


def flip_bits(rng: random.Random, data: bytes, _: str) -> bytes:
    out = bytearray(data)
    for _i in range(rng.choice((1, 1, 2, 8))):
        out[rng.randrange(len(out))] ^= 1 << rng.randrange(8)
    return bytes(out)


def flip_structure(rng: random.Random, data: bytes, _: str) -> bytes:
    """Where there are few zeros and no weights: in a flatbuffer near the end or start, in protobuf near names."""
    out = bytearray(data)
    places = [m.start() for m in re.finditer(rb"[\x00-\x40]{3}", data)] or [0]
    for _i in range(rng.choice((1, 2, 4))):
        out[rng.choice(places)] = rng.randrange(256)
    return bytes(out)


def truncate(rng: random.Random, data: bytes, _: str) -> bytes:
    return data[: rng.randrange(len(data))]


def cut_out(rng: random.Random, data: bytes, _: str) -> bytes:
    start = rng.randrange(len(data))
    return data[:start] + data[start + rng.choice((1, 2, 4, 64, 4096)) :]


def repeat_part(rng: random.Random, data: bytes, _: str) -> bytes:
    start, size = rng.randrange(len(data)), rng.choice((1, 4, 64, 4096))
    return data[: start + size] + data[start : start + size] + data[start + size :]


def plant_number(rng: random.Random, data: bytes, _: str) -> bytes:
    at = rng.randrange(len(data) // 4) * 4
    return data[:at] + struct.pack("<q", rng.choice(ODD))[:4] + data[at + 4 :]


def append_noise(rng: random.Random, data: bytes, _: str) -> bytes:
    return data + rng.randbytes(rng.choice((1, 16, 1000)))


# -- manifests: JSON in, JSON out --------------------------------------------------------------------------------------


def evil_text(rng: random.Random, text: bytes, canary: str) -> bytes:
    """What strict JSON or a bound must stop, with the digest as it is."""
    found = json.loads(text)
    evil: list[Callable[[], Any]] = [
        lambda: found["threshold"].update(value=float("nan")),
        lambda: found.update(hop=rng.choice((0, -1, 2**31, 10**9))),
        lambda: found.update(period_s=rng.choice((0, -1.0, 1e300, float("inf")))),
        lambda: found["state"].append({"name": "huge", "shape": [2**20, 2**20], "dtype": "float32"}),
        lambda: found["state"].append({"name": "../" + canary, "shape": [1], "dtype": "float32"}),
        lambda: found["sensors"][0].update(name="\x1b]0;owned\x07\x1b[2J"),
        lambda: found["sensors"][0].update(name="a\u202eb"),
        lambda: found.update(sensors=found["sensors"] * 2),
        lambda: found.update(sensors=found["sensors"] * 5000),
        lambda: found["self_test"].update(steps=10**9),
        lambda: found["self_test"].update(tolerance=1e9),
        lambda: found.update(metrics=json.loads("[" * 50 + "]" * 50)),
        lambda: found.update(metrics={"a": "x" * 10**6}),
        lambda: found.update(format=2),
        lambda: found.update(surprise=canary),
        lambda: found["digests"].update(student=canary),
    ]
    rng.choice(evil)()
    out = json.dumps(found, separators=(",", ":")).encode()
    return rng.choice(
        (out, out[:-1] + b',"hop":1}', out[:-1], b"\xff" + out, out.replace(b'"hop"', b'"hop":1,"hop"', 1))
    )


def other_text(rng: random.Random, text: bytes, _: str) -> bytes:
    """A manifest that every bound lets through, and that is not about this graph, or promises something else."""
    found = json.loads(text)
    other: list[Callable[[], Any]] = [
        lambda: found.update(hop=found["hop"] + 1),
        lambda: found["sensors"].pop(),
        lambda: found["state"].pop() if found["state"] else found.update(hop=1),
        lambda: found["self_test"].update(scores=[s + 1.0 for s in found["self_test"]["scores"]]),
        lambda: found["self_test"].update(tolerance=1.0, scores=[s * 1.2 + 0.1 for s in found["self_test"]["scores"]]),
        lambda: found["state"].append({"name": "more", "shape": [1000, 1000], "dtype": "float32"}),
        lambda: found["sensors"][0].update(low=-3.0e38, high=3.0e38),
    ]
    rng.choice(other)()
    return _set_digest(json.dumps(found, separators=(",", ":")).encode(), "0" * 64)


# -- ONNX --------------------------------------------------------------------------------------------------------------


def onnx_change(change: Callable[[random.Random, Any, str], None]) -> Change:
    """A change of the model's objects as one of its bytes."""

    def apply(rng: random.Random, data: bytes, canary: str) -> bytes:
        import onnx

        model = onnx.load_from_string(data)
        change(rng, model, canary)
        return model.SerializeToString()

    return apply


def resize_constant(rng: random.Random, model: Any, _: str) -> None:
    tensor = rng.choice(model.graph.initializer)
    if rng.random() < 0.5 and tensor.dims:
        tensor.dims[rng.randrange(len(tensor.dims))] = rng.choice((*ODD, *HUGE))
    elif rng.random() < 0.5:
        tensor.dims.append(rng.choice(HUGE))
    else:
        tensor.raw_data = tensor.raw_data[: rng.randrange(len(tensor.raw_data) + 1)] + bytes(rng.choice((0, 1, 64)))


def other_constant(rng: random.Random, model: Any, _: str) -> None:
    """Another constant of the same size: shapes, axes, indices and weights that mean something else."""
    tensor = rng.choice([t for t in model.graph.initializer if t.raw_data] or list(model.graph.initializer))
    size = len(tensor.raw_data)
    if tensor.data_type == 7 and size:
        values = [rng.choice((*ODD, *HUGE)) for _i in range(size // 8)]
        tensor.raw_data = struct.pack(f"<{len(values)}q", *values)
    else:
        tensor.raw_data = rng.randbytes(size)


def external_data(rng: random.Random, model: Any, canary: str) -> None:
    from onnx import TensorProto

    tensor = rng.choice(model.graph.initializer)
    if rng.random() < 0.3:
        node = model.graph.node.add(op_type="Constant", output=["leak"])
        attribute = node.attribute.add(name="value", type=4)
        tensor = attribute.t
        tensor.CopyFrom(rng.choice(model.graph.initializer))
    tensor.ClearField("raw_data")
    if rng.random() < 0.8:
        tensor.data_location = TensorProto.EXTERNAL
    name = Path(canary).name
    for key, value in (
        ("location", rng.choice((canary, name, f"../{name}", f"./a/../{name}", "/dev/zero", f"*/../{name}"))),
        ("offset", str(rng.choice((0, -1, 2**62)))),
        ("length", str(rng.choice((4, 2**40)))),
    ):
        tensor.external_data.add(key=key, value=value)


def evil_subgraph(rng: random.Random, model: Any, canary: str) -> None:
    """A node that runs a graph of its own, in which the evil is."""
    from onnx import TensorProto, helper

    kind = rng.choice(("ConstantOfShape", "Identity", "Foo"))
    inner = helper.make_graph(
        [helper.make_node(kind, ["size"], ["inner"], domain=rng.choice(("", "evil")))], "inner", [],
        [helper.make_tensor_value_info("inner", TensorProto.FLOAT, None)],
        [helper.make_tensor("size", TensorProto.INT64, [2], [2**20, 2**20])],
    )  # fmt: skip
    if rng.random() < 0.5:
        whole = helper.make_model(inner)
        external_data(rng, whole, canary)
        inner = whole.graph
    kind = rng.choice(("If", "Loop", "Scan"))
    node = model.graph.node.add(op_type=kind, output=["from_inner"])
    for name in {"If": ("then_branch", "else_branch")}.get(kind, ("body",)):
        node.attribute.append(helper.make_attribute(name, inner))
    if rng.random() < 0.3:
        attribute = model.graph.node[0].attribute.add(name="graphs", type=10)
        attribute.graphs.append(inner)


def allocate(rng: random.Random, model: Any, _: str) -> None:
    """Few bytes that make an engine fill the memory, and an operator that only a careful reader refuses."""
    from onnx import TensorProto, helper

    graph, huge = model.graph, rng.choice((2**16, 2**20, 2**28, 2**31))
    first = graph.input[1].name  # valid (n,)

    def constant(name: str, *values: int) -> str:
        graph.initializer.append(helper.make_tensor(name, TensorProto.INT64, [len(values)], values))
        return name

    def node(kind: str, *inputs: str, **attributes: Any) -> str:
        output = f"evil{len(graph.node)}"
        graph.node.append(helper.make_node(kind, list(inputs), [output], **attributes))
        return output

    way = rng.randrange(10)
    if way == 0:
        node("ConstantOfShape", constant("evil_shape", huge, huge))
    elif way == 1:
        node("Expand", first, constant("evil_shape", huge, huge, 1))
    elif way == 2:
        node("Tile", first, constant("evil_repeats", huge))
    elif way == 3:
        made = first
        for _i in range(40):  # twice as large with every node
            made = node("Concat", made, made, axis=0)
        node("ReduceSum", made, keepdims=0)
    elif way == 4:
        made = node("Concat", *([first] * 3000), axis=0)
        column = node("Unsqueeze", made, constant("evil_axis", 1))
        node("ReduceSum", node("Add", made, column), keepdims=0)  # an outer sum
    elif way == 5:
        made = node("Concat", *([first] * 3000), axis=0)
        node(
            "MatMul",
            node("Unsqueeze", made, constant("evil_axis", 1)),
            node("Unsqueeze", made, constant("evil_axis0", 0)),
        )
    elif way == 6:
        node("Pad", first, constant("evil_pads", huge, huge))
    elif way == 7:
        shaped = node("Reshape", first, constant("evil_image", 1, 1, 1, -1))
        node("Resize", shaped, "", "", constant("evil_sizes", 1, 1, huge, huge), mode="nearest")
    elif way == 8:
        graph.value_info.append(helper.make_tensor_value_info("evil_info", TensorProto.FLOAT, [huge, huge, huge]))
    else:
        graph.input[1].type.tensor_type.shape.dim[0].dim_value = huge


def foreign_operator(rng: random.Random, model: Any, _: str) -> None:
    from onnx import helper

    node = rng.choice(model.graph.node)
    way = rng.randrange(4)
    if way == 0:
        node.domain = rng.choice(("evil", "com.microsoft", "ai.onnx.contrib"))
    elif way == 1:
        node.op_type = rng.choice(("PyOp", "If", "NonZero", "Loop", "Optional", "StringConcat", "LoadLibrary"))
    elif way == 2:
        model.functions.append(
            helper.make_function(
                "evil", "F", ["x"], ["y"], [helper.make_node("Identity", ["x"], ["y"])], [helper.make_opsetid("", 20)]
            )
        )
        node.op_type, node.domain = "F", "evil"
        model.opset_import.append(helper.make_opsetid("evil", 1))
    else:
        model.training_info.add().initialization.CopyFrom(model.graph)


def rewire(rng: random.Random, model: Any, _: str) -> None:
    """The graph's own nodes, wrongly put together."""
    nodes = model.graph.node
    node, other = rng.choice(nodes), rng.choice(nodes)
    way = rng.randrange(6)
    if way == 0:
        node.op_type = other.op_type
    elif way == 1 and node.input and other.input:
        node.input[rng.randrange(len(node.input))] = rng.choice([*other.input, *other.output, "nothing", ""])
    elif way == 2 and node.input:
        del node.input[rng.randrange(len(node.input)) :]
    elif way == 3 and other.input:
        node.input.extend(other.input)
    elif way == 4:
        nodes.append(copy.deepcopy(node))
    else:
        node.output[0] = other.output[0]


def other_attribute(rng: random.Random, model: Any, _: str) -> None:
    node = rng.choice([n for n in model.graph.node if n.attribute])
    attribute = rng.choice(node.attribute)
    value = rng.choice((*ODD, *HUGE))
    if attribute.type == 7 and attribute.ints:
        attribute.ints[rng.randrange(len(attribute.ints))] = value
    elif attribute.type == 2:
        attribute.i = value
    elif attribute.type == 1:
        attribute.f = float("nan")
    else:
        attribute.type = rng.randrange(1, 15)


def other_type(rng: random.Random, model: Any, _: str) -> None:
    graph = model.graph
    if rng.random() < 0.5:
        rng.choice(graph.initializer).data_type = rng.randrange(0, 24)
    else:
        rng.choice([*graph.input, *graph.output]).type.tensor_type.elem_type = rng.randrange(0, 24)


def merged_twice(rng: random.Random, data: bytes, canary: str) -> bytes:
    """A second `graph`, which engines merge into the first and run; a second anything."""
    import onnx

    second = onnx.ModelProto()
    way = rng.randrange(4)
    if way == 0:
        second.graph.CopyFrom(onnx.load_from_string(data).graph)
    elif way == 1:
        external_data(rng, _loaded := onnx.load_from_string(data), canary)
        second.graph.initializer.extend(_loaded.graph.initializer)
    elif way == 2:
        second.metadata_props.add(key="edgekd", value="{}")
    else:
        second.ir_version = 11
    return data + second.SerializeToString()


def polyglot(rng: random.Random, data: bytes, _: str) -> bytes:
    """Onnxruntime's own format by its mark, an ONNX file by its first byte."""
    return rng.choice((b"\x08\x0a\x12\x04ORTM", b"\x08\x8a\x00\x12ORTM")) + data


# -- TFLite ------------------------------------------------------------------------------------------------------------


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


KINDS: dict[str, Change] = {
    "any bit flips": flip_bits,
    "any bytes of the structure": flip_structure,
    "any truncation": truncate,
    "any part cut out": cut_out,
    "any part repeated": repeat_part,
    "any planted number": plant_number,
    "any noise behind": append_noise,
    "any manifest that is evil": evil_text,
    "any manifest of another graph": other_text,
    "onnx resized constants": onnx_change(resize_constant),
    "onnx other constants": onnx_change(other_constant),
    "onnx external data": onnx_change(external_data),
    "onnx evil subgraphs": onnx_change(evil_subgraph),
    "onnx huge allocations": onnx_change(allocate),
    "onnx foreign operators": onnx_change(foreign_operator),
    "onnx rewired": onnx_change(rewire),
    "onnx other attributes": onnx_change(other_attribute),
    "onnx other types": onnx_change(other_type),
    "onnx duplicated fields": merged_twice,
    "onnx polyglot": polyglot,
    "tflite tensor shapes": tflite_change(tensor_shape),
    "tflite tensor types and buffers": tflite_change(tensor_kind),
    "tflite buffers": tflite_change(buffer_size),
    "tflite operators": tflite_change(operator),
    "tflite options": tflite_change(options),
    "tflite operator codes": tflite_change(operator_code),
    "tflite structure": tflite_change(structure),
    "tflite huge allocations": tflite_change(blow_up),
}


def still_whole(bases: dict[str, bytes]) -> None:
    """The files that are changed are good ones: raises ModelRefused where one is not."""
    for data in bases.values():
        read(data)
