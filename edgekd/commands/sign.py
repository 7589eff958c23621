"""`edgekd sign`: signatures over exported files, for devices that take no other."""

from __future__ import annotations

import os
from pathlib import Path

import click

from edgekd.runtime.errors import UsageError

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
    for file in files:
        click.echo(str(_sign(file, key)))


def _sign(file: Path, key: Path) -> Path:
    """Sign what the device would take; a file that it would refuse is not worth a signature."""
    from edgekd.runtime import manifest
    from edgekd.runtime.files import atomic
    from edgekd.runtime.guard.signature import load_private_key, signature_path

    private = load_private_key(key)
    _, data = manifest.read(file)
    path = signature_path(file)
    try:
        with atomic(path) as out:
            out.write(private.sign(data))
    except OSError as error:
        raise UsageError(f"{path}: cannot write the signature ({error.strerror})") from None
    return path


def _make_key(path: Path) -> Path:
    from edgekd.runtime.guard.signature import new_pair

    private, public = new_pair()
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
