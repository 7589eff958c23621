"""What a TFLite file may hold before an engine sees a byte of it: what `edgekd export` writes, and nothing else.

The interpreter trusts what it loads: an operator with too few inputs, one that writes into a constant, a stride of
zero, a scale too few, and the process is gone. Field numbers are those of the schema (tensorflow/lite/schema.fbs).
"""

from __future__ import annotations

import math

from edgekd.runtime.container import foreign
from edgekd.runtime.container.flatbuffer import Flatbuffer, Table
from edgekd.runtime.errors import ModelRefused
from edgekd.runtime.json_fields import shown

MAX_RANK = 8  # what the kernels take
MAX_TENSOR_BYTES = 64 * 2**20
MAX_FIELDS = 64  # of a table; many may share one description of 30,000
MAX_OPTION = 2**20  # a kernel may span a window, and nothing in a graph is longer

# Fewest and most inputs, which of them are no data but say what shape comes out; BuiltinOperator, name, BuiltinOptions.
# Shapes must be constants; operators are those seen in exported graphs, and their siblings: `onnx_operators` says why.
# None of them runs another graph (IF, WHILE, CALL_ONCE) or is somebody's own (CUSTOM, DELEGATE).
OPERATORS = {
    int(number): (name, fewest, most, shapes, int(options))
    for fewest, most, shapes, words in (
        (1, 1, (), "1 AVERAGE_POOL_2D 5, 6 DEQUANTIZE 38, 14 LOGISTIC 0, 19 RELU 0, 25 SOFTMAX 9, 28 TANH 0"),
        (1, 1, (), "43 SQUEEZE 30, 47 EXP 33, 53 CAST 37, 59 NEG 42, 73 LOG 0, 75 SQRT 0, 76 RSQRT 0, 92 SQUARE 66"),
        (1, 1, (), "87 LOGICAL_NOT 63, 98 LEAKY_RELU 75, 101 ABS 78, 114 QUANTIZE 89, 150 GELU 116, 158 SIGN 123"),
        (1, 1, (), "152 RELU_0_TO_1 0"),
        (1, 4096, (), "2 CONCATENATION 10"),
        (2, 2, (), "0 ADD 11, 18 MUL 21, 36 GATHER 23, 41 SUB 28, 42 DIV 29, 55 MAXIMUM 39, 57 MINIMUM 39, 78 POW 56"),
        (2, 2, (), "58 LESS 41, 61 GREATER 44, 62 GREATER_EQUAL 45, 63 LESS_EQUAL 46, 71 EQUAL 53, 72 NOT_EQUAL 54"),
        (2, 2, (), "84 LOGICAL_OR 60, 86 LOGICAL_AND 62, 95 FLOOR_MOD 72, 99 SQUARED_DIFFERENCE 76, 107 GATHER_ND 83"),
        (2, 2, (), "126 BATCH_MATMUL 101"),
        (2, 2, (1,), "22 RESHAPE 17, 23 RESIZE_BILINEAR 15, 34 PAD 22, 39 TRANSPOSE 26, 40 MEAN 27, 48 TOPK_V2 34"),
        (2, 2, (1,), "56 ARG_MAX 40, 70 EXPAND_DIMS 52, 74 SUM 27, 82 REDUCE_MAX 27, 89 REDUCE_MIN 27"),
        (2, 2, (1,), "97 RESIZE_NEAREST_NEIGHBOR 74, 130 BROADCAST_TO 104"),
        (2, 3, (), "3 CONV_2D 1, 4 DEPTHWISE_CONV_2D 2, 9 FULLY_CONNECTED 8"),
        (3, 3, (), "64 SELECT 47, 123 SELECT_V2 98"),
        (3, 3, (1,), "60 PADV2 43"),
        (3, 3, (1, 2), "65 SLICE 48"),
        (3, 4, (0,), "67 TRANSPOSE_CONV 49"),
        (4, 4, (1,), "85 ONE_HOT 61"),
    )
    for number, name, options in map(str.split, words.split(","))
}
# BuiltinOptions -> fields that a kernel divides by or multiplies sizes with, and what an absent one is: strides,
# dilations, windows of pooling.
STRIDES = {
    1: {1: 0, 2: 0, 4: 1, 5: 1},
    2: {1: 0, 2: 0, 3: 0, 5: 1, 6: 1},
    5: {1: 0, 2: 0, 3: 0, 4: 0},
    49: {1: 0, 2: 0},
}
ITEM_BITS = {0: 32, 2: 32, 3: 8, 4: 64, 6: 8, 7: 16, 9: 8, 17: 4}  # TensorType: float32, integers, bool


def check_graph(data: bytes) -> None:
    """Raise ModelRefused for whatever an exported file never holds."""
    model = Flatbuffer(data).root()
    held = []
    for buffer in model.tables(4):
        if buffer.number(1, "Q") > 1 or buffer.number(2, "Q") > 1:  # 1 is a writer's placeholder
            lost = "outside its flatbuffer, where a copy loses them"
            raise ModelRefused(f"the file keeps weights {lost}; export it again")
        held.append(buffer.vector(0, 1))
    _only(model, (0, 1, 2, 3, 4, 5, 6, 7), "weights outside its flatbuffer")
    codes = []
    for code in model.tables(1):
        _only(code, (0, 2, 3), "an operator of its own")
        number = max(code.number(0, "b"), code.number(3, "i"))  # the older field has no room for newer operators
        if number not in OPERATORS:
            raise foreign(f"operator {number}")
        codes.append(number)
    graphs = list(model.tables(2))
    if len(graphs) != 1:
        raise foreign(f"{len(graphs)} graphs")
    graph = graphs[0]
    _only(graph, (0, 1, 2, 3, 4), "an unknown part of a graph")
    tensors = [_Tensor(tensor, held) for tensor in graph.tables(0)]
    for signature in model.tables(7):
        _only(signature, (0, 1, 2, 4), "an unknown part of a signature")
        named = [table.number(1, "I") for side in (0, 1) for table in signature.tables(side)]
        if signature.number(4, "I") or max(named, default=0) >= len(tensors):  # ai-edge-litert 2.3.0 dies of it
            raise foreign("a signature of a graph or of tensors that there are not")
    for index in graph.integers(1):
        _at(tensors, index).write()
    for operator in graph.tables(3):
        _check_operator(operator, codes, tensors)
    for index in graph.integers(2):
        _at(tensors, index).read()


