"""The same detector in either format, and what is told of an engine that is missing, broken or deadly."""

from __future__ import annotations

import json
import os
import platform
import sys
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from device import ROOT, events_of, run, write_csv
from step_models import step_file, step_samples, with_manifest
from step_tflite import step_tflite

from edgekd.runtime import Detector, MissingExtra, UsageError
from edgekd.runtime.engines import imports, load_engine

N, HOP = 3, 4


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("engines")
    step_file(folder / "m.onnx", N, HOP, threshold=0.15)
    (folder / "m.tflite").write_bytes(with_manifest(step_tflite(N, HOP), N, HOP, threshold=0.15))
    write_csv(folder / "x.csv", step_samples(N, 160))
    return folder


def test_both_formats_score_alike(folder: Path) -> None:
    onnx, tflite = (Detector.load(folder / f"m.{kind}") for kind in ("onnx", "tflite"))
    assert onnx.engine.name.startswith("onnxruntime ") and tflite.engine.name.startswith("ai-edge-litert ")
    x = step_samples(N, 400)
    x[37:90, 1] = np.nan
    for a, b in zip(onnx.update_block(x), tflite.update_block(x)):
        assert type(b.score) is float and b.contributions.shape == (N,)
        np.testing.assert_allclose(b.score, a.score, rtol=1e-5)
        np.testing.assert_allclose(b.contributions, a.contributions, rtol=1e-4, atol=1e-7)


def test_a_stream_that_is_bound_scores_as_one_that_is_not(folder: Path) -> None:
    """Through a lost state, another stream on the same session, and a state that is taken back."""
    detector = Detector.load(folder / "m.onnx")
    other, plain = detector.stream(), detector.stream()
    plain._feeds = dict(plain._feeds)
    x = step_samples(N, 400)

    def scores(one: Detector, samples: np.ndarray) -> list[float]:
        return [verdict.score for verdict in one.update_block(samples)]

    assert scores(detector, x[:200]) == scores(plain, x[:200])
    saved = detector.snapshot()
    ahead = scores(detector, x[200:300])
    scores(other, x[::-1])
    detector.restore(saved)
    assert scores(detector, x[200:300]) == ahead == scores(plain, x[200:300])
    for one in (detector, plain):
        one._forget("it was lost")
    assert scores(detector, x[300:]) == scores(plain, x[300:])


def test_events_are_the_same_and_nothing_else_is_said(folder: Path) -> None:
    done = {kind: run("--model", folder / f"m.{kind}", "--csv", folder / "x.csv") for kind in ("onnx", "tflite")}
    events = [
        [{**event, "score": 0, "peak": 0} for event in events_of(done[kind].stdout)] for kind in ("onnx", "tflite")
    ]
    assert events[0] == events[1] and len(events[0]) > 2
    assert done["onnx"].stderr == done["tflite"].stderr  # the interpreter's own greeting is not heard


@pytest.mark.parametrize("kind", ["onnx", "tflite"])
def test_results_belong_to_the_caller(folder: Path, kind: str) -> None:
    detector = Detector.load(folder / f"m.{kind}")
    x = step_samples(N, 200)
    kept = detector.update_block(x[:101])
    snapshot = detector.snapshot()
    before = [v.contributions.copy() for v in kept], {name: array.copy() for name, array in snapshot.items()}
    rest = detector.update_block(x[101:])
    assert all(np.array_equal(v.contributions, copy) for v, copy in zip(kept, before[0]))
    assert all(np.array_equal(snapshot[name], copy) for name, copy in before[1].items())
    again = detector.stream()
    again.restore(snapshot)
    assert [v.score for v in again.update_block(x[101:])] == [v.score for v in rest]


def test_streams_share_an_engine_from_several_threads(folder: Path) -> None:
    detector = Detector.load(folder / "m.tflite")
    inputs = [step_samples(N, 2000, seed) for seed in range(4)]
    alone = [[v.score for v in detector.stream().update_block(x)] for x in inputs]
    found: dict[int, list[float]] = {}

    def work(i: int) -> None:
        stream = detector.stream()
        found[i] = [v.score for sample in inputs[i] if (v := stream.update(sample)) is not None]

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [found[i] for i in range(4)] == alone


def fake(folder: Path, package: str, code: str, version: str = "1.22.0") -> dict[str, str]:
    """A package that is found before the real one, with metadata of its own; the environment that finds it."""
    module = folder / package / "__init__.py"
    module.parent.mkdir(parents=True)
    module.write_text(code)
    name = package.replace("_", "-")
    info = folder / f"{package}-{version}.dist-info" / "METADATA"
    info.parent.mkdir()
    info.write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    return {**os.environ, "PYTHONPATH": str(folder)}


NUMPY_1 = "raise ImportError('numpy.core.multiarray failed to import')"
LATE = """
import sys, types
class Interpreter:
    def __init__(self, **_):
        try: raise ImportError('numpy.core.multiarray failed to import')
        except ImportError as error: raise SystemError('returned a result with an exception set') from error
sys.modules['{name}.interpreter'] = types.ModuleType('{name}.interpreter')
sys.modules['{name}.interpreter'].Interpreter = Interpreter
"""
DIES = "import os, signal; os.kill(os.getpid(), signal.{name})"
DIES_RUNNING = """
import os, signal, sys, types
class Interpreter:
    def __init__(self, **_): os.kill(os.getpid(), signal.SIGSEGV)
sys.modules['ai_edge_litert.interpreter'] = types.ModuleType('ai_edge_litert.interpreter')
sys.modules['ai_edge_litert.interpreter'].Interpreter = Interpreter
"""


