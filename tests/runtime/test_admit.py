"""The one door: a file that is unsigned, changed, foreign or deadly gets no further, in either format."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
from click.testing import CliRunner
from step_models import step_file, with_manifest
from step_tflite import pack, step_tflite, unpack

from edgekd.cli import cli
from edgekd.export.embed import bare, embed
from edgekd.runtime import Detector, ModelRefused, UsageError
from edgekd.runtime.guard import admit

N, HOP = 3, 4
ENGINES = {"onnx": "onnxruntime", "tflite": "ai_edge_litert"}


@pytest.fixture(params=ENGINES)
def model(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A good file."""
    path = tmp_path / f"m.{request.param}"
    if request.param == "onnx":
        return step_file(path, N, HOP)
    path.write_bytes(with_manifest(step_tflite(N, HOP), N, HOP))
    return path


def test_a_good_file_comes_in_as_a_path_or_as_its_bytes(model: Path) -> None:
    manifest, data = admit(str(model))
    assert data == model.read_bytes() and (manifest, data) == admit(data, try_first=True) == admit(model)


def test_unsigned(model: Path, tmp_path: Path) -> None:
    pytest.importorskip("cryptography")
    CliRunner().invoke(cli, ["sign", "--new-key", str(tmp_path / "key.pem")], catch_exceptions=False)
    for use in (admit, Detector.load):
        with pytest.raises(ModelRefused, match=r"m\.\w+: it has no signature"):
            use(model, signed_by=tmp_path / "key.pem.pub")


def test_a_changed_byte(model: Path) -> None:
    data = bytearray(model.read_bytes())
    data[data.index(b"next_ema") if model.suffix == ".onnx" else -1] ^= 1  # of the graph, not of the manifest
    model.write_bytes(data)
    for use in (admit, Detector.load):
        with pytest.raises(ModelRefused, match=r"m\.\w+: the file was changed after export"):
            use(model)


def test_a_foreign_operator(model: Path) -> None:
    manifest, data = admit(model)
    model.write_bytes(embed(with_a_foreign_operator(bare(data)), manifest))
    for use in (admit, Detector.load):
        with pytest.raises(ModelRefused, match=r"m\.\w+: the file holds .*operator .*which edgekd export never writes"):
            use(model)


def with_a_foreign_operator(data: bytes) -> bytes:
    if data[4:8] == b"TFL3":
        tree = unpack(data)
        tree.operatorCodes[0].builtinCode = 119  # WHILE
        return pack(tree)
    graph = onnx.load_from_string(data)
    graph.graph.node[0].op_type = "NonZero"
    return graph.SerializeToString()


def test_a_child_that_dies(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / ENGINES[model.suffix[1:]]
    package.mkdir()
    (package / "__init__.py").write_text("import os, signal; os.kill(os.getpid(), signal.SIGILL)")
    admit(model, try_first=False)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))  # where nobody has tried it yet
    monkeypatch.syspath_prepend(tmp_path)
    for use in (lambda: admit(model, try_first=True), lambda: Detector.load(model, probe=True)):
        with pytest.raises(UsageError, match="dies of SIGILL when it is imported"):
            use()
    assert admit(model, try_first=False)  # whoever only reads starts no engine
