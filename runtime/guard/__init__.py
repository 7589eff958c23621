"""The one door for model files: nothing reaches an engine but through `admit`."""

from __future__ import annotations

from pathlib import Path

from edgekd.runtime.container import cut, entries, format_of
from edgekd.runtime.errors import ModelRefused, UsageError
from edgekd.runtime.files import sha256
from edgekd.runtime.json_fields import shown
from edgekd.runtime.manifest import Manifest

MAX_FILE_BYTES = 512 * 2**20  # a gateway has about this much memory in all


def admit(
    source: str | Path | bytes, signed_by: str | Path | None = None, try_first: bool | None = None, again: bool = False
) -> tuple[Manifest, bytes]:
    """The manifest and the bytes of a model file that is good to run, given as a path or as those bytes.

    signed_by: public key that must have signed the file; its signature is beside it.
    try_first: read and run a file that is new on this machine in a child process first, which may die of it. None: only
    TFLite, of which engines check little; False: none, for whoever only reads. again: also a known one.
    Raises ModelRefused for what is damaged, not signed, or not as its manifest says; UsageError where an engine dies.
    """
    if isinstance(source, bytes):
        if signed_by is not None:
            raise UsageError("a signature lies beside a file; give the file's path, not its bytes")
        return _checked(source, try_first, again), source
    path, name = Path(source), shown(str(source), 300)
    try:
        if path.exists() and not path.is_file():
            raise ValueError("is no regular file")
        with path.open("rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ModelRefused(f"{name}: {reason}; give a file written by edgekd export") from None
    try:
        if signed_by is not None:
            from edgekd.runtime.guard.signature import verify

            verify(data, path, Path(signed_by))  # here: what a child says that has read a stranger's file is no proof
        return _checked(data, try_first, again), data
    except ModelRefused as error:
        raise ModelRefused(f"{name}: {error}") from None


def _checked(data: bytes, try_first: bool | None, again: bool) -> Manifest:
    """The manifest; see `admit`. This process reads the file when a child has, or nobody asked for one."""
    if len(data) > MAX_FILE_BYTES:
        raise ModelRefused(f"file is larger than {MAX_FILE_BYTES // 2**20} MiB, no model for a device")
    if format_of(data) == "tflite" if try_first is None else try_first:
        from edgekd.runtime.guard.tried_models import ensure_tried

        ensure_tried(data, again)
    return read_checked(data)


def read_checked(data: bytes) -> Manifest:
    """The one manifest of a file that is what it says and holds nothing that no exporter writes; else ModelRefused."""
    found = entries(data)
    if not found:
        raise ModelRefused("there is no manifest in this file; write it with edgekd export")
    if len(found) > 1:
        raise ModelRefused(f"there are {len(found)} manifests in this file, one is meant; export it again")
    manifest = Manifest.from_json(bytes(found[0].value))
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
