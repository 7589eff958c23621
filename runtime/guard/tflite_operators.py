"""What a TFLite file may hold before an engine sees a byte of it: what `edgekd export` writes, and nothing else.

The interpreter trusts what it loads: an operator with too few inputs, one that writes into a constant, a stride of
zero, a scale too few, and the process is gone. Field numbers are those of the schema (tensorflow/lite/schema.fbs).
"""

from __future__ import annotations

import math
from typing import NoReturn

from edgekd.runtime.container.flatbuffer import Flatbuffer, Table
from edgekd.runtime.errors import ModelRefused
from edgekd.runtime.json_fields import shown

MAX_RANK = 8  # what the kernels take
MAX_TENSOR_BYTES = 64 * 2**20
MAX_OPTION = 2**20  # a kernel may span a window, and nothing in a graph is longer

# BuiltinOperator -> name, fewest and most inputs, its BuiltinOptions, and which inputs are no data but say what shape
# comes out. Those must be constants: every tensor then has the same size at every step, and what the self-test has
# needed is all that will ever be needed. These are the operators that an exported graph has been seen to hold, and
# siblings that the converter takes for them at other sizes; `test_hostile_models.py` exports students of all
# kinds and compares. None of them runs another graph (IF, WHILE, CALL_ONCE) or is somebody's own (CUSTOM, DELEGATE).
OPERATORS: dict[int, tuple[str, int, int, int, tuple[int, ...]]] = {
    0: ("ADD", 2, 2, 11, ()), 1: ("AVERAGE_POOL_2D", 1, 1, 5, ()), 2: ("CONCATENATION", 1, 4096, 10, ()),
    3: ("CONV_2D", 2, 3, 1, ()), 4: ("DEPTHWISE_CONV_2D", 2, 3, 2, ()), 6: ("DEQUANTIZE", 1, 1, 38, ()),
    9: ("FULLY_CONNECTED", 2, 3, 8, ()), 14: ("LOGISTIC", 1, 1, 0, ()), 18: ("MUL", 2, 2, 21, ()),
    19: ("RELU", 1, 1, 0, ()), 22: ("RESHAPE", 2, 2, 17, (1,)), 23: ("RESIZE_BILINEAR", 2, 2, 15, (1,)),
    25: ("SOFTMAX", 1, 1, 9, ()), 28: ("TANH", 1, 1, 0, ()), 34: ("PAD", 2, 2, 22, (1,)),
    36: ("GATHER", 2, 2, 23, ()), 39: ("TRANSPOSE", 2, 2, 26, (1,)), 40: ("MEAN", 2, 2, 27, (1,)),
    41: ("SUB", 2, 2, 28, ()), 42: ("DIV", 2, 2, 29, ()), 43: ("SQUEEZE", 1, 1, 30, ()), 47: ("EXP", 1, 1, 33, ()),
    48: ("TOPK_V2", 2, 2, 34, (1,)), 53: ("CAST", 1, 1, 37, ()), 55: ("MAXIMUM", 2, 2, 39, ()),
    56: ("ARG_MAX", 2, 2, 40, (1,)), 57: ("MINIMUM", 2, 2, 39, ()), 58: ("LESS", 2, 2, 41, ()),
    59: ("NEG", 1, 1, 42, ()),
    60: ("PADV2", 3, 3, 43, (1,)), 61: ("GREATER", 2, 2, 44, ()), 62: ("GREATER_EQUAL", 2, 2, 45, ()),
    63: ("LESS_EQUAL", 2, 2, 46, ()), 64: ("SELECT", 3, 3, 47, ()), 65: ("SLICE", 3, 3, 48, (1, 2)),
    67: ("TRANSPOSE_CONV", 3, 4, 49, (0,)), 70: ("EXPAND_DIMS", 2, 2, 52, (1,)), 71: ("EQUAL", 2, 2, 53, ()),
    72: ("NOT_EQUAL", 2, 2, 54, ()), 73: ("LOG", 1, 1, 0, ()), 74: ("SUM", 2, 2, 27, (1,)), 75: ("SQRT", 1, 1, 0, ()),
    76: ("RSQRT", 1, 1, 0, ()), 78: ("POW", 2, 2, 56, ()), 82: ("REDUCE_MAX", 2, 2, 27, (1,)),
    84: ("LOGICAL_OR", 2, 2, 60, ()), 85: ("ONE_HOT", 4, 4, 61, (1,)), 86: ("LOGICAL_AND", 2, 2, 62, ()),
    87: ("LOGICAL_NOT", 1, 1, 63, ()), 89: ("REDUCE_MIN", 2, 2, 27, (1,)), 92: ("SQUARE", 1, 1, 66, ()),
    95: ("FLOOR_MOD", 2, 2, 72, ()), 97: ("RESIZE_NEAREST_NEIGHBOR", 2, 2, 74, (1,)), 98: ("LEAKY_RELU", 1, 1, 75, ()),
    99: ("SQUARED_DIFFERENCE", 2, 2, 76, ()), 101: ("ABS", 1, 1, 78, ()),
    107: ("GATHER_ND", 2, 2, 83, ()), 114: ("QUANTIZE", 1, 1, 89, ()),
    123: ("SELECT_V2", 3, 3, 98, ()),
    126: ("BATCH_MATMUL", 2, 2, 101, ()), 130: ("BROADCAST_TO", 2, 2, 104, (1,)),
    150: ("GELU", 1, 1, 116, ()), 152: ("RELU_0_TO_1", 1, 1, 0, ()), 158: ("SIGN", 1, 1, 123, ()),
}  # fmt: skip
# BuiltinOptions -> fields that a kernel divides by or multiplies sizes with: strides, dilations, windows of pooling.
STRIDES = {1: (1, 2, 4, 5), 2: (1, 2, 3, 5, 6), 5: (1, 2, 3, 4), 49: (1, 2)}
STRIDE_DEFAULTS = {(1, 4): 1, (1, 5): 1, (2, 5): 1, (2, 6): 1}
ITEM_BITS = {0: 32, 2: 32, 3: 8, 4: 64, 6: 8, 7: 16, 9: 8, 17: 4}  # TensorType: float32, integers, bool

