"""Model files of strangers: refused in one line before an engine sees them, or tried in a process that may die.

`python -m bench.promises.hostile_models` is the long form: 2,000 files through the real command.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from device import ROOT, run, write_csv
from onnx import TensorProto, helper, numpy_helper
from step_models import step_graph, step_manifest, step_samples, with_manifest
from step_tflite import pack, schema, step_tflite, unpack

from bench.promises.hostile import KINDS, Mutant, mutants
from edgekd.export.embed import append, embed, to_json
from edgekd.runtime import ModelRefused
from edgekd.runtime.guard import admit, check_operators

N, HOP = 3, 4
GRAPH = step_graph(N, HOP)
MANIFEST = admit(with_manifest(GRAPH.SerializeToString(), N, HOP), try_first=False)[0]
TFLITE = step_tflite(N, HOP)


# -- attacks by name ---------------------------------------------------------------------------------------------------


def onnx_file(change: Callable[[onnx.ModelProto], object]) -> bytes:
    """The step graph with a change, and a manifest whose digest is right."""
    model = onnx.ModelProto()
    model.CopyFrom(GRAPH)
    change(model)
    return embed(model.SerializeToString(), MANIFEST)


def tflite_file(change: Callable[[schema.ModelT, Any], object]) -> bytes:
    tree = unpack(TFLITE)
    change(tree, tree.subgraphs[0])
    return embed(pack(tree), MANIFEST)


def tensor(model: onnx.ModelProto, name: str) -> onnx.TensorProto:
    return next(t for t in model.graph.initializer if t.name == name)


def external(model: onnx.ModelProto, location: str = "/etc/passwd") -> None:
    weights = tensor(model, "W")
    weights.data_location = TensorProto.EXTERNAL
    weights.ClearField("raw_data")
    weights.external_data.add(key="location", value=location)


def external_in_an_attribute(model: onnx.ModelProto) -> None:
    value = numpy_helper.from_array(np.zeros(2, np.float32))
    value.external_data.add(key="location", value="../secret")
    model.graph.node.append(helper.make_node("Sub", ["x"], ["y"], value=value))


def a_loop(model: onnx.ModelProto) -> None:
    inner = helper.make_graph([], "inner", [], [])
    model.graph.node.append(helper.make_node("Loop", ["", ""], [], body=inner))


def a_hidden_loop(model: onnx.ModelProto) -> None:
    """Under the name of an operator that is allowed."""
    node = helper.make_node("Add", ["x", "x"], ["y"], body=helper.make_graph([], "inner", [], []))
    model.graph.node.append(node)


def a_function(model: onnx.ModelProto) -> None:
    body = [helper.make_node("Identity", ["a"], ["b"])]
    model.functions.append(helper.make_function("d", "F", ["a"], ["b"], body, [helper.make_opsetid("", 13)]))


def a_shape_that_is_computed(model: onnx.ModelProto) -> None:
    model.graph.node.append(helper.make_node("Cast", ["ema"], ["k"], to=TensorProto.INT64))
    model.graph.node.append(helper.make_node("TopK", ["ema", "k"], ["top", "where"]))


def an_expansion(model: onnx.ModelProto) -> None:
    model.graph.initializer.append(numpy_helper.from_array(np.array([2**20, 2**20]), "size"))
    model.graph.node.append(helper.make_node("Expand", ["ema", "size"], ["large"]))


def a_large_padding(model: onnx.ModelProto) -> None:
    node = helper.make_node("Conv", ["ema", "W"], ["y"], pads=[2**30, 2**30])
    model.graph.node.append(node)


def a_split_that_miscounts(model: onnx.ModelProto) -> None:
    model.graph.node.append(helper.make_node("Split", ["ema"], ["a", "b", "c"], num_outputs=2))


def divided_by_what_is_computed(model: onnx.ModelProto) -> None:
    """Older engines die of an integer 0, whenever it comes."""
    model.graph.node.append(helper.make_node("Cast", ["next_ema"], ["whole"], to=TensorProto.INT64))
    model.graph.node.append(helper.make_node("Div", ["whole", "whole"], ["parts_of"]))


def divided_by_a_zero(model: onnx.ModelProto) -> None:
    model.graph.initializer.append(numpy_helper.from_array(np.array([1, 0, 1]), "zero"))
    model.graph.node.append(helper.make_node("Cast", ["next_ema"], ["whole"], to=TensorProto.INT64))
    model.graph.node.append(helper.make_node("Mod", ["whole", "zero"], ["parts_of"]))


def divided_out_of_order(model: onnx.ModelProto) -> None:
    """Engines sort nodes; whoever goes through them in the file's order would take these for floats."""
    model.graph.node.insert(0, helper.make_node("Div", ["whole", "whole"], ["parts_of"]))
    model.graph.node.append(helper.make_node("Cast", ["next_ema"], ["whole"], to=TensorProto.INT64))


