"""An exported file computes what was trained, tells nothing of the workstation, and appears only where both hold."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from click.testing import CliRunner

from edgekd.checkpoint import Checkpoint, package
from edgekd.cli import cli
from edgekd.data import Recording
from edgekd.export import export, exporter, parity
from edgekd.methods.lta import PRESETS
from edgekd.methods.lta.distill import prepared
from edgekd.runtime import Detector
from edgekd.runtime import manifest as manifests
from edgekd.runtime.engines import load_engine
from edgekd.runtime.errors import GateFailed
from edgekd.simulate import simulate

ROOT = Path(__file__).parent.parent


def plant(seed: int, samples: int = 900) -> Recording:
    """Two entities, the second one shorter, of the four sensors of `tiny_student`."""
    recording = simulate(samples=samples, sensors=4, seed=seed, faults=()).recording
    return replace(recording, starts=(0, samples * 3 // 5 + 3), entities=("a", "b"))


def untrained(**settings: object) -> Checkpoint:
    """A student that has not learned, which export cannot know, of two sensors."""
    torch.manual_seed(0)
    whole = plant(1)
    recording = replace(whole, values=np.ascontiguousarray(whole.values[:, :2]), sensors=whole.sensors[:2])
    config = replace(PRESETS["edge"], lengths=(4, 8, 16), channels=2, **settings)  # type: ignore[arg-type]
    step = prepared(recording, config)
    return package(step, recording, method="lta", role="student", preset="edge", seed=0, histories={})


def assert_the_file_scores_as_torch(file: Path, checkpoint: Checkpoint, recording: Recording) -> None:
    expected, detector, scores, samples = checkpoint.step().score(recording), Detector.load(file), [], []
    for start, end in recording.bounds:
        detector.reset()
        for verdict in detector.update_block(recording.values[start:end]):
            scores.append(verdict.score)
            samples.append(start + verdict.sample)
            assert verdict.contributions.sum() == pytest.approx(verdict.score, rel=1e-4)
    assert np.array_equal(samples, expected.samples)
    scale = np.maximum(np.abs(expected.scores), checkpoint.threshold["value"])
    assert (np.abs(np.array(scores) - expected.scores) / scale).max() <= 1e-4


def test_gru_student_in_the_engine(tiny_student: Path, tiny_exported: dict[str, Path]) -> None:
    assert_the_file_scores_as_torch(tiny_exported["float32"], Checkpoint.load(tiny_student), plant(7))
    assert Detector.load(tiny_exported["float32"]).manifest.parity["steps"] == 1000


@pytest.mark.parametrize(
    "settings",
    [
        {"accumulator": "rnn", "recurrence": "windowed", "score": "top", "mahalanobis": False, "separable": False},
        {"accumulator": "lstm", "target": "next"},
    ],
    ids=["rnn", "lstm"],
)
def test_other_accumulators_in_the_engine(tmp_path: Path, settings: dict[str, object]) -> None:
    checkpoint = untrained(**settings)
    done = export(checkpoint, tmp_path / "student.onnx", steps=60)
    recording = plant(7, 400)
    two = replace(recording, values=np.ascontiguousarray(recording.values[:, :2]), sensors=recording.sensors[:2])
    assert_the_file_scores_as_torch(done.path, checkpoint, two)
    assert_every_state_matters(done.path)


def assert_every_state_matters(file: Path) -> None:
    """The score, or a later one, depends on each state input."""
    manifest, model = manifests.read(file)
    engine = load_engine(model, manifest)
    rng = np.random.default_rng(0)
    feeds = {spec.name: rng.random(spec.shape, np.float32) - 0.5 for spec in manifest.state}
    feeds["valid"] = np.ones(len(manifest.sensors), np.float32)
    middle = np.array([(sensor.low + sensor.high) / 2 for sensor in manifest.sensors], np.float32)
    feeds["samples"] = np.tile(middle, (manifest.hop, 1))

    def scores(start: dict[str, np.ndarray]) -> list[float]:
        now, found = dict(start), []
        for _ in range(3):
            score, _, *state = engine.run(now)
            now.update((spec.name, value) for spec, value in zip(manifest.state, state))
            found.append(float(score))
        return found

    before = scores(feeds)
    for spec in manifest.state:
        assert scores({**feeds, spec.name: feeds[spec.name] + 0.5}) != before, spec.name


def test_every_state_matters(tiny_exported: dict[str, Path]) -> None:
    for file in tiny_exported.values():
        assert_every_state_matters(file)


def test_nothing_of_the_workstation_is_in_the_file(tiny_exported: dict[str, Path]) -> None:
    secrets = [str(ROOT), f"{Path.home()}/", "site-packages", "stack_trace", "nn_module", "Traceback", "self.", ".py:"]
    for file in tiny_exported.values():
        content, model = file.read_bytes(), onnx.load(file)
        assert not [secret for secret in secrets if secret.encode() in content]
        assert [prop.key for prop in model.metadata_props] == ["edgekd"]
        graph = model.graph
        for item in (model, graph, *graph.node, *graph.initializer, *graph.input, *graph.output):
            assert not item.doc_string
            assert item is model or not item.metadata_props


def test_int8_loads_and_passes_its_self_test(tiny_student: Path, tiny_exported: dict[str, Path]) -> None:
    detector = Detector.load(tiny_exported["int8"])  # replays the self-test
    assert detector.manifest.quantization.scheme.startswith("int8")
    recording, checkpoint = plant(7), Checkpoint.load(tiny_student)
    expected = checkpoint.step().score(recording.slice(0, recording.starts[1]))
    found = [verdict.score for verdict in detector.update_block(recording.values[: recording.starts[1]])]
    assert np.corrcoef(found, expected.scores)[0, 1] > 0.99


def test_int8_spares_the_residual_and_what_remembers(tiny_exported: dict[str, Path]) -> None:
    graph = onnx.load(tiny_exported["int8"]).graph
    made_by = {output: node for node in graph.node for output in node.output}
    weights = {
        name: onnx.numpy_helper.to_array(tensor).dtype
        for tensor in graph.initializer
        for name in [tensor.name]
        if name.startswith("network.") and "weight" in name and "scale" not in name and "zero_point" not in name
    }
    floats = {name for name, dtype in weights.items() if dtype == np.float32}
    assert floats == {"network.decoder.0.conv.weight"}
    assert len(weights) > 4
    for node in graph.node:
        if node.op_type in ("GRU", "MatMul", "Sub"):
            assert not any(name in made_by and made_by[name].op_type == "QuantizeLinear" for name in node.input)


# -- the gate --------------------------------------------------------------------------------------------------------


@pytest.fixture
def quick_gate(tiny_exported: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """Exports of `tiny_student` without the minutes: its graph is there already, and the replay is short."""
    _, model = manifests.read(tiny_exported["float32"])
    monkeypatch.setattr(exporter, "float_graph", lambda step: onnx.load_from_string(model))
    monkeypatch.setattr(exporter, "prove", lambda *given: parity.prove(*given[:4], steps=60))


@pytest.mark.usefixtures("quick_gate")
@pytest.mark.parametrize("int8", [False, True])
def test_failing_parity_leaves_no_file_and_an_older_one_untouched(
    int8: bool, tiny_student: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint, file = Checkpoint.load(tiny_student), tmp_path / "student.onnx"
    monkeypatch.setattr(parity, "FLOAT_TOLERANCE", -1.0)
    monkeypatch.setattr(parity, "MIN_RANK_CORRELATION", 1.1)
    with pytest.raises(GateFailed, match="parity"):
        export(checkpoint, file, int8=int8)
    assert list(tmp_path.iterdir()) == []
    file.write_bytes(b"an older file")
    with pytest.raises(GateFailed, match="--force"):
        export(checkpoint, file, int8=int8)
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"an older file"]
    export(checkpoint, file, int8=int8, force=True)
    assert list(tmp_path.iterdir()) == [file]
    assert Detector.load(file).manifest.parity["steps"] == 60


@pytest.mark.usefixtures("quick_gate")
def test_a_full_disk_leaves_the_older_file(tiny_student: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "student.onnx"
    file.write_bytes(b"an older file")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(GateFailed, match="No space left"):
        export(Checkpoint.load(tiny_student), file)
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"an older file"]


def proved(tiny_student: Path, file: Path, spoil: Callable[[onnx.ModelProto], None]) -> parity.Parity:
    """Parity of the exported file after its graph was spoiled."""
    manifest, model = manifests.read(file)
    graph = onnx.load_from_string(model)
    spoil(graph)
    engine = load_engine(manifests.embed(graph.SerializeToString(), manifest), manifest)
    checkpoint = Checkpoint.load(tiny_student)
    return parity.prove(checkpoint.step(), engine, manifest, checkpoint.replay(), steps=60)


def renamed(model: onnx.ModelProto, names: dict[str, str]) -> None:
    for node in model.graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]


def test_a_graph_that_mixes_its_states_up_is_found(tiny_student: Path, tiny_exported: dict[str, Path]) -> None:
    file = tiny_exported["float32"]
    with pytest.raises(GateFailed, match="'c1' has no effect"):
        proved(tiny_student, file, lambda model: renamed(model, {"c1": "h1"}))
    swapped = proved(tiny_student, file, lambda model: renamed(model, {"h2": "c2", "c2": "h2"}))
    with pytest.raises(GateFailed, match="differ from torch"):
        swapped.check(int8=False)


def test_a_wrong_weight_is_found(tiny_student: Path, tiny_exported: dict[str, Path]) -> None:
    def spoil(model: onnx.ModelProto) -> None:
        tensor = next(t for t in model.graph.initializer if t.name == "network.encoder.0.conv.bias")
        tensor.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(tensor) + 0.05, tensor.name))

    with pytest.raises(GateFailed, match="differ from torch"):
        proved(tiny_student, tiny_exported["float32"], spoil).check(int8=False)


def test_figures_that_are_no_numbers_do_not_hold() -> None:
    nothing = parity.Parity(1000, float("nan"), float("nan"), float("nan"), 0.0, 1e-4)
    for int8 in (False, True):
        with pytest.raises(GateFailed):
            nothing.check(int8)
    with pytest.raises(GateFailed):
        replace(nothing, max_score_error=0.0, random_state_error=float("nan")).check(int8=False)


def test_the_replay_stretch_is_looped_with_its_resets(tiny_student: Path) -> None:
    checkpoint = Checkpoint.load(tiny_student)
    step, replay = checkpoint.step(), checkpoint.replay().slice(0, 95)  # nine hops of ten and a rest
    once = list(parity._hops(step, replay, 20))
    assert [reset for _, _, reset in once] == [k == 0 for k in range(20)]  # one entity: its state goes on
    assert [seen for _, seen, _ in once] == [10 * (k + 1) for k in range(20)]
    two = replace(replay, starts=(0, 42), entities=("a", "b"))  # four hops and five
    hops = list(parity._hops(step, two, 20))
    assert [k for k, (_, _, reset) in enumerate(hops) if reset] == [0, 4, 9, 13, 18]
    assert [seen for _, seen, _ in hops[9:13]] == [10, 20, 30, 40]
    with pytest.raises(GateFailed, match="shorter than one hop"):
        next(parity._hops(step, replay.slice(0, 9), 20))


# -- the command -----------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("quick_gate")
def test_the_command_needs_no_other_argument(
    tiny_student: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy(tiny_student, tmp_path / "student.pt")
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(cli, ["export", "student.pt", "--int8"])
    assert result.exit_code == 0, result.output
    assert sorted(path.name for path in tmp_path.iterdir()) == ["student.onnx", "student.pt"]
    assert "60 closed-loop steps" in result.stdout
    assert Detector.load("student.onnx").manifest.quantization.scheme.startswith("int8")


def test_the_command_does_not_write_over_a_student(tiny_student: Path, tmp_path: Path) -> None:
    student = Path(shutil.copy(tiny_student, tmp_path / "student.pt"))
    before = student.read_bytes()
    result = CliRunner().invoke(cli, ["export", str(student), "-o", str(student)])
    assert "student.onnx" in str(result.exception)
    assert student.read_bytes() == before
