"""What an ONNX file may hold before an engine sees a byte of it: what `edgekd export` writes, and nothing else.

Every field of every message is looked at. Engines are large and were written for files of friends: they have been made
to read other files, to allocate what a few bytes declare, and to run a second graph that no checker saw.
"""

from __future__ import annotations

import math
import struct
from typing import Any

from edgekd.runtime.container import foreign
from edgekd.runtime.container.protobuf import Reader
from edgekd.runtime.errors import ModelRefused
from edgekd.runtime.json_fields import shown

# Everything that an exported graph has been seen to hold, and siblings that the exporter takes for them at other sizes.
# None of them runs a graph (If, Loop, Scan), reads a file, or allocates by the value of what is computed (Tile, Range,
# ConstantOfShape, NonZero, ...). `tests/runtime/test_hostile_models.py` exports students of all kinds and compares.
OPERATORS = frozenset(
    b"Abs Add And ArgMax AveragePool Cast Clip Concat Conv ConvTranspose DequantizeLinear Div Equal Exp Expand"
    b" Flatten GRU Gather GatherND Gelu Gemm Greater GreaterOrEqual Identity IsInf IsNaN LSTM LayerNormalization"
    b" LeakyRelu Less LessOrEqual Log MatMul Max Min Mod Mul Neg Not Or Pad Pow QuantizeLinear RNN Reciprocal"
    b" ReduceMax ReduceMean ReduceMin ReduceSum Relu Reshape Resize Sigmoid Sign Slice Softmax Split Sqrt Squeeze Sub"
    b" Tanh TopK Transpose Unsqueeze Where".split()
)
# All inputs of these but the first are no data but say what shape comes out. They must be constants: every tensor then
# has the same size at every step, and what the self-test has needed is all that will ever be needed.
SHAPED = frozenset(
    b"Expand Pad ReduceMax ReduceMean ReduceMin ReduceSum Reshape Resize Slice Split Squeeze TopK Unsqueeze".split()
)
ENLARGING = {b"Expand", b"Pad", b"Resize"}
MAX_ENLARGED = 2**24  # product of what one of these is told: sizes, paddings, factors
# The quantizer names those of its own operators in every file; none of them is used.
DOMAINS = frozenset(
    b" ai.onnx ai.onnx.ml ai.onnx.training ai.onnx.preview ai.onnx.preview.training com.microsoft"
    b" com.microsoft.experimental com.microsoft.nchwc org.pytorch.aten".split(b" ")
)
ITEMS = {  # TensorProto.DataType -> bytes of one number, and the field that holds them where they are not raw
    1: (4, "float_data"), 7: (8, "int64_data"), 6: (4, "int32_data"), **dict.fromkeys((2, 3, 9), (1, "int32_data")),
}  # fmt: skip
MAX_RANK = 8
MAX_TENSOR_BYTES = 64 * 2**20  # of an input or output; a constant is as large as its bytes in the file
MAX_ATTRIBUTE = 2**20  # a kernel may span a window, and nothing in a graph is longer

# onnx.proto3; `!`: refused, and what it is.
SCHEMA = {
    "Model": {
        1: "ir_version int", 2: "producer_name bytes", 3: "producer_version bytes", 4: "domain bytes",
        5: "model_version int", 6: "doc_string bytes", 7: "graph Graph", 8: "opset_import Opset*",
        14: "metadata_props Entry*", 20: "!a way to train it", 25: "!functions of its own",
    },
    "Opset": {1: "domain bytes", 2: "version int"},
    "Entry": {1: "key bytes", 2: "value bytes"},
    "Graph": {
        1: "node Node*", 2: "name bytes", 5: "initializer Tensor*", 10: "doc_string bytes", 11: "input Value*",
        12: "output Value*", 13: "value_info Value*", 15: "!sparse tensors",
    },
    "Node": {
        1: "input bytes*", 2: "output bytes*", 3: "name bytes", 4: "op_type bytes", 5: "attribute Attribute*",
        6: "doc_string bytes", 7: "domain bytes",
    },
    "Attribute": {
        1: "name bytes", 2: "f float", 3: "i int", 4: "s bytes", 5: "t Tensor", 7: "floats float*", 8: "ints int*",
        9: "strings bytes*", 13: "doc_string bytes", 20: "type int",
        6: "!a graph inside a node", 11: "!graphs inside a node", 22: "!a sparse tensor", 23: "!sparse tensors",
    },
    "Tensor": {
        1: "dims int*", 2: "data_type int", 4: "float_data float*", 5: "int32_data int*", 7: "int64_data int*",
        8: "name bytes", 9: "raw_data span", 12: "doc_string bytes", 14: "data_location int",
        13: "!weights in another file (external data)",
    },
    "Value": {1: "name bytes", 2: "type Type", 3: "doc_string bytes"},
    "Type": {1: "tensor_type TensorType", 6: "denotation bytes"},
    "TensorType": {1: "elem_type int", 2: "shape Shape"},
    "Shape": {1: "dim Dimension*"},
    "Dimension": {1: "dim_value int", 3: "denotation bytes"},
}  # fmt: skip