def many_paddings_by_one_large_constant(model: onnx.ModelProto) -> None:
    """A reader that multiplied its numbers for each node would take minutes."""
    model.graph.initializer.append(helper.make_tensor("pads", TensorProto.INT64, [60_000], [1] * 60_000))
    model.graph.node.extend(helper.make_node("Pad", ["ema", "pads"], [f"padded{i}"]) for i in range(20_000))


def more_than_its_bytes(model: onnx.ModelProto) -> None:
    tensor(model, "W").dims[0] = 2**40


def negative_sizes(model: onnx.ModelProto) -> None:
    tensor(model, "W").dims[:] = [-N, -N]


def data_given_twice(model: onnx.ModelProto) -> None:
    tensor(model, "fill").float_data.extend([0.0] * N)


def second_graph() -> bytes:
    """Engines merge it into the first and run both."""
    more = onnx.ModelProto()
    more.graph.node.append(helper.make_node("Add", ["x", "x"], ["y"]))
    data = GRAPH.SerializeToString() + more.SerializeToString()
    return embed(data, MANIFEST)


def second_manifest() -> bytes:
    """onnxruntime takes the last, the onnx package the first."""
    data = with_manifest(GRAPH.SerializeToString(), N, HOP)
    return append(data, b"{}")


def of_another_format() -> bytes:
    """An ONNX file by its first field, onnxruntime's own format by the mark that its next one spells."""
    return b"\x08\x0a\x12\x04ORTM" + with_manifest(GRAPH.SerializeToString(), N, HOP)[2:]


def no_stride(tree: schema.ModelT, graph: Any) -> None:
    code = schema.BuiltinOperator.CONV_2D
    tree.operatorCodes.append(schema.OperatorCodeT(code, None, 1, code))
    conv = schema.Conv2DOptionsT()
    conv.strideW = conv.strideH = 0
    chosen = schema.BuiltinOptions.Conv2DOptions
    graph.operators.append(schema.OperatorT(len(tree.operatorCodes) - 1, [0, 0], [], chosen, conv))


def over_a_constant(tree: schema.ModelT, graph: Any) -> None:
    graph.operators[-1].outputs = [next(i for i, t in enumerate(graph.tensors) if t.name == b"W")]


def too_few_inputs(tree: schema.ModelT, graph: Any) -> None:
    graph.operators[1].inputs = graph.operators[1].inputs[:1]


def whole_numbers_divided(tree: schema.ModelT, graph: Any) -> None:
    divided = next(o for o in graph.operators if tree.operatorCodes[o.opcodeIndex].builtinCode == 42)
    divided.inputs = [divided.inputs[0]] * 2
    for index in (*divided.inputs, *divided.outputs):
        graph.tensors[index].type = schema.TensorType.INT32


def too_many_scales(tree: schema.ModelT, graph: Any) -> None:
    graph.tensors[0].quantization = schema.QuantizationParametersT(None, None, [1.0] * 7, [0] * 7)


