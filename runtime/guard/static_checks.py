"""What can be said of a model file's bytes without running them: manifest, digest, operators."""

from __future__ import annotations

from edgekd.runtime.container import entries, format_of
from edgekd.runtime.container.entry import cut
from edgekd.runtime.digest import sha256
from edgekd.runtime.errors import ModelRefused
from edgekd.runtime.manifest import Manifest

MAX_FILE_BYTES = 512 * 2**20  # a gateway has about this much memory in all


def read_checked(data: bytes) -> Manifest:
    """The one manifest of a file that is what it says and holds nothing that no exporter writes; else ModelRefused."""
    if len(data) > MAX_FILE_BYTES:
        raise ModelRefused(f"file is larger than {MAX_FILE_BYTES // 2**20} MiB, no model for a device")
    found = entries(data)
    if not found:
        raise ModelRefused("there is no manifest in this file; write it with edgekd export")
    if len(found) > 1:
        raise ModelRefused(f"there are {len(found)} manifests in this file, one is meant; export it again")
    manifest = Manifest.from_json(found[0].value)
    digest, stated = sha256(*cut(data, found)), manifest.digests.file
    if stated != digest:
        raise ModelRefused(
            f"the file was changed after export (SHA-256 {digest[:12]}…, manifest says {stated[:12] or 'nothing'}…);"
            " copy or export it again"
        )
    check_operators(data)
    return manifest


def check_operators(data: bytes) -> None:
    """Raise ModelRefused for a graph that no exporter has written: before an engine sees a byte of it."""
    if format_of(data) == "onnx":
        from edgekd.runtime.guard.onnx_operators import check_graph
    else:
        from edgekd.runtime.guard.tflite_operators import check_graph
    check_graph(data)
