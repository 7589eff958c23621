"""A file for TensorFlow Lite Micro is proven in Micro's own interpreter, and what it gets wrong is not written."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgekd.checkpoint import Checkpoint
from edgekd.export import export, tflite
from edgekd.export.exporter import Exported
from edgekd.export.tflite.int8 import SCHEMES
from edgekd.runtime import Detector
from edgekd.runtime.engines import load_engine
from edgekd.runtime.errors import GateFailed
from edgekd.runtime.guard import admit

pytest.importorskip("tflite_micro")


@pytest.fixture
def bare(tiny_tflite: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> bytes:
    """The float model of `tiny_student`, converted once."""
    model = admit(tiny_tflite["float32"], try_first=False)[1]
    monkeypatch.setattr(tflite, "float_model", lambda step, target: model)
    return model


def exported(student: Path, folder: Path, int8: str | None) -> Exported:
    return export(Checkpoint.load(student), folder / "m.tflite", format="tflite", target="tflm", int8=int8, steps=80)


@pytest.mark.parametrize("int8", [None, "default"])
def test_a_file_for_micro_is_proven_there_and_runs_on_litert(
    tiny_student: Path, bare: bytes, tmp_path: Path, int8: str | None
) -> None:
    done = exported(tiny_student, tmp_path, int8)
    assert 10_000 < done.manifest.metrics["arena_bytes"] < 500_000
    assert int8 is not None or done.parity.max_score_error < 1e-4
    assert Detector.load(done.path).engine.name.startswith("ai-edge-litert")


def test_dynamic_int8_is_not_offered_and_would_be_caught(
    tiny_student: Path, bare: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert list(tflite.schemes("tflm")) == ["static"]
    monkeypatch.setitem(SCHEMES, "tflm", {"dynamic-full": SCHEMES["litert"]["dynamic-full"]})
    with pytest.raises(GateFailed, match="Micro"):
        exported(tiny_student, tmp_path, "dynamic-full")
    assert not list(tmp_path.iterdir())


def test_an_operator_that_micro_lacks_is_named(tiny_tflite: dict[str, Path]) -> None:
    from edgekd.export.tflite.flatbuffer import packed, unpacked
    from edgekd.export.tflite.micro import MicroEngine

    manifest, model = admit(tiny_tflite["float32"], try_first=False)
    load_engine(model, manifest)
    tree = unpacked(model)
    tree.operatorCodes[0].builtinCode, tree.operatorCodes[0].deprecatedBuiltinCode = 158, 127
    with pytest.raises(GateFailed, match="TensorFlow Lite Micro has no operator SIGN"):
        MicroEngine(packed(tree), manifest)