# Table -> fields that may be there, and what another one would be.
FIELDS = {
    "model": ({0, 1, 2, 3, 4, 5, 6, 7}, "weights outside its flatbuffer"),
    "operator code": ({0, 2, 3}, "an operator of its own"),
    "graph": ({0, 1, 2, 3, 4}, "an unknown part of a graph"),
    "tensor": ({0, 1, 2, 3, 4, 7, 8}, "a tensor that is sparse, or keeps a state of its own"),
    "operator": ({0, 1, 2, 3, 4}, "an operator with options of its own"),
    "quantization": ({0, 1, 2, 3, 6}, "a quantization of its own"),
    "signature": ({0, 1, 2, 4}, "an unknown part of a signature"),
}


def check_graph(data: bytes) -> None:
    """Raise ModelRefused for whatever an exported file never holds."""
    model = Flatbuffer(data).root()
    held = []
    for buffer in model.tables(4):
        if buffer.number(1, "Q") > 1 or buffer.number(2, "Q") > 1:  # 1 is a writer's placeholder
            raise ModelRefused(
                "the file keeps weights outside its flatbuffer, where a copy loses them; export it again"
            )
        start, end = buffer.blob(0)
        held.append(end - start)
    _only(model, "model")
    codes = [_operator_code(code) for code in model.tables(1)]
    graphs = list(model.tables(2))
    if len(graphs) != 1:
        _refuse(f"{len(graphs)} graphs")
    tensors = graphs[0].count(0, 4)
    for signature in model.tables(7):
        _only(signature, "signature")
        named = [table.number(1, "I") for side in (0, 1) for table in signature.tables(side)]
        if signature.number(4, "I") or max(named, default=0) >= tensors:  # ai-edge-litert 2.3.0 dies of it
            _refuse("a signature of a graph or of tensors that there are not")
    _Graph(graphs[0], codes, held).check()


def _operator_code(code: Table) -> int:
    _only(code, "operator code")
    number = max(code.number(0, "b"), code.number(3, "i"))  # the older field has no room for newer operators
    if number not in OPERATORS:
        _refuse(f"operator {number}")
    return number


