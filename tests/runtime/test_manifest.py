"""What is refused, and that nothing but ModelRefused ever comes out of a bad file."""

from __future__ import annotations

import hashlib
import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from step_models import step_file, step_graph, step_manifest

from edgekd.export.embed import append, embed, file_digest, to_json
from edgekd.runtime import Detector, Manifest, ModelRefused
from edgekd.runtime.files import sha256
from edgekd.runtime.guard import admit
from edgekd.runtime.manifest import SelfTestSpec, ThresholdSpec

GRAPH = step_graph(2, 3).SerializeToString()
FILE = embed(GRAPH, step_manifest(2, 3))


def fields(**changes: object) -> dict:
    """The manifest's JSON with some fields replaced."""
    return {**json.loads(to_json(step_manifest(2, 3))), **changes}


def file_with(text: str) -> bytes:
    return append(GRAPH, text.encode())


def test_what_is_written_is_what_is_read(tmp_path: Path) -> None:
    manifest = replace(step_manifest(2, 3), metrics={"vus_pr": {"score": 0.5, "random": 0.1}}, parity={"steps": 1000})
    path = tmp_path / "any name.bin"
    path.write_bytes(embed(GRAPH, manifest))
    found, model = admit(path, try_first=False)
    assert replace(found, digests=manifest.digests) == manifest
    assert found.digests.file == file_digest(GRAPH) == file_digest(model)
    # onnx itself sees an ordinary metadata entry, and a second export replaces the first
    (entry,) = onnx.load_from_string(embed(model, manifest)).metadata_props
    assert entry.key == "edgekd" and json.loads(entry.value)["hop"] == 3


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "neither an ONNX nor a TFLite file"),
        (b"time,a,b\n1,2,3\n", "neither an ONNX nor a TFLite file"),
        (b"\x1c\x00\x00\x00TFL3" + bytes(64), "no manifest"),
        (GRAPH, "no manifest"),
        (append(FILE, b"{}"), "2 manifests"),
        (FILE[:-1], "cut short"),
        (FILE.replace(b"next_ema", b"next_emb", 1), "changed after export"),
        (file_with("[]"), "not a JSON object"),
        (file_with('{"format":1,"format":1}'), "twice"),
        (file_with("[" * 100_000), "not valid JSON"),
        (file_with(json.dumps(fields(format=2))), "pip install -U edgekd"),
        (file_with(json.dumps(fields(hop=0))), "hop should be an integer in [1, 100000], got 0"),
        (file_with(json.dumps(fields(hop=True))), "hop"),
        (file_with(json.dumps(fields(period_s=float("nan")))), "NaN"),
        (file_with(json.dumps(fields(period_s=10**400))), "period_s"),
        (file_with(json.dumps(fields(threshold={"value": "1", "rule": "", "data": ""}))), "threshold.value"),
        (file_with(json.dumps(fields(sensors=[]))), "sensors should be a list of 1 to 4096 items"),
        (file_with(json.dumps(fields(dropped=["pump"]))), "dropped names 'pump', which is no sensor"),
        (file_with(json.dumps(fields(dropped=["s0", "s0"]))), "dropped names a sensor twice"),
        (file_with(json.dumps(fields(method="\x1b[2Jlta"))), "printable"),
        (file_with(json.dumps(fields(surprise=1))), "unknown field 'surprise'"),
        (file_with(json.dumps(fields(metrics={"a": [[[[[[[1]]]]]]]}))), "nested deeper"),
        (file_with(json.dumps(fields(metrics={"a": "x" * 2**20}))), "larger than"),
        (file_with("{}"), "format is missing"),
    ],
)
def test_refusals_say_what_is_wrong(data: bytes, says: str) -> None:
    with pytest.raises(ModelRefused) as refused:
        admit(data, try_first=False)
    assert says in str(refused.value)
    assert str(refused.value).isprintable()


def test_external_weights_are_refused() -> None:
    model = step_graph(2, 3)
    (weights,) = [tensor for tensor in model.graph.initializer if tensor.name == "W"]
    weights.data_location = onnx.TensorProto.EXTERNAL
    weights.external_data.add(key="location", value="../../etc/passwd")
    with pytest.raises(ModelRefused, match="external data"):
        admit(embed(model.SerializeToString(), step_manifest(2, 3)), try_first=False)


def test_graph_and_manifest_must_agree() -> None:
    for other in (step_manifest(3, 3), step_manifest(2, 4), replace(step_manifest(2, 3), state=())):
        with pytest.raises(ModelRefused, match="export it again"):
            Detector.load(embed(GRAPH, other), check=False)


def test_a_writer_is_held_to_the_reader_s_bounds() -> None:
    for bad in (
        {"threshold": ThresholdSpec(float("inf"))},
        {"self_test": SelfTestSpec(7, 2, (0.0,), 1e-4)},
        {"sensors": step_manifest(2, 3).sensors[:1] * 2},
        {"parity": {"worst": np.float32(0)}},
    ):
        with pytest.raises(ModelRefused):
            to_json(replace(step_manifest(2, 3), **bad))


def test_names_that_are_given_twice_are_found_in_one_pass() -> None:
    """A megabyte of them took minutes, in the process that was to judge the file."""
    names = [f'"{i:x}":1' for i in range(90_000)]
    with pytest.raises(ModelRefused, match="gives '9fff' twice"):
        Manifest.from_json("{" + ",".join([*names, '"9fff":1']) + "}")


@given(st.integers(0, len(FILE) - 1), st.binary(min_size=0, max_size=6))
def test_damage_anywhere_is_refused(at: int, patch: bytes) -> None:
    with pytest.raises(ModelRefused):
        admit(FILE[:at], try_first=False)
    damaged = FILE[:at] + patch + FILE[at + len(patch) :]
    try:
        admit(damaged, try_first=False)
    except ModelRefused:
        return
    assert damaged[: len(GRAPH)] == GRAPH  # no digest covers the words of the manifest itself


@given(st.binary(max_size=200))
def test_any_bytes_are_refused(noise: bytes) -> None:
    for data in (noise, b"\x08" + noise, append(GRAPH, noise)):
        with pytest.raises(ModelRefused):
            admit(data, try_first=False)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)


@given(st.sampled_from(sorted(fields())), json_values)
def test_any_field_may_hold_anything(name: str, value: object) -> None:
    try:
        manifest = Manifest.from_json(json.dumps(fields(**{name: value})))
    except ModelRefused as refused:
        assert str(refused).isprintable()
    else:
        assert Manifest.from_json(to_json(manifest)) == manifest


def test_the_file_decides_not_its_name(tmp_path: Path) -> None:
    path = step_file(tmp_path / "model.tflite")
    assert Detector.load(path).manifest.method == "test"


@pytest.mark.parametrize("missing", [(), ("_sha2", "_sha256")])
def test_digests_are_sha256_on_every_python(missing: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    for name in missing:
        monkeypatch.setitem(sys.modules, name, None)
    for data in (b"", b"abc", bytes(range(256)) * 99):
        assert sha256(data) == hashlib.sha256(data).hexdigest()