@pytest.mark.parametrize(
    ("kind", "package", "code", "says"),
    [
        (
            "onnx",
            "onnxruntime",
            DIES.format(name="SIGILL"),
            "onnxruntime 1.22.0 dies of SIGILL when it is imported: it uses instructions that this processor lacks;"
            " pip install 'onnxruntime!=1.22.0' takes another version",
        ),
        ("tflite", "ai_edge_litert", DIES.format(name="SIGSEGV"), "ai-edge-litert 1.22.0 dies of SIGSEGV when it is"),
        ("tflite", "ai_edge_litert", DIES_RUNNING, "dies of SIGSEGV while it loads this model"),
        ("onnx", "onnxruntime", NUMPY_1, "does not start under NumPy 2"),
        ("tflite", "ai_edge_litert", LATE.format(name="ai_edge_litert"), "pip install 'numpy<2' mends it"),
        ("onnx", "onnxruntime", "", "onnxruntime is installed but empty; pip install --force-reinstall 'edgekd[onnx]'"),
        ("tflite", "ai_edge_litert", "", "ai-edge-litert is installed but empty"),
        ("tflite", "ai_edge_litert", "import flatland", "ai-edge-litert is installed without flatland"),
        ("onnx", "onnxruntime", "raise OSError('libfoo.so: wrong ELF class')", "does not start (libfoo.so: wrong ELF"),
    ],
)
def test_a_broken_engine_is_told_in_one_line(
    folder: Path, tmp_path: Path, kind: str, package: str, code: str, says: str
) -> None:
    done = run("--model", folder / f"m.{kind}", "--check", env=fake(tmp_path, package, code))
    assert done.returncode == 2 and done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert says in line and ("pip install" in line or "export again" in line)


@pytest.mark.parametrize("version", ["1.21.0", "1.24.1", "1.25.0", "1.26.0"])
def test_a_version_that_is_known_to_be_bad_is_refused_by_name(folder: Path, tmp_path: Path, version: str) -> None:
    """Before it is imported, here or in a child."""
    done = run("--model", folder / "m.onnx", "--check", env=fake(tmp_path, "onnxruntime", "1 / 0", version))
    assert done.returncode == 2 and done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert f"onnxruntime {version} is known to" in line and "pip install 'onnxruntime>=1.27'" in line


def test_the_extras_leave_out_what_is_refused() -> None:
    from configparser import ConfigParser

    from packaging.requirements import Requirement

    extras = ConfigParser()
    extras.read(ROOT / "setup.cfg")
    for extra in ("onnx", "workstation"):
        lines = extras["options.extras_require"][extra].splitlines()
        (wanted,) = (Requirement(line) for line in lines if line.startswith("onnxruntime"))
        for bad in imports.ONNXRUNTIME.bad:
            assert not wanted.specifier.contains(f"{bad}1".replace("1.21.0.1", "1.21.0"))
        assert all(wanted.specifier.contains(good) for good in ("1.21.1", "1.23.2", "1.27.0", "1.31.1"))


def test_check_tells_machines_of_a_deadly_engine(folder: Path, tmp_path: Path) -> None:
    env = fake(tmp_path, "onnxruntime", DIES.format(name="SIGILL"))
    report = json.loads(run("--model", folder / "m.onnx", "--check", "--json", env=env).stdout)
    assert report["ok"] is False and "SIGILL" in report["error"]


def nowhere(kind: str) -> tuple[imports.Package, ...]:
    return tuple(replace(package, module=f"no_{i}_such.module") for i, package in enumerate(imports.PACKAGES[kind]))


@pytest.mark.parametrize(
    ("kind", "machine", "python", "says"),
    [
        ("onnx", "aarch64", (3, 13), "onnxruntime is not installed; pip install 'edgekd[onnx]' brings it"),
        ("tflite", "x86_64", (3, 13), "ai-edge-litert is not installed; pip install 'edgekd[tflite]' brings it"),
        ("tflite", "armv7l", (3, 11), "no TFLite engine is installed; pip install 'tflite-runtime==2.14.0' 'numpy<2'"),
        ("onnx", "armv7l", (3, 11), "onnxruntime has no wheel for 32-bit ARM: take a 64-bit system, or a file from"),
        ("tflite", "armv7l", (3, 13), "no engine has a wheel for 32-bit ARM and Python 3.13: take a 64-bit system"),
        # a 32-bit system under a 64-bit kernel, as on many a Raspberry Pi
        ("tflite", "aarch64-32", (3, 11), "no TFLite engine is installed; pip install 'tflite-runtime==2.14.0'"),
    ],
)
def test_a_missing_engine_is_told_for_this_board(
    monkeypatch: pytest.MonkeyPatch, kind: str, machine: str, python: tuple[int, int], says: str
) -> None:
    name, _, bits = machine.partition("-")
    if bits or name == "armv7l":
        monkeypatch.setattr(sys, "maxsize", 2**31 - 1)
    monkeypatch.setattr(platform, "machine", lambda: name)
    monkeypatch.setattr(imports, "PYTHON", python)
    monkeypatch.setitem(imports.PACKAGES, kind, nowhere(kind))
    with pytest.raises(UsageError) as missing:
        imports.load_engine_package(kind)
    assert str(missing.value).startswith(says)


def test_an_engine_that_is_there_is_enough(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """Without LiteRT, tflite-runtime; without either, what brings one."""
    data = (folder / "m.tflite").read_bytes()
    litert, older = imports.PACKAGES["tflite"]
    gone = replace(litert, module="not_here.interpreter")
    monkeypatch.setitem(imports.PACKAGES, "tflite", (gone, replace(older, module=litert.module)))
    assert load_engine(data, Detector.load(data, check=False).manifest).name.startswith("tflite-runtime")
    monkeypatch.setitem(imports.PACKAGES, "tflite", (gone,))
    with pytest.raises(MissingExtra):
        Detector.load(data)