def an_operator_of_its_own(tree: schema.ModelT, graph: Any) -> None:
    tree.operatorCodes[0] = schema.OperatorCodeT(32, b"Flex", 1, 32)


def weights_elsewhere(tree: schema.ModelT, graph: Any) -> None:
    weights = next(t for t in graph.tensors if t.name == b"W")
    buffer = tree.buffers[weights.buffer]
    buffer.data, buffer.offset, buffer.size = None, 2**40, 36


def a_graph_that_is_called(tree: schema.ModelT, graph: Any) -> None:
    tree.operatorCodes[0] = schema.OperatorCodeT(119, None, 1, 119)  # WHILE


def a_signature_of_no_graph(tree: schema.ModelT, graph: Any) -> None:
    tree.signatureDefs[0].subgraphIndex = 1


def a_signature_of_no_tensor(tree: schema.ModelT, graph: Any) -> None:
    tree.signatureDefs[0].outputs[0].tensorIndex = len(graph.tensors)


def a_huge_tensor(tree: schema.ModelT, graph: Any) -> None:
    graph.tensors[-1].shape = [2**16, 2**16]


ATTACKS: dict[str, tuple[Callable[[], bytes], str]] = {
    "external data": (lambda: onnx_file(external), "external data"),
    "path traversal": (lambda: onnx_file(lambda m: external(m, "a/../../../etc/passwd")), "external data"),
    "external data in an attribute": (lambda: onnx_file(external_in_an_attribute), "external data"),
    "second graph": (second_graph, "gives 'graph' of its Model twice"),
    "second manifest": (second_manifest, "2 manifests"),
    "another format": (of_another_format, "neither an ONNX nor a TFLite"),
    "loop": (lambda: onnx_file(a_loop), "a graph inside a node"),
    "hidden loop": (lambda: onnx_file(a_hidden_loop), "a graph inside a node"),
    "function": (lambda: onnx_file(a_function), "functions of its own"),
    "training": (lambda: onnx_file(lambda m: m.training_info.add()), "a way to train it"),
    "sparse": (lambda: onnx_file(lambda m: m.graph.sparse_initializer.add()), "sparse tensors"),
    "custom domain": (lambda: onnx_file(lambda m: setattr(m.graph.node[0], "domain", "evil")), "evil.ReduceMean"),
    "unknown domain": (lambda: onnx_file(lambda m: m.opset_import.append(helper.make_opsetid("evil", 1))), "'evil'"),
    "unknown operator": (lambda: onnx_file(lambda m: setattr(m.graph.node[0], "op_type", "NonZero")), "NonZero"),
    "computed shape": (lambda: onnx_file(a_shape_that_is_computed), "TopK whose shape depends on 'k'"),
    "expansion": (lambda: onnx_file(an_expansion), "Expand to the size of 'size'"),
    "padding": (lambda: onnx_file(a_large_padding), "Conv with pads 1073741824"),
    "miscounted split": (lambda: onnx_file(a_split_that_miscounts), "Split into 2 with 3 outputs"),
    "computed divisor": (lambda: onnx_file(divided_by_what_is_computed), "a Div of whole numbers by what may be 0"),
    "divisor of zero": (lambda: onnx_file(divided_by_a_zero), "a Mod of whole numbers by what may be 0"),
    "divisor out of order": (lambda: onnx_file(divided_out_of_order), "a Div of 'whole' before that is computed"),
    "many paddings": (lambda: onnx_file(many_paddings_by_one_large_constant), "Pad to the size of 'pads'"),
    "many properties": (lambda: with_manifest(GRAPH.SerializeToString(), N, HOP) + b"\x72\0" * 10**6, "250000 parts"),
    "more than its bytes": (lambda: onnx_file(more_than_its_bytes), "has data of 9 numbers"),
    "negative sizes": (lambda: onnx_file(negative_sizes), "shape [-3, -3]"),
    "data given twice": (lambda: onnx_file(data_given_twice), "constant 'fill' of shape [3]"),
    "constant as input": (lambda: onnx_file(lambda m: setattr(tensor(m, "W"), "name", "valid")), "an input too"),
    "stride of zero": (lambda: tflite_file(no_stride), "window of 0"),
    "written constant": (lambda: tflite_file(over_a_constant), "written over"),
    "too few inputs": (lambda: tflite_file(too_few_inputs), "of 1 inputs"),
    "whole numbers divided": (lambda: tflite_file(whole_numbers_divided), "a DIV of whole numbers by what may be 0"),
    "too many scales": (lambda: tflite_file(too_many_scales), "7 scales"),
    "custom operator": (lambda: tflite_file(an_operator_of_its_own), "an operator of its own"),
    "weights elsewhere": (lambda: tflite_file(weights_elsewhere), "ends behind the file"),
    "called graph": (lambda: tflite_file(a_graph_that_is_called), "operator 119"),
    "signature of no graph": (lambda: tflite_file(a_signature_of_no_graph), "a signature of a graph"),
    "signature of no tensor": (lambda: tflite_file(a_signature_of_no_tensor), "a signature of a graph"),
    "huge tensor": (lambda: tflite_file(a_huge_tensor), "shape (65536, 65536)"),
}  # fmt: skip


