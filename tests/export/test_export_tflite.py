"""A TFLite file computes what was trained, in float and int8, and int8 touches the convolutions alone."""

from __future__ import annotations

import itertools
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from edgekd.checkpoint import Checkpoint, package
from edgekd.data import Recording
from edgekd.export import describe, tflite
from edgekd.export.embed import embed
from edgekd.export.parity import Parity, Reference, prove
from edgekd.export.tflite.flatbuffer import unpacked
from edgekd.export.tflite.rewrites import CroppedTranspose, ReplacedFunctions, StepByName, Unrolled
from edgekd.methods.lta import PRESETS
from edgekd.methods.lta.distill import prepared
from edgekd.methods.regression.config import PRESETS as REGRESSION
from edgekd.methods.regression.series_train import prepared as prepared_series
from edgekd.runtime.engines import Engine, load_engine
from edgekd.runtime.errors import MissingExtra, UsageError
from edgekd.runtime.guard import admit

KINDS = ("carried", "windowed", "energies")
SIZES = list(itertools.product((2, 3, 4), (2, 3), (0, 1), (0, 1)))  # kernel, stride, padding, output padding


@pytest.fixture(scope="module")
def recording() -> Recording:
    rng = np.random.default_rng(0)
    values = np.cumsum(rng.normal(size=(600, 3)), axis=0) * 0.1 + rng.normal(size=(600, 3))
    return Recording(values.astype(np.float32), ("a", "b", "c"), 60.0, source="noise")


@pytest.fixture(scope="module")
def windowed(recording: Recording) -> Checkpoint:
    """The published form with all that `edge` has not: window, attention, SELU at the end, top residuals, an LSTM;
    and what neither has: judged sensors, a memory and a bypass."""
    torch.manual_seed(0)
    config = replace(PRESETS["paper"], lengths=(2, 4, 6), hop=2, channels=2, accumulator="lstm")
    config = replace(config, judged=("a", "c"), memory=3, bypass=2)
    step = prepared(recording, config)
    for weights in step.network.decoder[0].parameters():  # a bypass starts them at zero
        torch.nn.init.normal_(weights, std=0.1)
    return package(step, recording, method="lta", role="student", preset="paper", seed=0, histories={})


@pytest.fixture(scope="module")
def energies(recording: Recording) -> Checkpoint:
    """A student of score regression."""
    torch.manual_seed(0)
    step = prepared_series(recording, replace(REGRESSION["signature"], lengths=(2, 4, 6), hop=2, accumulator="gru"))
    return package(step, recording, method="regression", role="student", preset="signature", seed=0, histories={})


@pytest.fixture(scope="module")
def models(
    tiny_tflite: dict[str, Path], tiny_student: Path, windowed: Checkpoint, energies: Checkpoint
) -> dict[str, tuple[Checkpoint, bytes]]:
    """Float models, converted once: a carried student of preset `edge`, a windowed one, one of score regression."""
    carried = Checkpoint.load(tiny_student)
    return {
        "carried": (carried, admit(tiny_tflite["float32"], try_first=False)[1]),
        "windowed": (windowed, tflite.float_model(windowed.step())),
        "energies": (energies, tflite.float_model(energies.step())),
    }


def engine_of(checkpoint: Checkpoint, model: bytes) -> Engine:
    manifest = describe.described(checkpoint, checkpoint.step())
    return load_engine(embed(model, manifest), manifest)


def parity_of(checkpoint: Checkpoint, model: bytes, int8: bool = False) -> Parity:
    step = checkpoint.step()
    reference = Reference(step, checkpoint.replay(), checkpoint.threshold["value"], steps=100)
    return prove(reference, engine_of(checkpoint, model), int8)


# -- the rewrites, in torch ------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_transposed_convolution_without_padding(size: tuple[int, int, int, int]) -> None:
    kernel, stride, padding, output_padding = size
    conv = nn.ConvTranspose2d(3, 2, kernel, stride, padding, output_padding)
    x = torch.randn(2, 3, 5, 4)
    torch.testing.assert_close(CroppedTranspose(conv)(x), conv(x))


