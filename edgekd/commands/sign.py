"""`edgekd sign`: signatures over exported files, for devices that take no other."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgekd.commands.files import File, check_files
from edgekd.file_kinds import EXPORTED, SIGNATURE
from edgekd.runtime.errors import UsageError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

FILE = click.Path(dir_okay=False, path_type=Path)


@click.command("sign", short_help="Sign exported files, so that a device can tell whose they are.")
@click.argument("files", nargs=-1, type=FILE)
@click.option("--key", type=FILE, help="Private key to sign with.")
@click.option("--new-key", type=FILE, help="Make a pair of keys: the private one in this file, the public in FILE.pub.")
def command(files: tuple[Path, ...], key: Path | None, new_key: Path | None) -> None:
    """Write FILE.sig beside each of FILES: an Ed25519 signature over every byte, threshold and all else included.

    `edgekd-run --require-signed KEY.pub` refuses a file without it. Copy both to the device, and the public key once;
    the private key stays on the workstation.

    \b
    Example:
        edgekd sign --new-key key.pem
        edgekd sign student.onnx --key key.pem
    """
    if (new_key is None) == (key is None) or (new_key is not None) == bool(files):
        raise UsageError("give FILES to sign and the --key to sign them with, or --new-key alone")
    if new_key is not None:
        public = _make_key(new_key)
        click.echo(f"{new_key}: private, keep it; {public}: public, for edgekd-run --require-signed")
        return
    assert key is not None
    from edgekd.runtime.guard.signature import signature_path

    reads = [File("--key", key), *(File(str(file), file, (EXPORTED,)) for file in files)]
    check_files(reads, [File("a signature", signature_path(file), (SIGNATURE,)) for file in files])
    for file in files:
        click.echo(str(_sign(file, key)))


def _sign(file: Path, key: Path) -> Path:
    """Sign what the device would take; a file that it would refuse is not worth a signature."""
    from edgekd.runtime.files import atomic
    from edgekd.runtime.guard import admit
    from edgekd.runtime.guard.signature import signature_path

    private = private_key(key)
    _, data = admit(file, try_first=False)
    path = signature_path(file)
    try:
        with atomic(path) as out:
            out.write(private.sign(data))
    except OSError as error:
        raise UsageError(f"{path}: cannot write the signature ({error.strerror})") from None
    return path


def private_key(path: Path) -> Ed25519PrivateKey:
    """The key in a PEM file without a passphrase; raises UsageError for any other."""
    from edgekd.runtime.guard.signature import primitives, read_key

    ed25519, serialization = primitives()
    kind: type[Ed25519PrivateKey] = ed25519.Ed25519PrivateKey
    return read_key(path, lambda pem: serialization.load_pem_private_key(pem, None), kind, "private")


def _new_pair() -> tuple[bytes, bytes]:
    """A new private and its public key, PEM."""
    from edgekd.runtime.guard.signature import primitives

    ed25519, serialization = primitives()
    key = ed25519.Ed25519PrivateKey.generate()
    pem = serialization.Encoding.PEM
    return (
        key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()),
        key.public_key().public_bytes(pem, serialization.PublicFormat.SubjectPublicKeyInfo),
    )


def _make_key(path: Path) -> Path:
    private, public = _new_pair()
    public_path = path.with_name(f"{path.name}.pub")
    for target in (path, public_path):
        if os.path.lexists(target):
            raise UsageError(f"{target}: is there already, and a key is never overwritten; give another name")
    for target, pem, mode in ((path, private, 0o600), (public_path, public, 0o644)):
        try:
            with os.fdopen(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
                file.write(pem)
        except OSError as error:
            raise UsageError(f"{target}: {error.strerror}; give a place where a key can be kept") from None
    return public_path
