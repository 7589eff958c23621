"""A file appears only where the proof against torch and the gate hold; else the older one stays as it is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

from edgekd.checkpoint import Checkpoint
from edgekd.export import candidate, export, gate, parity
from edgekd.export.embed import embed
from edgekd.runtime import Detector
from edgekd.runtime.engines import load_engine
from edgekd.runtime.errors import GateFailed, UsageError
from edgekd.runtime.guard import admit
from edgekd.simulation.simulate import simulate


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
    manifest, model = admit(file, try_first=False)
    graph = onnx.load_from_string(model)
    spoil(graph)
    engine = load_engine(embed(graph.SerializeToString(), manifest), manifest)
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


def test_scores_that_never_change_have_one_order() -> None:
    """A sensor that stands still for all of the replay stretch gives one score, which is no reason to refuse it."""
    flat, other = np.zeros(9), np.arange(9.0)
    assert parity.spearman(flat, flat) == 1.0
    assert np.isnan(parity.spearman(flat, other)) and parity.spearman(other, other) == pytest.approx(1.0)


def test_figures_that_are_no_numbers_do_not_hold() -> None:
    nothing = parity.Parity(1000, float("nan"), float("nan"), float("nan"), 0.0, 0.0, 1e-4, 1.0)
    assert gate.float_misses(nothing) and gate.int8_misses(nothing, None, None)
    assert gate.int8_misses(replace(nothing, rank_correlation=1.0), None, None)
    assert gate.float_misses(replace(nothing, max_score_error=0.0, random_state_error=float("nan")))
    right = replace(nothing, max_score_error=0.0, random_state_error=0.0)
    assert not gate.float_misses(right) and gate.float_misses(replace(right, slow_error=float("nan")))


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
