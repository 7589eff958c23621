"""Detached Ed25519 signatures (RFC 8032) of model files: the 64 raw bytes lie beside FILE, in FILE.sig.

They are over all bytes, manifest included. Keys are PEM files; docs/security.md verifies with OpenSSL alone.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from edgekd.runtime.errors import MissingExtra, ModelRefused, UsageError
from edgekd.runtime.json_fields import shown

Key = TypeVar("Key")
SIGNATURE_BYTES = 64
MAX_KEY_BYTES = 16_384


def signature_path(file: Path) -> Path:
    """Where the signature of a file lies."""
    return file.with_name(f"{file.name}.sig")


def verify(data: bytes, file: Path, public_key: Path) -> None:
    """Raise ModelRefused unless `data`, the bytes of `file`, were signed with the key that belongs to `public_key`."""
    ed25519, serialization = primitives()
    key = read_key(public_key, serialization.load_pem_public_key, ed25519.Ed25519PublicKey, "public")
    from cryptography.exceptions import InvalidSignature

    path = signature_path(file)
    try:
        with path.open("rb") as signature:
            key.verify(signature.read(SIGNATURE_BYTES + 1), data)
    except OSError as error:
        why = f"it has no signature ({shown(path.name, 100)}: {error.strerror}); edgekd sign makes one"
        raise ModelRefused(why) from None
    except InvalidSignature:
        why = f"its signature is not by {shown(str(public_key), 200)} over these bytes"
        raise ModelRefused(f"{why}: the file was changed, or signed with another key") from None


def read_key(path: Path, load: Callable[[bytes], object], kind: type[Key], words: str) -> Key:
    """The "public" or "private" key in a PEM file, through cryptography's loader; raises UsageError for any other."""
    try:
        with path.open("rb") as file:
            key = load(file.read(MAX_KEY_BYTES))
    except OSError as error:
        raise UsageError(f"{shown(str(path), 300)}: {error.strerror}; give a {words} key file") from None
    except Exception:  # ValueError, TypeError (a passphrase), UnsupportedAlgorithm, by what is in the file
        key = None
    if not isinstance(key, kind):
        raise UsageError(f"{shown(str(path), 300)}: holds no {words} Ed25519 key; edgekd sign --new-key makes a pair")
    return key


def primitives() -> tuple[Any, Any]:
    """cryptography's `ed25519` and `serialization`; raises MissingExtra without it."""
    try:
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric import ed25519
    except ModuleNotFoundError:
        raise MissingExtra("cryptography", "signed") from None
    return ed25519, serialization
