"""The manifest in a file that is being changed: taken out, put back, given a digest that is right again."""

from __future__ import annotations

import re

from edgekd.export.embed import append, bare, file_digest, varint
from edgekd.runtime.container import KEY, entries
from edgekd.runtime.files import sha256


def taken_apart(data: bytes) -> tuple[bytes, bytes]:
    """An exported file without its manifest, and the manifest's JSON."""
    (entry,) = entries(data)
    return bare(data), bytes(entry.value)


def with_manifest(alone: bytes, text: bytes) -> bytes:
    """The file with this manifest, whatever it says."""
    if alone[4:8] == b"TFL3":
        return append(alone, text)
    entry = b"\x0a" + varint(len(KEY)) + KEY + b"\x12" + varint(len(text)) + text
    return alone + b"\x72" + varint(len(entry)) + entry


def digest_with(alone: bytes, text: bytes) -> str:
    """Of the file that carries a manifest of this length."""
    return file_digest(append(alone, text)) if alone[4:8] == b"TFL3" else sha256(alone)


def set_digest(text: bytes, digest: str) -> bytes:
    """The manifest with another digest of the file."""
    return re.sub(rb'("file":")[0-9a-f]{64}', b"\\g<1>" + digest.encode(), text)
