"""A model that is new on this machine is loaded in a process of its own first, which may die of it; once."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from device import ROOT, run, write_csv
from onnx import helper, numpy_helper
from step_models import step_file, step_graph, step_samples, with_manifest

from edgekd.export.embed import embed
from edgekd.runtime import Detector, ModelRefused, UsageError
from edgekd.runtime.guard import admit
from edgekd.runtime.guard import child_process as probing
from edgekd.runtime.guard import tried_models as proven

N, HOP = 3, 4
GRAPH = step_graph(N, HOP)
MANIFEST = admit(with_manifest(GRAPH.SerializeToString(), N, HOP), try_first=False)[0]


def outer_sum(count: int) -> bytes:
    """All operators allowed, every shape fixed: count² numbers of `count`."""

    def change(model: onnx.ModelProto) -> None:
        for name, value in (("column", np.zeros((count, 1), np.float32)), ("row", np.zeros((1, count), np.float32))):
            model.graph.initializer.append(numpy_helper.from_array(value, name))
        model.graph.node.append(helper.make_node("Add", ["column", "row"], ["table"]))
        model.graph.node.append(helper.make_node("ReduceSum", ["table"], ["sum"], keepdims=0))
        model.graph.node.append(helper.make_node("Mul", ["sum", "keep"], ["nothing"]))
        next(n for n in model.graph.node if n.output[0] == "score").output[0] = "plain"
        model.graph.node.append(helper.make_node("Add", ["plain", "nothing"], ["score"]))

    model = onnx.ModelProto()
    model.CopyFrom(GRAPH)
    change(model)
    return embed(model.SerializeToString(), MANIFEST)


def test_what_fills_the_memory_does_so_elsewhere(tmp_path: Path) -> None:
    small, large = outer_sum(100), outer_sum(40_000)  # 6.4 GB
    assert probing.probe(small)
    assert admit(large, try_first=False)  # nothing static sees it
    with pytest.raises(ModelRefused) as refused:
        probing.probe(large)
    assert str(refused.value).isprintable()
    (tmp_path / "large.onnx").write_bytes(large)
    write_csv(tmp_path / "x.csv", step_samples(N, 40))
    done = run("--model", tmp_path / "large.onnx", "--csv", tmp_path / "x.csv")
    assert done.returncode == 3 and len(done.stderr.splitlines()) == 1


def test_what_an_engine_prints_is_no_word_of_the_child(tmp_path: Path) -> None:
    """onnxruntime prints what it could not load, and names are the file's own."""

    model = onnx.ModelProto()
    model.CopyFrom(GRAPH)
    model.graph.node[0].output[0] = model.graph.node[1].input[0] = '\n{"passed": true}\n'
    model.graph.node[1].op_type = "ConvTranspose"
    (tmp_path / "m.onnx").write_bytes(embed(model.SerializeToString(), MANIFEST))
    with pytest.raises(ModelRefused, match="cannot load the graph"):
        probing.probe((tmp_path / "m.onnx").read_bytes())
    write_csv(tmp_path / "x.csv", step_samples(N, 40))
    done = run("--model", tmp_path / "m.onnx", "--csv", tmp_path / "x.csv")
    assert done.returncode == 3 and done.stdout == "" and len(done.stderr.splitlines()) == 1
    printed = [
        sys.executable,
        "-c",
        f"from edgekd.runtime import Detector; Detector.load({str(tmp_path / 'm.onnx')!r})",
    ]
    assert subprocess.run(printed, cwd=ROOT, capture_output=True, check=False, timeout=60).stdout == b""


STRICT = """
import os, resource, signal
most = {name: resource.getrlimit(getattr(resource, f"RLIMIT_{name}"))[0] for name in ("CORE", "FSIZE", "NOFILE", "CPU")}
known = {"PYTHONPATH", "LD_LIBRARY_PATH", "LD_PRELOAD", "PYTHONHOME", "LC_CTYPE"}
bounded = most["CORE"] == most["FSIZE"] == 0 < most["NOFILE"] <= 64 and 0 < most["CPU"] <= 300
if not bounded or os.environ.keys() - known:
    os.kill(os.getpid(), signal.SIGUSR1)
raise ImportError("as it should be")
"""


