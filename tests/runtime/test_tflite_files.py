"""The manifest in a TFLite file: what is written is what is read, and every other file is refused."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from step_models import step_manifest, step_samples, with_manifest
from step_tflite import pack, schema, step_tflite, unpack

from edgekd.export.embed import append, bare, embed, file_digest, to_json
from edgekd.runtime import Detector, GateFailed, ModelRefused
from edgekd.runtime.container import entries
from edgekd.runtime.container.flatbuffer import Flatbuffer
from edgekd.runtime.engines.tflite import TfliteEngine
from edgekd.runtime.guard import admit, check_operators
from edgekd.runtime.manifest import StateSpec
from edgekd.runtime.selftest import self_test_scores

N, HOP = 2, 3
GRAPH = step_tflite(N, HOP)
FILE = with_manifest(GRAPH, N, HOP)
MANIFEST, _ = admit(FILE, try_first=False)


def behind(model: bytes) -> bytes:
    """The file as ai-edge-quantizer leaves it: constants behind the flatbuffer, at offsets from the file's start."""
    tree = unpack(model)
    blobs = [b"" if buffer.data is None else bytes(buffer.data) for buffer in tree.buffers]
    end = 0
    for _ in range(2):  # the second time, the flatbuffer has the length that the offsets need
        at = end
        for buffer, blob in zip(tree.buffers, blobs):
            if blob:
                at += -at % 16
                buffer.data, buffer.offset, buffer.size = None, max(at, 2), len(blob)
                at += len(blob)
        head = pack(tree)
        end = len(head)
    out = bytearray(head)
    for buffer, blob in zip(tree.buffers, blobs):
        if blob:
            out += bytes(buffer.offset - len(out)) + blob
    return bytes(out)


def scores(data: bytes) -> list[float]:
    return [v.score for v in Detector.load(data, check=False).update_block(step_samples(N, 30))]


def test_what_is_written_is_what_is_read(tmp_path: Path) -> None:
    manifest = replace(MANIFEST, metrics={"vus_pr": {"score": 0.5, "random": 0.1}})
    path = tmp_path / "any name.onnx"
    path.write_bytes(embed(GRAPH, manifest))
    found, data = admit(path, try_first=False)
    assert replace(found, digests=manifest.digests) == manifest
    assert found.digests.file == file_digest(data)
    # the graph's bytes stay as they are, and where constants must lie; a second export replaces the first
    assert data.endswith(GRAPH) and (len(data) - len(GRAPH)) % 16 == 0
    assert embed(data, MANIFEST) == FILE
    assert bare(data) == GRAPH
    # another reader sees an ordinary metadata entry and an ordinary model
    tree = unpack(data)
    (entry,) = tree.metadata
    assert entry.name == b"edgekd" and bytes(tree.buffers[entry.buffer].data) == to_json(found).encode()
    plain, carrying = (self_test_scores(TfliteEngine(model, MANIFEST), MANIFEST, 1, 20) for model in (GRAPH, data))
    assert plain == carrying


def test_metadata_of_others_stays() -> None:
    tree = unpack(GRAPH)
    tree.metadata = [schema.MetadataT(b"min_runtime_version", len(tree.buffers))]
    tree.buffers.append(schema.BufferT(np.frombuffer(b"2.14.0", np.uint8)))
    found = unpack(embed(pack(tree), MANIFEST))
    assert [entry.name for entry in found.metadata] == [b"min_runtime_version", b"edgekd"]
    assert bytes(found.buffers[found.metadata[0].buffer].data) == b"2.14.0"


def test_weights_behind_the_flatbuffer_are_taken_in() -> None:
    loose = behind(GRAPH)
    with pytest.raises(ModelRefused, match="outside its flatbuffer"):
        check_operators(loose)
    file = embed(loose, MANIFEST)
    assert scores(file) == scores(FILE)
    assert embed(file, MANIFEST) == file
    with pytest.raises(ModelRefused, match="cut short"):
        embed(loose[:-1], MANIFEST)


def spoiled(change: Callable[[schema.ModelT], None]) -> bytes:
    """A file whose graph somebody changed, with a manifest whose digest is right."""
    tree = unpack(GRAPH)
    change(tree)
    return embed(pack(tree), MANIFEST)


def drop_buffers(tree: schema.ModelT) -> None:
    for buffer in tree.buffers:
        buffer.data = None


def halve_a_buffer(tree: schema.ModelT) -> None:
    weights = next(tensor for tensor in tree.subgraphs[0].tensors if tensor.name == b"W")
    tree.buffers[weights.buffer].data = tree.buffers[weights.buffer].data[::2]


def forget_an_operator(tree: schema.ModelT) -> None:
    tree.subgraphs[0].operators = tree.subgraphs[0].operators[1:]


def read_no_tensor(tree: schema.ModelT) -> None:
    tree.subgraphs[0].operators[0].inputs = [10**6, 0]


def rename_a_state(tree: schema.ModelT) -> None:
    tree.signatureDefs[0].inputs[2].name = b"emb"


def drop_the_signature(tree: schema.ModelT) -> None:
    tree.signatureDefs = []


def add_a_signature(tree: schema.ModelT) -> None:
    first = tree.signatureDefs[0]
    tree.signatureDefs.append(schema.SignatureDefT(first.inputs, first.outputs, b"serving_default", 0))