def check_graph(data: bytes) -> None:
    """Raise ModelRefused for whatever an exported file never holds."""
    model = Reader(data, SCHEMA).message("Model", 0, len(data))
    for opset in model.get("opset_import", ()):
        if opset.get("domain", b"") not in DOMAINS:
            raise foreign(f"operators of '{_text(opset['domain'])}'")
    graph = model.get("graph", {})
    constants: dict[bytes, dict[str, Any]] = {}
    for tensor in graph.get("initializer", ()):
        _check_tensor(tensor)
        constants[tensor.get("name", b"")] = tensor
    for side in ("input", "output", "value_info"):
        for value in graph.get(side, ()):
            _check_value(value)
            if side == "input" and value.get("name", b"") in constants:
                raise foreign(f"a constant '{_text(value['name'])}' that is an input too")
    kinds = {value.get("name", b""): value["type"]["tensor_type"]["elem_type"] for value in graph.get("input", ())}
    kinds |= {b"": 0, **{name: tensor["data_type"] for name, tensor in constants.items()}}
    for node in graph.get("node", ()):
        _check_node(node, constants, kinds, data)


def _check_node(node: dict[str, Any], constants: dict[bytes, Any], kinds: dict[bytes, int], data: bytes) -> None:
    """kinds: of each tensor so far, which this adds its outputs to; 1 is a float."""
    operator, domain, inputs, outputs = (node.get(key, b"") for key in ("op_type", "domain", "input", "output"))
    if operator not in OPERATORS or domain:
        raise foreign(f"the operator {_text(domain + b'.' + operator if domain else operator)}")
    if unknown := [name for name in inputs if name not in kinds]:
        raise foreign(f"a {_text(operator)} of '{_text(unknown[0])}' before that is computed")
    for name in filter(None, inputs[1:] if operator in SHAPED else ()):
        if name not in constants:
            raise foreign(f"a {_text(operator)} whose shape depends on '{_text(name)}'")
        if operator in ENLARGING and math.prod(max(1, abs(n)) for n in _numbers(constants[name], data)) > MAX_ENLARGED:
            raise foreign(f"a {_text(operator)} to the size of '{_text(name)}'")
    kind = kinds[inputs[operator == b"Where"]] if len(inputs) > (operator == b"Where") else 0
    divides = operator in (b"Div", b"Mod") and kind != 1
    if divides and min(_numbers(constants.get(inputs[-1] if inputs else b"", {}), data), default=0) <= 0:
        raise foreign(f"a {_text(operator)} of whole numbers by what may be 0")  # some engines die of it
    kind = {b"ArgMax": 7, b"DequantizeLinear": 1, b"Cast": 0}.get(operator, kind)
    for attribute in node.get("attribute", ()):
        if attribute.get("name") == b"num_outputs" and attribute.get("i") != len(outputs):  # onnxruntime 1.31.1 dies
            raise foreign(f"a {_text(operator)} into {attribute.get('i')} with {len(outputs)} outputs")
        if attribute.get("name") == b"to":
            kind = attribute.get("i", 0)
        if "t" in attribute:
            _check_tensor(attribute["t"])
        for value in (attribute.get("i", 0), *attribute.get("ints", ())):
            if abs(value) > MAX_ATTRIBUTE:
                raise foreign(f"a {_text(operator)} with {_text(attribute.get('name', b''))} {value}")
    kinds.update(dict.fromkeys(outputs, kind) | dict.fromkeys(outputs[1:] if operator == b"TopK" else (), 7))


def _check_tensor(tensor: dict[str, Any]) -> None:
    """Its bytes must be in the file, as many as its shape says: nobody allocates for more than was sent."""
    dims, name, kind = tensor.get("dims", []), _text(tensor.get("name", b"")), tensor.get("data_type", 0)
    if tensor.get("data_location"):
        raise foreign("weights in another file (external data)")
    if kind not in ITEMS or len(dims) > MAX_RANK or min(dims, default=1) < 0:
        raise foreign(f"a constant '{name}' of type {kind} and shape {shown(dims)}")
    size, field = ITEMS[kind]
    given = {key: value for key, value in tensor.items() if key.endswith("_data")}
    start, end = given.pop("raw_data", (0, 0))
    typed = given.pop(field, [])
    numbers = sum((end - start) / 4 for start, end in typed) if field == "float_data" else len(typed)
    held = (end - start) / size + numbers
    if given or (end > start and typed) or held != math.prod(dims):
        what = f"constant '{name}' of shape {shown(dims)} has data of {held:g} numbers"
        raise ModelRefused(f"{what}; copy or export it again")


def _numbers(tensor: dict[str, Any], data: bytes) -> tuple[float, ...]:
    """A small constant's numbers; -inf in their place for what is computed, or no such constant."""
    (start, end), typed = tensor.get("raw_data", (0, 0)), tensor.get("int64_data", ())
    kind = {1: "f", 6: "i", 7: "q"}.get(tensor.get("data_type", 0))
    if kind is None or "float_data" in tensor or end - start + len(typed) > 64 * MAX_RANK:
        return (-math.inf,)
    return (*struct.unpack(f"<{(end - start) // struct.calcsize(kind)}{kind}", data[start:end]), *typed)


def _check_value(value: dict[str, Any]) -> None:
    tensor = value.get("type", {}).get("tensor_type", {})
    dims = [dim.get("dim_value", 0) for dim in tensor.get("shape", {}).get("dim", ())]
    kind = tensor.get("elem_type", 0)
    size, _ = ITEMS.get(kind, (0, ""))
    if not size or len(dims) > MAX_RANK or min(dims, default=1) < 1 or size * math.prod(dims) > MAX_TENSOR_BYTES:
        raise foreign(f"a tensor '{_text(value.get('name', b''))}' of type {kind}, shape {shown(dims)}")


def _text(name: bytes) -> str:
    return shown(name[:80].decode("utf-8", "backslashreplace"), 60)