@pytest.mark.parametrize("cell", [nn.RNN, nn.LSTM, nn.GRU])
@pytest.mark.parametrize(("inputs", "size", "batch"), [(1, 10, 4), (3, 3, 1)])
def test_recurrence_written_out(cell: type[nn.RNNBase], inputs: int, size: int, batch: int) -> None:
    recurrent = cell(inputs, size, batch_first=True)
    h, c, x = torch.randn(1, batch, size), torch.randn(1, batch, size), torch.randn(batch, 6, inputs)
    initial = (h, c) if cell is nn.LSTM else h
    torch.testing.assert_close(Unrolled(recurrent)(x, initial), recurrent(x, initial))


def test_replaced_functions() -> None:
    x = torch.tensor([-1e30, -3.0, -1e-3, 0.0, 1e-3, 3.0, torch.inf, -torch.inf, torch.nan, torch.finfo().max])

    def computed() -> tuple[Tensor, ...]:
        return torch.isfinite(x), torch.selu(x[:6]), nn.functional.selu(x[:6]), x[:6] * 0.0, x[:6] * 2.0

    plain = computed()
    with ReplacedFunctions():
        replaced = computed()
    torch.testing.assert_close(replaced, plain)


def test_rewritten_step_leaves_the_step_alone(windowed: Checkpoint) -> None:
    step = windowed.step()
    before = {name: tensor.clone() for name, tensor in step.state_dict().items()}
    state = {name: torch.rand(shape) for name, shape in step.state_shapes().items()}
    samples, valid = torch.randn(step.hop, 3), torch.tensor([1.0, 0.0, 1.0])
    with torch.inference_mode():
        found, meant = StepByName(step)(samples, valid, **state), step(samples, valid, *state.values())
    assert list(found) == ["score", "contributions", *(f"next_{name}" for name in state)]
    torch.testing.assert_close(tuple(found.values()), meant)
    assert step.state_dict().keys() == before.keys()


# -- the files -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_float_file_in_closed_loop(models: dict[str, tuple[Checkpoint, bytes]], kind: str) -> None:
    parity = parity_of(*models[kind])
    assert max(parity.max_score_error, parity.random_state_error) <= 1e-5
    assert parity.changed_decisions == 0