def move_the_signature(tree: schema.ModelT) -> None:
    others = [4, 5, 6, 7]
    tree.subgraphs.insert(0, schema.SubGraphT(tree.subgraphs[0].tensors, others, others, [], b"other"))
    tree.signatureDefs[0].subgraphIndex = 1


def misname_an_input(tree: schema.ModelT) -> None:
    tree.signatureDefs[0].inputs[2].tensorIndex = tree.subgraphs[0].outputs[2]


def widen_an_input(tree: schema.ModelT) -> None:
    samples = tree.subgraphs[0].tensors[0]
    samples.shapeSignature = [-1, N]


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (GRAPH, "no manifest"),
        (FILE[:-1], "changed after export"),
        (FILE[: len(FILE) // 2], "cut short"),
        (FILE[:12], "cut short"),
        (FILE + b"\0", "changed after export"),
        (FILE.replace(b"next_ema", b"next_emb", 1), "changed after export"),
        (append(GRAPH, b""), "leads nowhere"),
        (append(FILE, to_json(MANIFEST).encode()), "2 manifests"),
        (struct.pack("<I", 2**32 - 1) + FILE[4:], "damaged"),
        (struct.pack("<I", len(FILE) - 4) + FILE[4:], "damaged"),
        (spoiled(drop_buffers), "its data was dropped"),
        (spoiled(halve_a_buffer), "'W' has 8 bytes in the file instead of 16"),
        (spoiled(forget_an_operator), "its data was dropped"),
        (spoiled(read_no_tensor), "reads tensor 1000000 of"),
        (spoiled(rename_a_state), "no input 'ema', which the manifest needs"),
        (spoiled(drop_the_signature), "it has none"),
        (spoiled(add_a_signature), "it has step, serving_default"),
        (spoiled(move_the_signature), "holds 2 graphs"),
        (spoiled(misname_an_input), "not about the file's first graph"),
        (spoiled(widen_an_input), "input 'samples' is float32 (-1, 2) in the graph and float32 (3, 2)"),
        (embed(GRAPH, step_manifest(3, HOP)), "float32 (2) in the graph and float32 (3) in the manifest"),
        (embed(GRAPH, step_manifest(N, 4)), "samples"),
        (embed(GRAPH, replace(MANIFEST, state=MANIFEST.state[:1])), "'swing' is not in the manifest"),
        (embed(GRAPH, replace(MANIFEST, state=(StateSpec("ema", (N,), "int32"), MANIFEST.state[1]))), "int32"),
    ],
)
def test_tampered_files_are_refused(data: bytes, says: str) -> None:
    with pytest.raises(ModelRefused) as refused:
        Detector.load(data)
    assert says in str(refused.value)
    assert str(refused.value).isprintable()


def test_a_graph_that_computes_something_else_is_refused() -> None:
    """As a wrong output padding does: everything fits but the numbers."""
    with pytest.raises(GateFailed, match="export without --int8"):
        Detector.load(embed(step_tflite(N, HOP, seed=1), MANIFEST))


def test_vectors_that_overlap_cost_no_time() -> None:
    """120 KB that say they are a trillion inputs: every item of a vector leads to the same table."""
    many = 10_000
    data = bytearray(struct.pack("<I4sHH3HxxiI", 20, b"TFL3", 10, 8, 0, 0, 4, 12, 4))  # Model: its third field
    for slots in (4, 2):  # SubGraph: its fourth field, operators; Operator: its second, inputs
        items = len(data) + 4
        vtable = items + 4 * many
        table = vtable + 4 + 2 * slots
        data += struct.pack("<I", many) + b"".join(struct.pack("<I", table - items - 4 * i) for i in range(many))
        data += struct.pack(f"<HH{slots}HiI", 4 + 2 * slots, 8, *[0] * (slots - 1), 4, 4 + 2 * slots, 4)
    data += struct.pack(f"<I{many}i", many, *[-1] * many)
    with pytest.raises(ModelRefused, match="10000 graphs"):
        check_operators(bytes(data))
    with pytest.raises(ModelRefused, match="more than 100000 parts"):
        [operator.integers(1) for graph in Flatbuffer(bytes(data)).root().tables(2) for operator in graph.tables(3)]


@settings(deadline=None)
@given(st.integers(0, len(FILE) - 1), st.binary(min_size=1, max_size=6), st.booleans())
def test_damage_anywhere_is_refused(at: int, patch: bytes, cut: bool) -> None:
    damaged = FILE[:at] if cut else FILE[:at] + patch + FILE[at + len(patch) :]
    try:
        admit(damaged, try_first=False)
    except ModelRefused:
        pass
    else:  # no digest covers the words of the manifest itself, and it covers every other byte
        ((start, end),) = [entry.span for entry in entries(FILE)]
        assert (damaged[:start], damaged[end:]) == (FILE[:start], FILE[end:])
    assert_only_refusals(damaged)


def test_a_manifest_without_a_byte() -> None:
    """It has no end behind which the file it was put before could begin."""
    assert_only_refusals(append(GRAPH, b""))


def assert_only_refusals(data: bytes) -> None:
    """Whatever is done with a bad file, it works or raises ModelRefused."""
    for use in (
        entries,
        check_operators,
        lambda data: append(data, b"{}"),
        lambda data: embed(data, MANIFEST),
    ):
        try:
            use(data)
        except ModelRefused as refused:
            assert str(refused).isprintable()
