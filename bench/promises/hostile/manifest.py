"""The manifest in a file that is being changed: taken out, put back, given a digest that is right again."""

from __future__ import annotations

import re

from edgekd.runtime.container import container_of
from edgekd.runtime.container.entry import KEY, cut
from edgekd.runtime.container.protobuf import varint
from edgekd.runtime.digest import sha256


def taken_apart(data: bytes) -> tuple[bytes, bytes]:
    """An exported file without its manifest, and the manifest's JSON."""
    container = container_of(data)
    (entry,) = container.entries(data)
    return container.bare(data), entry.value


def with_manifest(bare: bytes, text: bytes) -> bytes:
    """The file with this manifest, whatever it says."""
    if bare[4:8] == b"TFL3":
        return container_of(bare).append(bare, text)
    entry = b"\x0a" + varint(len(KEY)) + KEY + b"\x12" + varint(len(text)) + text
    return bare + b"\x72" + varint(len(entry)) + entry


def digest_with(bare: bytes, text: bytes) -> str:
    """Of the file that carries a manifest of this length."""
    if bare[4:8] != b"TFL3":
        return sha256(bare)
    data = container_of(bare).append(bare, text)
    return sha256(*cut(data, container_of(data).entries(data)))


def set_digest(text: bytes, digest: str) -> bytes:
    """The manifest with another digest of the file."""
    return re.sub(rb'("file":")[0-9a-f]{64}', b"\\g<1>" + digest.encode(), text)