@pytest.mark.parametrize("kind", KINDS)
def test_sensors_that_are_missing_or_not_finite(models: dict[str, tuple[Checkpoint, bytes]], kind: str) -> None:
    checkpoint, model = models[kind]
    step, engine = checkpoint.step(), engine_of(checkpoint, model)
    samples = np.array(checkpoint.replay().values[: step.hop])
    samples[0, 0], samples[1, 1], samples[-1, -1] = np.nan, np.inf, -np.inf
    for valid in (np.ones(step.n_sensors, np.float32), np.eye(step.n_sensors, dtype=np.float32)[0]):
        state = [tensor + 0.1 for tensor in step.initial_state()]
        with torch.inference_mode():
            meant = step(torch.from_numpy(samples), torch.from_numpy(valid), *state)
        feeds = {name: tensor.numpy() for name, tensor in zip(step.state_shapes(), state)}
        found = engine.run({"samples": samples, "valid": valid, **feeds})
        for one, other in zip(found, meant):
            assert np.isfinite(one).all()
            np.testing.assert_allclose(one, other.numpy(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_superfluous_is_in_the_file(models: dict[str, tuple[Checkpoint, bytes]], kind: str) -> None:
    checkpoint, model = models[kind]
    for secret in (b"edgekd.", b"site-packages", b".py", b"Named", b"MLIR"):
        assert secret not in model.replace(b'"edgekd":', b"")
    tree = unpacked(tflite.schemes()["dynamic"].quantize(model, checkpoint.step(), checkpoint.replay()))
    contents = [bytes(buffer.data) for buffer in tree.buffers if buffer.data is not None]
    assert len(contents) == len(set(contents)) >= len(tree.buffers) - 1
    # the zero state from which a window starts is computed: as a constant it would be as large as the maps
    assert not [content for content in contents if len(content) > 64 and not any(content)]


def test_constants_are_aligned(models: dict[str, tuple[Checkpoint, bytes]]) -> None:
    _, model = models["windowed"]
    start = np.frombuffer(model, np.uint8).__array_interface__["data"][0]
    data = [buffer.data for buffer in unpacked(model).buffers if buffer.data is not None]
    assert len(data) > 20
    assert all((constant.__array_interface__["data"][0] - start) % 16 == 0 for constant in data)


# -- int8 ------------------------------------------------------------------------------------------------------


def convolutions_by_weights(model: bytes) -> Counter[tuple[str, str]]:
    """Plain and transposed convolutions: operator, and whether its weights are "int8", int8 made "float" again, or
    "untouched"."""
    from ai_edge_litert.schema_py_generated import BuiltinOperator, TensorType

    tree = unpacked(model)
    (graph,) = tree.subgraphs
    codes = [tree.operatorCodes[operator.opcodeIndex].builtinCode for operator in graph.operators]
    restored = {
        operator.outputs[0]: graph.tensors[operator.inputs[0]]
        for operator, code in zip(graph.operators, codes)
        if code == BuiltinOperator.DEQUANTIZE
    }
    found: Counter[tuple[str, str]] = Counter()
    for operator, code in zip(graph.operators, codes):
        for name in ("CONV_2D", "TRANSPOSE_CONV"):
            if code == getattr(BuiltinOperator, name):
                weights = int(operator.inputs[1])
                int8 = graph.tensors[weights].type == TensorType.INT8
                found[name, "int8" if int8 else "float" if weights in restored else "untouched"] += 1
    return found


# Operators: two of the encoder, two gates of a carried student; of a windowed one, five steps of its two gates, input
# and hidden map apart, the hidden map of the first one zero. The last decoder layer is never touched.
LAST = {("CONV_2D", "untouched"): 1}
EXPECTED = {
    ("carried", "dynamic"): {("CONV_2D", "int8"): 1, ("CONV_2D", "float"): 3, ("TRANSPOSE_CONV", "float"): 1},
    ("carried", "static"): {("CONV_2D", "int8"): 4, ("TRANSPOSE_CONV", "int8"): 1},
    ("windowed", "dynamic"): {("CONV_2D", "int8"): 9, ("CONV_2D", "float"): 11, ("TRANSPOSE_CONV", "float"): 1},
    ("windowed", "dynamic-full"): {("CONV_2D", "int8"): 20, ("TRANSPOSE_CONV", "int8"): 1},
}


@pytest.mark.parametrize("target", ["litert", "tflite-runtime"])
@pytest.mark.parametrize(("kind", "scheme"), EXPECTED)
def test_int8_of_the_convolutions_alone(
    models: dict[str, tuple[Checkpoint, bytes]], kind: str, scheme: str, target: str
) -> None:
    checkpoint, model = models[kind]
    int8 = tflite.schemes(target)[scheme].quantize(model, checkpoint.step(), checkpoint.replay())
    expected = Counter(EXPECTED[kind, scheme]) + Counter(LAST)
    if target == "tflite-runtime" and expected.pop(("TRANSPOSE_CONV", "int8"), 0):
        expected["TRANSPOSE_CONV", "float"] = 1  # it refuses the one of int8
    assert convolutions_by_weights(int8) == expected
    assert parity_of(checkpoint, int8, int8=True).rank_correlation >= 0.99


def test_layers_that_stay_float(models: dict[str, tuple[Checkpoint, bytes]]) -> None:
    checkpoint, model = models["carried"]
    step = checkpoint.step()
    step.float_weights = ("",)  # every layer: then there is nothing to quantize, and the model comes back as it is
    assert tflite.schemes()["dynamic"].quantize(model, step, checkpoint.replay()) == model


def test_what_cannot_be_made(monkeypatch: pytest.MonkeyPatch, windowed: Checkpoint) -> None:
    shared = ["dynamic", "static", "dynamic-full"]
    assert (list(tflite.schemes()), list(tflite.schemes("tflite-runtime"))) == ([*shared, "weights"], shared)
    with pytest.raises(UsageError, match="litert, tflite-runtime, tflm"):
        tflite.schemes("microcontroller")
    monkeypatch.setattr("edgekd.export.tflite.convert.find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match=r"edgekd\[tflite-export\]"):
        tflite.float_model(windowed.step())
