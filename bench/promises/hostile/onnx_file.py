"""Changes of an ONNX file's objects."""

from __future__ import annotations

import copy
import random
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench.promises.hostile.any_file import HUGE, ODD, Change


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


ONNX_KINDS: dict[str, Change] = {
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
}
