"""An exported file computes what was trained, tells nothing of the workstation, and appears only where both hold."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import numpy as np
import onnx
import pytest
import torch
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st

from edgekd.checkpoint import Checkpoint, package
from edgekd.cli import cli
from edgekd.data import Recording, save
from edgekd.export import candidate, describe, export, gate, parity, threshold
from edgekd.export import onnx as room
from edgekd.export.formats import ROOMS
from edgekd.export.formats import room as export_room
from edgekd.export.scheme import Scheme
from edgekd.methods.lta import PRESETS
from edgekd.methods.lta.distill import prepared
from edgekd.methods.regression.config import PRESETS as REGRESSION
from edgekd.methods.regression.series_train import prepared as prepared_series
from edgekd.runtime import Detector
from edgekd.runtime import manifest as manifests
from edgekd.runtime.engines import load_engine
from edgekd.runtime.errors import GateFailed, ModelRefused, UsageError
from edgekd.simulate import simulate
from edgekd.step import StepModule

ROOT = Path(__file__).parent.parent


def plant(seed: int, samples: int = 900) -> Recording:
    """Two entities, the second one shorter, of the four sensors of `tiny_student`."""
    recording = simulate(samples=samples, sensors=4, seed=seed, faults=()).recording
    return replace(recording, starts=(0, samples * 3 // 5 + 3), entities=("a", "b"))


def untrained(method: str = "lta", **settings: Any) -> Checkpoint:
    """A student that has not learned, which export cannot know, of two sensors."""
    torch.manual_seed(0)
    whole = plant(1)
    recording = replace(whole, values=np.ascontiguousarray(whole.values[:, :2]), sensors=whole.sensors[:2])
    step: StepModule
    if method == "lta":
        step = prepared(recording, replace(PRESETS["edge"], lengths=(4, 8, 16), channels=2, **settings))
    else:
        step = prepared_series(recording, replace(REGRESSION["signature"], lengths=(4, 8, 16), **settings))
    return package(step, recording, method=method, role="student", preset="edge", seed=0, histories={})


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
        {"method": "regression", "accumulator": "gru"},
        {"method": "regression", "input": "window", "student": "our-S2"},
    ],
    ids=["rnn", "lstm", "energies", "convolutions"],
)
def test_other_students_in_the_engine(tmp_path: Path, settings: dict[str, Any]) -> None:
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


@pytest.fixture(scope="module")
def reference(tiny_student: Path) -> parity.Reference:
    """A short replay of `tiny_student` in torch."""
    checkpoint = Checkpoint.load(tiny_student)
    return parity.Reference(checkpoint.step(), checkpoint.replay(), checkpoint.threshold["value"], steps=80)


@pytest.fixture
def quick_gate(tiny_exported: dict[str, Path], reference: parity.Reference, monkeypatch: pytest.MonkeyPatch) -> None:
    """Exports of `tiny_student` without the minutes: its graph is there already, the replay is short, int8 is made up.

    "exact" computes what float does, "coarse" what a student with rounded weights would, "wrong" and "unmade" nothing.
    """
    model = bare(tiny_exported["float32"])
    monkeypatch.setattr(room, "float_model", lambda step, target: model)
    monkeypatch.setattr(candidate, "Reference", lambda *given: reference)
    monkeypatch.setattr(candidate, "TIMED_S", 0.05)
    made_up = {
        "coarse": rounded(0.3),
        "wrong": rounded(0.3, "mahalanobis."),
        "unmade": unmade,
        "exact": rounded(0.0),
    }
    schemes = {name: Scheme(name, f"int8 {name}", quantize) for name, quantize in made_up.items()}
    monkeypatch.setattr(room, "schemes", lambda target: schemes)


def bare(file: Path) -> bytes:
    """The graph of an exported file without its manifest."""
    graph = onnx.load(file)
    del graph.metadata_props[:]
    return graph.SerializeToString()


def rounded(to: float, part: str = "network.") -> Callable[..., bytes]:
    """A scheme that rounds the weights in a part of the float model to multiples of `to` of the largest."""

    def quantize(model: bytes, *_: object) -> bytes:
        graph = onnx.load_from_string(model)
        graph.doc_string = "int8"
        for tensor in graph.graph.initializer:
            if to and tensor.name.startswith(part) and tensor.name.endswith(("weight", "whiten")):
                weight = onnx.numpy_helper.to_array(tensor)
                step = np.float32(to * np.abs(weight).max())
                tensor.CopyFrom(onnx.numpy_helper.from_array(np.round(weight / step) * step, tensor.name))
        return graph.SerializeToString()

    return quantize


def unmade(*_: object) -> bytes:
    raise RuntimeError("no kernel for Foo\nsecond line")


@pytest.mark.usefixtures("quick_gate")
@pytest.mark.parametrize("int8", [None, "wrong"])
def test_failing_parity_leaves_no_file_and_an_older_one_untouched(
    int8: str | None, tiny_student: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint, file = Checkpoint.load(tiny_student), tmp_path / "student.onnx"
    if int8 is None:
        monkeypatch.setattr(parity, "FLOAT_TOLERANCE", -1.0)
    with pytest.raises(GateFailed, match="parity"):
        export(checkpoint, file, int8=int8)
    assert list(tmp_path.iterdir()) == []
    file.write_bytes(b"an older file")
    with pytest.raises(GateFailed, match="--force"):
        export(checkpoint, file, int8=int8)
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"an older file"]
    export(checkpoint, file, int8=int8, force=True)
    assert list(tmp_path.iterdir()) == [file]
    assert Detector.load(file).manifest.parity["steps"] == 80


@pytest.mark.usefixtures("quick_gate")
def test_a_scheme_that_does_not_hold_names_one_that_does(
    tiny_student: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint, file = Checkpoint.load(tiny_student), tmp_path / "student.onnx"
    with pytest.raises(GateFailed, match=r"'wrong'.*correlate.*use --int8 coarse"):
        export(checkpoint, file, int8="wrong")
    with pytest.raises(GateFailed, match=r"no kernel for Foo\).*use --int8 coarse"):
        export(checkpoint, file, int8="unmade")
    with pytest.raises(UsageError, match="give one of auto, coarse, wrong"):
        export(checkpoint, file, int8="percentile")
    monkeypatch.setattr(gate, "MIN_RANK_CORRELATION", 1.1)
    with pytest.raises(GateFailed, match="no other scheme holds: export without --int8"):
        export(checkpoint, file, int8="exact")
    with pytest.raises(GateFailed, match=r"no int8 scheme holds \(coarse: .*unmade: .*\); export without --int8"):
        export(checkpoint, file, int8="auto")
    assert not file.exists()


@pytest.mark.usefixtures("quick_gate")
def test_auto_takes_the_best_of_what_holds(tiny_student: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint, said = Checkpoint.load(tiny_student), []
    speeds = iter([1.0, 0.50, 0.1, 0.52])  # float, coarse, wrong, exact
    monkeypatch.setattr(candidate, "step_times", lambda *given: (100.0, next(speeds)))
    done = export(checkpoint, tmp_path / "student.onnx", int8="auto", say=said.append)
    assert done.written.scheme == "exact"  # as fast and as large as "coarse", and closer to torch
    assert [line.split(":")[0] for line in said] == ["coarse", "wrong", "unmade", "exact"]
    assert "refused" in said[1] and "holds" in said[3]
    speeds = iter([1.0, 0.50, 0.1, 0.60])
    assert export(checkpoint, done.path, int8="auto").written.scheme == "coarse"
    assert Detector.load(done.path).manifest.quantization.scheme == "int8 coarse"


@pytest.mark.usefixtures("quick_gate")
def test_with_labels_what_is_detected_must_not_change(
    tiny_student: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    labeled = simulate(samples=900, sensors=4, seed=2, faults=("level-shift",)).recording
    checkpoint, file = Checkpoint.load(tiny_student), tmp_path / "student.onnx"
    done = export(checkpoint, file, int8="exact", labeled=labeled)
    assert done.written.detection is not None and done.float.detection is not None
    assert done.written.detection.vus_pr == done.float.detection.vus_pr
    assert done.written.detection.changed_decisions == 0.0 and done.float.detection.vus_pr_random is not None
    assert Detector.load(file).manifest.metrics["detection"]["vus_pr"] == done.written.detection.vus_pr
    monkeypatch.setattr(gate, "MAX_VUS_PR_CHANGE", -1.0)
    with pytest.raises(GateFailed, match=r"VUS-PR changes by [+-]0\.\d+.*no other scheme holds"):
        export(checkpoint, tmp_path / "other.onnx", int8="exact", labeled=labeled)


# -- the threshold of an int8 file -----------------------------------------------------------------------------------

SEEDS = st.integers(0, 2**32 - 1)
QUANTILES = st.sampled_from([0.5, 0.95, 1.5])  # of the scores; 1.5: that of the largest


def normal_scores(seed: int, quantile: float) -> tuple[np.ndarray, float]:
    """Scores as normal data give them, many low and few high, and a threshold."""
    rng = np.random.default_rng(seed)
    scores = rng.lognormal(sigma=2.0, size=rng.integers(60, 2000))
    return scores, float(np.quantile(scores, quantile) if quantile <= 1 else quantile * scores.max())


@given(SEEDS, QUANTILES, st.floats(0.2, 5.0))
def test_a_threshold_follows_the_scores(seed: int, quantile: float, by: float) -> None:
    expected, value = normal_scores(seed, quantile)
    assert threshold.same_meaning(expected, expected, value) == value
    assert threshold.same_meaning(expected, by * expected, value) == pytest.approx(by * value)
    below, level = np.log(expected) - 50.0, np.log(value) - 50.0  # no ratio
    assert threshold.same_meaning(below, below + by, level) == pytest.approx(level + by)


@given(SEEDS, QUANTILES, st.floats(0.0, 1e6))
def test_no_few_steps_decide_a_threshold(seed: int, quantile: float, wild: float) -> None:
    """What happens far from it does nothing, and of the steps that are near a third may go astray."""
    expected, value = normal_scores(seed, quantile)
    found, near = 1.1 * expected, threshold.nearest(expected, value)
    found[np.setdiff1d(np.arange(len(expected)), near)] += wild
    found[near[::3]] = wild
    assert threshold.same_meaning(expected, found, value) == pytest.approx(1.1 * value)


def test_a_threshold_stays_where_there_is_nothing_to_go_by() -> None:
    nothing, ones = np.zeros(0), np.ones(50)
    assert threshold.same_meaning(nothing, nothing, 2.0) == 2.0
    assert threshold.same_meaning(ones, 0 * ones, 2.0) == 2.0
    assert threshold.same_meaning(ones, np.full(50, np.nan), 2.0) == 2.0


def test_the_file_carries_its_own_threshold(tiny_student: Path, tiny_exported: dict[str, Path]) -> None:
    float32, int8 = (manifests.read(tiny_exported[kind])[0] for kind in ("float32", "int8"))
    in_torch = Checkpoint.load(tiny_student).threshold
    assert (float32.threshold.value, float32.threshold.rule) == (in_torch["value"], in_torch["rule"])
    assert int8.threshold.value == int8.parity["threshold"] != in_torch["value"]
    assert int8.threshold.value == pytest.approx(in_torch["value"], rel=0.1)
    assert int8.threshold.rule.startswith(in_torch["rule"]) and f"{in_torch['value']:.6g}" in int8.threshold.rule


# -- what the proof finds --------------------------------------------------------------------------------------------


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


def proved(reference: parity.Reference, file: Path, spoil: Callable[[onnx.ModelProto], None]) -> parity.Parity:
    """Parity of the exported file after its graph was spoiled."""
    manifest, model = manifests.read(file)
    graph = onnx.load_from_string(model)
    spoil(graph)
    engine = load_engine(manifests.embed(graph.SerializeToString(), manifest), manifest)
    return parity.prove(reference, engine)


def renamed(model: onnx.ModelProto, names: dict[str, str]) -> None:
    for node in model.graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]


def test_a_graph_that_mixes_its_states_up_is_found(reference: parity.Reference, tiny_exported: dict[str, Path]) -> None:
    file = tiny_exported["float32"]
    with pytest.raises(GateFailed, match="'c1' has no effect"):
        proved(reference, file, lambda model: renamed(model, {"c1": "h1"}))
    swapped = proved(reference, file, lambda model: renamed(model, {"h2": "c2", "c2": "h2"}))
    assert "differ from torch" in gate.float_misses(swapped)


def test_a_wrong_weight_is_found(reference: parity.Reference, tiny_exported: dict[str, Path]) -> None:
    def spoil(model: onnx.ModelProto) -> None:
        tensor = next(t for t in model.graph.initializer if t.name == "network.encoder.0.conv.bias")
        tensor.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(tensor) + 0.05, tensor.name))

    assert "differ from torch" in gate.float_misses(proved(reference, tiny_exported["float32"], spoil))


def test_figures_that_are_no_numbers_do_not_hold() -> None:
    nothing = parity.Parity(1000, float("nan"), float("nan"), float("nan"), 0.0, 1e-4, 1.0)
    assert gate.float_misses(nothing) and gate.int8_misses(nothing, None, None)
    assert gate.int8_misses(replace(nothing, rank_correlation=1.0), None, None)
    assert gate.float_misses(replace(nothing, max_score_error=0.0, random_state_error=float("nan")))


def test_the_replay_stretch_is_looped_with_its_resets(tiny_student: Path) -> None:
    checkpoint = Checkpoint.load(tiny_student)
    step, replay = checkpoint.step(), checkpoint.replay().slice(0, 95)  # nine hops of ten and a rest
    once = list(parity.hops(step, replay, 20))
    assert [reset for _, _, reset in once] == [k == 0 for k in range(20)]  # one entity: its state goes on
    assert [seen for _, seen, _ in once] == [10 * (k + 1) for k in range(20)]
    two = replace(replay, starts=(0, 42), entities=("a", "b"))  # four hops and five
    hops = list(parity.hops(step, two, 20))
    assert [k for k, (_, _, reset) in enumerate(hops) if reset] == [0, 4, 9, 13, 18]
    assert [seen for _, seen, _ in hops[9:13]] == [10, 20, 30, 40]
    with pytest.raises(GateFailed, match="shorter than one hop"):
        next(parity.hops(step, replay.slice(0, 9), 20))


# -- the command -----------------------------------------------------------------------------------------------------


def run(*words: object) -> Result:
    return CliRunner().invoke(cli, ["export", *map(str, words)], catch_exceptions=False, standalone_mode=False)


@pytest.fixture
def here(tiny_student: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quick_gate: None) -> Path:
    """A folder with nothing but student.pt, and we are in it."""
    shutil.copy(tiny_student, tmp_path / "student.pt")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    "words",
    [
        ("student.pt", "--int8"),
        ("--int8", "student.pt"),
        ("--int8=auto", "student.pt"),
        ("--int8", "auto", "student.pt"),
    ],
    ids=" ".join,
)
def test_int8_needs_no_argument_and_swallows_none(here: Path, words: tuple[str, ...]) -> None:
    result = run(*words)
    assert sorted(path.name for path in here.iterdir()) == ["student.onnx", "student.pt"]
    assert "80 closed-loop steps" in result.stdout
    assert ("refused" in result.stderr) == ("auto" in " ".join(words))
    assert Detector.load("student.onnx").manifest.quantization.scheme.startswith("int8")


def test_a_misspelled_scheme_is_told_from_a_student(here: Path) -> None:
    for words in (
        ("student.pt", "--int8", "statik"),
        ("--int8", "statik", "student.pt"),
        ("--int8=statik", "student.pt"),
    ):
        with pytest.raises(click.BadParameter, match="'statik' is not one of 'default', 'auto', 'static'"):
            run(*words)
    with pytest.raises(ModelRefused, match=r"missing\.pt: no such file"):
        run("--int8", "missing.pt")


def test_float_and_int8_side_by_side(here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(simulate(samples=900, sensors=4, seed=2, faults=("level-shift",)).recording, tmp_path / "plant.csv")
    monkeypatch.setattr(candidate, "step_times", lambda engine, other, *given: (300.0, 1.5 if other else 1.0))
    said = run("student.pt", "--int8", "--data", "plant.csv")
    for row in ("file bytes", "step, µs", "Spearman with torch", "VUS-PR", "events found", "false alarms a day"):
        (line,) = [line for line in said.stdout.splitlines() if line.startswith(row)]
        assert len(line.removeprefix(row).split("  ")) >= 2, line
    assert "slower than float on this machine (1.50 of its step)" in said.stderr
    found = json.loads(
        run("student.pt", "--int8", "--data", "plant.csv", "--json").stdout, parse_constant=lambda n: 1 / 0
    )
    assert found["float"]["detection"]["events"] == found["detection"]["events"] == 1
    assert found["file_bytes"] == (here / "student.onnx").stat().st_size
    assert found["threshold"] != found["float"]["threshold"] and found["scheme"] == "coarse"
    with pytest.raises(UsageError, match="no labeled anomaly"):
        run("student.pt", "--data", "plant.csv", "--label-column", "none")


def test_format_and_name_follow_from_each_other(here: Path) -> None:
    before = (here / "student.pt").read_bytes()
    for words in (("-o", "student.pt"), ("--format", "tflite", "-o", "student.onnx"), ("-o", "plant")):
        with pytest.raises(UsageError, match=r"give -o \w+\.(onnx|tflite)"):
            run("student.pt", *words)
    with pytest.raises(UsageError, match="--target litert: an ONNX file has one engine"):
        run("student.pt", "--target", "litert")
    assert [path.name for path in here.iterdir()] == ["student.pt"] and (here / "student.pt").read_bytes() == before


def test_the_command_knows_every_scheme() -> None:
    """They are listed there so that `--help` need not load what makes them."""
    from edgekd.commands.export import SCHEMES, SUFFIXES
    from edgekd.export import tflite

    assert SUFFIXES == {"onnx": room.SUFFIX, "tflite": tflite.SUFFIX}
    assert {"default", "auto", *room.schemes(), *tflite.schemes(), *tflite.schemes("tflite-runtime")} == set(SCHEMES)


@pytest.mark.parametrize("format", ROOMS)
def test_every_scheme_can_be_told_in_a_manifest(tiny_exported: dict[str, Path], format: str) -> None:
    manifest, _ = manifests.read(tiny_exported["float32"])
    for scheme in export_room(format).schemes().values():
        told = manifests.Manifest.from_json(describe.quantized(manifest, scheme).to_json())
        assert told.quantization.scheme.startswith("int8")  # what the reader caps a self-test's tolerance by