@pytest.mark.parametrize("attack", ATTACKS)
def test_known_attacks_reach_no_engine(attack: str) -> None:
    make, says = ATTACKS[attack]
    with pytest.raises(ModelRefused) as refused:
        admit(make(), try_first=False)
    assert says in str(refused.value) and str(refused.value).isprintable()


# -- mutations ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def exported(tiny_exported: dict[str, Path], tiny_tflite: dict[str, Path]) -> dict[str, bytes]:
    """Real files of both formats, and small ones, by name."""
    files = {f"{kind}.onnx": path.read_bytes() for kind, path in tiny_exported.items()}
    files |= {f"{kind}.tflite": path.read_bytes() for kind, path in tiny_tflite.items()}
    return {
        **files,
        "step.onnx": with_manifest(GRAPH.SerializeToString(), N, HOP),
        "step.tflite": with_manifest(TFLITE, N, HOP),
    }


def survivors(found: Iterator[Mutant]) -> list[Mutant]:
    """Those whose bytes an engine would see; all others are refused in one line."""
    kept, kinds = [], set()
    for mutant in found:
        kinds.add(mutant.kind)
        try:
            admit(mutant.data, try_first=False)
        except ModelRefused as refused:
            assert str(refused).isprintable(), mutant.kind
        else:
            assert mutant.redigested, f"{mutant.name}: {mutant.kind} is not seen"
            kept.append(mutant)
    assert kinds == set(KINDS)
    return kept


TRY_ALL = """
import json, resource, sys
from edgekd.runtime import Detector
from edgekd.runtime.errors import EdgeKDError
from edgekd.runtime.engines import onnx, tflite
for kind in ("onnx", "tflite"):
    onnx.load_engine_package(kind)
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
resource.setrlimit(resource.RLIMIT_AS, (2**31, 2**31))  # they take 1.2 GB of it
for line in sys.stdin:
    print(json.dumps(["begin", line.strip()]), flush=True)
    try:
        Detector.load(line.strip())
        end = ["ran", ""]
    except EdgeKDError as error:
        end = [type(error).__name__, str(error)]
    except MemoryError as error:
        end = ["MemoryError", "no memory"]
    print(json.dumps(end), flush=True)
"""


def try_all(paths: list[Path]) -> dict[str, list[str]]:
    """What becomes of each file in an engine, several in one process; one that kills it is named so."""
    outcomes: dict[str, list[str]] = {}
    left = [str(path) for path in paths]
    while left:
        done = subprocess.run(
            [sys.executable, "-c", TRY_ALL], input="\n".join(left), cwd=ROOT, capture_output=True, text=True,
            timeout=300, check=False,
        )  # fmt: skip
        told = [json.loads(line) for line in done.stdout.splitlines()]
        for (_, name), end in zip(told[::2], told[1::2]):
            outcomes[name] = end
        if len(told) % 2:
            outcomes[told[-1][1]] = ["killed", f"exit {done.returncode}"]
        assert len(told) or not done.returncode, done.stderr
        left = [path for path in left if path not in outcomes]
    return outcomes