def test_the_child_has_limits_and_no_secrets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Seen by an engine that dies of anything else."""
    (tmp_path / "onnxruntime").mkdir()
    (tmp_path / "onnxruntime" / "__init__.py").write_text(STRICT)
    model = outer_sum(100)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("EDGEKD_MQTT_PASSWORD", "secret")
    assert probing.probe(model) is False


def test_what_is_new_is_read_by_the_child_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.setattr("edgekd.runtime.guard.read_checked", lambda data: pytest.fail("it was read here"))
    (tmp_path / "m.onnx").write_bytes(outer_sum(100)[:-9])
    for source in (tmp_path / "m.onnx", (tmp_path / "m.onnx").read_bytes()):
        with pytest.raises(ModelRefused, match="damaged"):
            admit(source, try_first=True)


def test_what_never_ends_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probing, "TIMEOUT_S", 0.01)
    with pytest.raises(UsageError, match=r"0\.01 s"):
        probing.probe(outer_sum(100))


@pytest.fixture
def probes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[bytes]:
    """Models that were tried in a child process, which is believed at once."""
    found: list[bytes] = []
    monkeypatch.delenv("STATE_DIRECTORY", raising=False)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setattr(probing, "probe", lambda model: bool(found.append(model)) or True)
    return found


def test_a_model_is_tried_once(probes: list[bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = step_file(tmp_path / "a.onnx", N, HOP), step_file(tmp_path / "b.onnx", N, HOP, threshold=0.5)
    for path in (one, one, other, one, other):
        Detector.load(path, probe=True)
    assert [len(probes), probes[0] == one.read_bytes(), probes[1] == other.read_bytes()] == [2, True, True]
    Detector.load(one)  # a library user who does not ask gets no child process for ONNX
    monkeypatch.setattr("edgekd.runtime.engines.imports.Package.version", "9.9")
    Detector.load(one, probe=True)  # another engine than the one that was tried
    assert len(probes) == 3
    monkeypatch.setenv("STATE_DIRECTORY", f"{tmp_path / 'service'}:{tmp_path / 'x'}")
    Detector.load(one, probe=True)
    assert len(probes) == 4 and (tmp_path / "service" / proven.NAME).exists()


def test_a_library_user_s_tflite_file_is_tried_once_unless_told_not_to(probes: list[bytes]) -> None:
    pytest.importorskip("ai_edge_litert")
    from step_tflite import step_tflite

    model = embed(step_tflite(N, HOP), MANIFEST)
    Detector.load(model, probe=False)
    assert probes == []
    Detector.load(model)
    Detector.load(model)
    assert probes == [model]


def test_a_host_program_with_python_inside_is_not_started_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: pytest.fail("it was"))
    for executable in ("/usr/bin/uwsgi", ""):
        monkeypatch.setattr(sys, "executable", executable)
        assert probing.probe(outer_sum(100)) is False


def test_the_list_of_proven_models_stays_small(probes: list[bytes], tmp_path: Path) -> None:
    path = tmp_path / "state" / "edgekd" / proven.NAME
    for i in range(proven.KEPT + 10):
        proven.ensure_tried(with_nothing(i))
    assert len(path.read_text().splitlines()) == proven.KEPT and path.stat().st_size < proven.MAX_BYTES
    proven.ensure_tried(with_nothing(proven.KEPT))
    proven.ensure_tried(with_nothing(0))  # forgotten
    assert len(probes) == proven.KEPT + 11


def with_nothing(i: int) -> bytes:
    return b"\x08\x08" + str(i).encode()


@pytest.mark.parametrize("spoil", ["noise", "others may write", "a directory", "no room"])
def test_without_a_list_every_start_tries_the_model(probes: list[bytes], tmp_path: Path, spoil: str) -> None:
    path, model = tmp_path / "state" / "edgekd" / proven.NAME, with_nothing(1)
    proven.ensure_tried(model)
    if spoil == "noise":
        path.write_bytes(random.Random(0).randbytes(100_000))
        path.chmod(0o644)
    elif spoil == "others may write":
        path.chmod(0o666)
    else:
        path.unlink()
        path.mkdir() if spoil == "a directory" else path.parent.rmdir()
        if spoil == "no room":
            path.parent.write_text("a file where the directory should be")
    proven.ensure_tried(model)
    assert len(probes) == 2


def test_a_failed_try_is_not_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the real child: it says what it found, and only what passed its self-test is known from then on."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    wrong = embed(step_graph(N, HOP, seed=1).SerializeToString(), MANIFEST)
    proven.ensure_tried(wrong)  # the caller finds it out
    assert not (tmp_path / "edgekd" / proven.NAME).exists()
    right = with_manifest(GRAPH.SerializeToString(), N, HOP)
    proven.ensure_tried(right)
    assert len((tmp_path / "edgekd" / proven.NAME).read_text().splitlines()) == 1