class _Tensor:
    """One tensor, and what becomes of it while the operators are gone through in their order."""

    def __init__(self, table: Table, held: list[tuple[int, int]]) -> None:
        """held: start and number of the bytes in each of the model's buffers."""
        _only(table, (0, 1, 2, 3, 4, 7, 8), "a tensor that is sparse, or keeps a state of its own")
        self._table = table
        self.computed = self._read = False
        shape, kind, buffer = table.integers(0), table.number(1, "B"), table.number(2, "I")
        if len(shape) > MAX_RANK:
            found = f"tensor '{self.name}' has {len(shape)} dimensions"
            raise ModelRefused(f"{found}, at most {MAX_RANK} can be; export it again")
        self._item_bytes = 0 if kind == 0 else ITEM_BITS.get(kind, 0) // 8
        self._bytes = (math.prod(shape) * ITEM_BITS.get(kind, 0) + 7) // 8
        if kind not in ITEM_BITS or min(shape, default=1) < 0 or self._bytes > MAX_TENSOR_BYTES:
            raise foreign(f"a tensor '{self.name}' of type {kind} and shape {shown(shape)}")
        span = held[buffer] if buffer < len(held) else (0, 0)
        self._start: int = span[0]
        self._held: int = span[1]
        if quantization := table.table(4):
            _only(quantization, (0, 1, 2, 3, 6), "a quantization of its own")
            (_, scales), (_, zeros) = quantization.vector(2, 4), quantization.vector(3, 8)
            axis = quantization.number(6, "i")
            channels = shape[axis] if 0 <= axis < len(shape) else 1
            if scales != zeros or scales not in (0, 1, channels):
                raise foreign(f"a tensor '{self.name}' with {scales} scales and {zeros} zero points")

    @property
    def name(self) -> str:
        """For people."""
        return shown(self._table.text(3, 60).decode("ascii", "backslashreplace"))

    @property
    def may_be_zero(self) -> bool:
        """Of whole numbers, and not a few constants above 0."""
        size, data = self._item_bytes, self._table.file.data[self._start : self._start + self._held]
        numbers = (int.from_bytes(data[i : i + size], "little", signed=True) for i in range(0, len(data), size or 1))
        return size > 0 and (not 0 < self._held <= 512 or min(numbers) <= 0)

    def write(self) -> None:
        """By an operator, or by whoever feeds the graph: never into a constant, never twice."""
        if self.computed or self._read or self._held:
            raise foreign(f"a tensor '{self.name}' that is written over")
        self.computed = True

    def read(self) -> None:
        """What something has computed, or a buffer holds; of anything else, an engine takes whatever is in memory."""
        self._read = True
        if not self.computed and self._held != self._bytes:  # a writer that drops buffers leaves just that
            found = f"constant '{self.name}' has {self._held} bytes in the file instead of {self._bytes}"
            raise ModelRefused(f"{found}: its data was dropped; export it again")


def _check_operator(operator: Table, codes: list[int], tensors: list[_Tensor]) -> None:
    _only(operator, (0, 1, 2, 3, 4), "an operator with options of its own")
    place = operator.number(0, "I")
    if place >= len(codes):
        raise foreign(f"operator code {place} of {len(codes)}")
    name, fewest, most, shapes, options = OPERATORS[codes[place]]
    inputs, given = operator.integers(1), operator.number(3, "B")
    if not fewest <= len(inputs) <= most:
        raise foreign(f"a {name} of {len(inputs)} inputs")
    if given not in (0, options):
        raise foreign(f"a {name} with options of another operator")
    for slot, index in enumerate(inputs):
        if index == -1 and slot >= 2:  # an optional input that is not given
            continue
        tensor = _at(tensors, index)
        tensor.read()
        if slot == 1 and name in ("DIV", "FLOOR_MOD") and tensor.may_be_zero:  # some engines die of it
            raise foreign(f"a {name} of whole numbers by what may be 0")
        if slot in shapes and tensor.computed:
            raise foreign(f"a {name} whose shape depends on what it computes")
    if table := operator.table(4):
        for field, default in STRIDES.get(given, {}).items():
            if not 1 <= (value := table.number(field, "i", default)) <= MAX_OPTION:
                raise foreign(f"a {name} with a stride, dilation or window of {value}")
    for index in operator.integers(2):
        _at(tensors, index).write()


def _at(tensors: list[_Tensor], index: int) -> _Tensor:
    if not 0 <= index < len(tensors):
        raise ModelRefused(f"the graph reads tensor {index} of {len(tensors)}; export it again")
    return tensors[index]


def _only(table: Table, known: tuple[int, ...], other: str) -> None:
    """known: fields that may be there. other: what another one would be."""
    if table.fields > MAX_FIELDS or any(table.place(field) for field in range(table.fields) if field not in known):
        raise foreign(other)