def test_mutated_files_are_refused_or_run_as_they_should(exported: dict[str, bytes], tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(bytes(64))
    files = []
    for mutant in survivors(mutants(exported, 360, str(tmp_path / "secret"), seed=3)):
        files.append(tmp_path / mutant.name)
        files[-1].write_bytes(mutant.data)
    outcomes = try_all(files)
    assert len(outcomes) == len(files) > 20
    for end, words in outcomes.values():
        assert end in ("ran", "ModelRefused", "GateFailed", "killed", "MemoryError"), words
        assert words.isprintable()
    write_csv(tmp_path / "x.csv", step_samples(N, 40))
    for name, (end, _) in outcomes.items():  # what would kill an engine kills no `edgekd-run`
        if end in ("killed", "MemoryError"):
            done = run("--model", name, "--csv", tmp_path / "x.csv")
            assert done.returncode in (2, 3) and len(done.stderr.splitlines()) == 1


# -- what the exporter writes ------------------------------------------------------------------------------------------


def students(everything: bool) -> Iterator[tuple[str, Any]]:
    """Step modules of all methods and presets, untrained and small, by name; the long form has every setting."""
    import torch

    from edgekd.data import Recording
    from edgekd.methods.anomalyllm import CONFIG as LLM
    from edgekd.methods.anomalyllm.distill import prepared as prepared_llm
    from edgekd.methods.interface import Training
    from edgekd.methods.linear import PRESETS as LINEAR
    from edgekd.methods.linear import train as train_linear
    from edgekd.methods.lta import PRESETS
    from edgekd.methods.lta.distill import prepared
    from edgekd.methods.patches import CONFIG as PATCHES
    from edgekd.methods.patches.learn import prepared as prepared_patches
    from edgekd.methods.regression.config import PRESETS as REGRESSION
    from edgekd.methods.regression.image import image_step
    from edgekd.methods.regression.networks import LADDER
    from edgekd.methods.regression.series_train import prepared as prepared_series

    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    values = np.cumsum(rng.normal(size=(900, 3)), axis=0) * 0.1 + rng.normal(size=(900, 3))
    series = Recording(values.astype(np.float32), ("a", "b", "c"), 60.0, source="noise")
    small = {"lengths": (4, 8, 16), "channels": 2}
    paper = {"lengths": (2, 4, 6), "hop": 2, "channels": 2}
    yield "edge rnn", prepared(series, replace(PRESETS["edge"], accumulator="rnn", **small))
    yield "image autoencoder", image_step(replace(REGRESSION["image"], student="autoencoder", rows=8), 12).eval()
    linear: dict[str, Any] = {"lengths": (4, 8, 16), "signature_components": 3, "sample_components": 2}
    yield "linear", train_linear(series, replace(LINEAR["ensemble"], **linear), Training()).step
    language = {"teacher_init": "small-from-scratch", "window": 16, "patch": 8, "student_width": 16, "pool": 4}
    yield "anomalyllm", prepared_llm(series, LLM.from_json(language)).eval()
    yield "patches", prepared_patches(series, PATCHES())[0].eval()
    if not everything:
        return
    for name, value in (
        ("backbone", "minilm"), ("proto_mode", "reference"), ("prototypes", False), ("head", "published"),
        ("head_norm", "layer"), ("features", 8), ("scaling", "minmax"),
    ):  # fmt: skip
        yield f"anomalyllm {name} {value}", prepared_llm(series, LLM.from_json({**language, name: value})).eval()
    for kind in ("none", "rnn", "lstm", "gru"):
        yield f"edge {kind}", prepared(series, replace(PRESETS["edge"], accumulator=kind, **small))
        yield f"paper {kind}", prepared(series, replace(PRESETS["paper"], accumulator=kind, **paper))
        settings = replace(REGRESSION["signature"], accumulator=kind, lengths=(4, 8, 16))
        yield f"signature {kind}", prepared_series(series, settings)
    for name, config in LINEAR.items():
        own = {"lengths": linear["lengths"]} if name == "innovations" else linear
        yield f"linear {name}", train_linear(series, replace(config, **own), Training()).step
    for rung in LADDER:
        yield f"image {rung}", image_step(replace(REGRESSION["image"], student=rung, rows=8), 12).eval()
        for given in ("signature", "window"):
            settings = replace(REGRESSION[given], student=rung, lengths=(4, 8, 16))
            yield f"{given} {rung}", prepared_series(series, settings)
    for name, value in (
        ("scaling", "zscore"), ("standardize", "global"), ("standardize", "none"), ("drop_constant", False),
        ("levels", 3), ("levels", 4), ("separable", False), ("output", "selu"), ("attention_steps", 5),
        ("attention_scale", 5.0), ("target", "next"), ("lts", "vector"), ("lts", "pseudo_window"), ("score", "top"),
        ("mahalanobis", False), ("recurrence", "windowed"),
    ):  # fmt: skip
        yield f"edge {name} {value}", prepared(series, replace(PRESETS["edge"], **{**small, name: value}))


def test_the_exporter_writes_nothing_that_is_refused(exported: dict[str, bytes]) -> None:
    """`exported` has int8 and TFLite; `export` itself reads what it has made before it hands it out."""
    from edgekd.export.formats import room

    for data in exported.values():
        admit(data, try_first=False)
    for name, step in students(everything=False):
        try:
            check_operators(room("onnx").float_model(step))
        except ModelRefused as refused:
            pytest.fail(f"{name}: {refused}")


@pytest.mark.slow
@pytest.mark.parametrize("format", ["onnx", "tflite"])
def test_no_student_of_any_kind_is_refused(format: str) -> None:
    from edgekd.export.formats import room

    if format == "tflite":
        pytest.importorskip("litert_torch")
    refused = []
    for name, step in students(everything=True):
        model = room(format).float_model(step)
        try:
            check_operators(model)
        except ModelRefused as error:
            refused.append(f"{name}: {error}")
    assert not refused


# -- names -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["\x1b]0;owned\x07", "a\u202eb", "a\nb", "a\x00", "\ud800", "\u2028", "\x9b2J"])
def test_a_name_that_steers_terminals_gets_into_no_manifest(name: str) -> None:
    text = json.loads(to_json(MANIFEST))
    text["sensors"][0]["name"] = name
    with pytest.raises(ModelRefused) as refused:
        admit(append(GRAPH.SerializeToString(), json.dumps(text).encode()), try_first=False)
    assert str(refused.value).isprintable()


def test_a_name_that_is_only_odd_stays_one_line_of_ascii_in_events(tmp_path: Path) -> None:
    odd = replace(MANIFEST.sensors[0], name='[red]"é,💥{x}\\n')
    spec = replace(
        step_manifest(N, HOP, threshold=0.0), sensors=(odd, *MANIFEST.sensors[1:]), self_test=MANIFEST.self_test
    )
    (tmp_path / "m.onnx").write_bytes(embed(GRAPH.SerializeToString(), spec))
    lines = [" ".join("" if v != v else str(v) for v in row) for row in step_samples(N, 60)]
    (tmp_path / "x.csv").write_text("\n".join(line.replace(" ", ",") for line in lines))
    done = run(
        "--model", tmp_path / "m.onnx", "--csv", tmp_path / "x.csv", env={**os.environ, "PYTHONIOENCODING": "ascii"}
    )
    assert done.returncode == 0 and done.stdout.isascii()
    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert any(odd.name in event.get("sensors", ()) for event in events)