class _Graph:
    """One subgraph: what is known of its tensors while its operators are gone through in their order."""

    def __init__(self, table: Table, codes: list[int], held: list[int]) -> None:
        """codes: the model's operator codes; held: bytes in each of its buffers."""
        _only(table, "graph")
        self._table, self._codes, self._held = table, codes, held
        self._tensors = list(table.tables(0))
        self._computed: set[int] = set()
        self._constants: set[int] = set()

    def check(self) -> None:
        """Raise ModelRefused where something is read that nothing computes and no buffer holds, and for all else.

        A writer that drops buffers leaves just that, and an engine then takes whatever is in memory.
        """
        for tensor in self._tensors:
            self._check_tensor(tensor)
        self._write(self._table.integers(1))
        for operator in self._table.tables(3):
            self._check_operator(operator)
        for index in self._table.integers(2):
            self._read(index)

    def _check_operator(self, operator: Table) -> None:
        _only(operator, "operator")
        place = operator.number(0, "I")
        if place >= len(self._codes):
            _refuse(f"operator code {place} of {len(self._codes)}")
        name, fewest, most, options, shapes = OPERATORS[self._codes[place]]
        inputs, given = operator.integers(1), operator.number(3, "B")
        if not fewest <= len(inputs) <= most:
            _refuse(f"a {name} of {len(inputs)} inputs")
        if given not in (0, options):
            _refuse(f"a {name} with options of another operator")
        for slot, index in enumerate(inputs):
            if index == -1 and slot >= 2:  # an optional input that is not given
                continue
            self._read(index)
            if slot in shapes and index in self._computed:
                _refuse(f"a {name} whose shape depends on what it computes")
        if (at := operator.place(4)) and given in STRIDES:
            table = Table(operator.file, operator.file.follow(at))
            for field in STRIDES[given]:
                value = table.number(field, "i", STRIDE_DEFAULTS.get((given, field), 0))
                if not 1 <= value <= MAX_OPTION:
                    _refuse(f"a {name} with a stride, dilation or window of {value}")
        self._write(operator.integers(2))

    def _write(self, indices: tuple[int, ...]) -> None:
        """Note what an operator, or whoever feeds the graph, writes: never into a constant, never twice."""
        for index in indices:
            tensor = self._tensor(index)
            if index in self._computed or index in self._constants or self._bytes_of(tensor):
                _refuse(f"a tensor {index} that is written over")
            self._computed.add(index)

    def _read(self, index: int) -> None:
        if index not in self._computed and index not in self._constants:
            self._check_constant(self._tensor(index))
            self._constants.add(index)

    def _tensor(self, index: int) -> Table:
        if not 0 <= index < len(self._tensors):
            raise ModelRefused(f"the graph reads tensor {index} of {len(self._tensors)}; export it again")
        return self._tensors[index]

    def _bytes_of(self, tensor: Table) -> int:
        buffer = tensor.number(2, "I")
        return self._held[buffer] if buffer < len(self._held) else 0

    def _check_tensor(self, tensor: Table) -> None:
        _only(tensor, "tensor")
        shape, kind = tensor.integers(0), tensor.number(1, "B")
        if len(shape) > MAX_RANK:
            raise ModelRefused(
                f"tensor '{_name(tensor)}' has {len(shape)} dimensions, at most {MAX_RANK} can be; export it again"
            )
        if kind not in ITEM_BITS or min(shape, default=1) < 0 or _size(tensor) > MAX_TENSOR_BYTES:
            _refuse(f"a tensor '{_name(tensor)}' of type {kind} and shape {shown(shape)}")
        if at := tensor.place(4):
            quantization = Table(tensor.file, tensor.file.follow(at))
            _only(quantization, "quantization")
            scales, zeros = quantization.count(2, 4), quantization.count(3, 8)
            axis = quantization.number(6, "i")
            channels = shape[axis] if 0 <= axis < len(shape) else 1
            if scales != zeros or scales not in (0, 1, channels):
                _refuse(f"a tensor '{_name(tensor)}' with {scales} scales and {zeros} zero points")

    def _check_constant(self, tensor: Table) -> None:
        found, wanted = self._bytes_of(tensor), _size(tensor)
        if found != wanted:
            raise ModelRefused(
                f"constant '{_name(tensor)}' has {found} bytes in the file instead of {wanted}: its data was dropped;"
                " export it again"
            )


def _size(tensor: Table) -> int:
    return (math.prod(tensor.integers(0)) * ITEM_BITS[tensor.number(1, "B")] + 7) // 8


def _name(tensor: Table) -> str:
    return shown(tensor.text(3)[:60].decode("ascii", "backslashreplace"))


def _only(table: Table, kind: str) -> None:
    known, other = FIELDS[kind]
    if any(table.place(field) for field in range(table.fields) if field not in known):
        _refuse(other)


def _refuse(what: str) -> NoReturn:
    raise ModelRefused(f"the file holds {what}, which edgekd export never writes; export it again")
