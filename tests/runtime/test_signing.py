"""Signed models: a file is refused when a byte of it was changed, its threshold included, or another key signed it."""

from __future__ import annotations

import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from device import run, write_csv
from step_models import step_file, step_samples

from edgekd.cli import cli
from edgekd.runtime import Detector, MissingExtra, ModelRefused, UsageError
from edgekd.runtime.guard import admit
from edgekd.runtime.guard.signature import SIGNATURE_BYTES, verify

pytest.importorskip("cryptography")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """m.onnx with m.onnx.sig by key.pem, and another pair of keys."""
    folder = tmp_path_factory.mktemp("signing")
    step_file(folder / "m.onnx", 3, 4)
    write_csv(folder / "x.csv", step_samples(3, 40))
    for name in ("key.pem", "other.pem"):
        assert sign("--new-key", folder / name).exit_code == 0
    assert sign(folder / "m.onnx", "--key", folder / "key.pem").exit_code == 0
    return folder


@pytest.fixture
def copy(folder: Path, tmp_path: Path) -> Path:
    """A signed file that a test may spoil."""
    for name in ("m.onnx", "m.onnx.sig"):
        shutil.copy(folder / name, tmp_path)
    return tmp_path / "m.onnx"


def sign(*arguments: object) -> Result:
    return CliRunner().invoke(cli, ["sign", *map(str, arguments)], standalone_mode=False)


def test_a_signed_file_runs_and_is_checked(folder: Path) -> None:
    key = folder / "key.pem.pub"
    assert (folder / "m.onnx.sig").stat().st_size == SIGNATURE_BYTES
    assert run("--model", folder / "m.onnx", "--require-signed", key, "--csv", folder / "x.csv").returncode == 0
    assert run("--model", folder / "m.onnx", "--require-signed", key, "--check").returncode == 0
    assert Detector.load(folder / "m.onnx", signed_by=key).manifest.method == "test"


def test_a_file_without_its_signature_is_one_line_and_exit_3(folder: Path, copy: Path) -> None:
    wanted = ("--model", copy, "--require-signed", folder / "key.pem.pub")
    foreign = run("--model", copy, "--require-signed", folder / "other.pem.pub", "--csv", folder / "x.csv")
    copy.with_name("m.onnx.sig").unlink()
    missing = [run(*wanted, "--csv", folder / "x.csv"), run(*wanted, "--check")]
    for done, says in ((foreign, "is not by"), (missing[0], "has no signature"), (missing[1], "has no signature")):
        assert done.returncode == 3 and done.stdout == ""
        (line,) = done.stderr.splitlines()
        assert line.startswith("edgekd-run: ") and "m.onnx: " in line and says in line and line.isprintable()
    assert run("--model", copy, "--check").returncode == 0  # whoever asks for no signature needs none


def test_every_byte_counts(folder: Path, copy: Path) -> None:
    """A digit of the threshold, which no digest covers, and any other."""
    data, key = copy.read_bytes(), folder / "key.pem.pub"
    at = data.index(b'"threshold":{"value":') + len(b'"threshold":{"value":')
    copy.write_bytes(data[:at] + b"9" + data[at + 1 :])
    assert admit(copy, try_first=False)[0].threshold.value > 0.5  # a file like any other, but for its signature
    with pytest.raises(ModelRefused, match="was changed, or signed with another key"):
        Detector.load(copy, signed_by=key)
    for place in range(0, len(data), max(1, len(data) // 50)):
        with pytest.raises(ModelRefused, match="was changed"):
            verify(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :], copy, key)
    for wrong in (b"", bytes(64), (folder / "m.onnx.sig").read_bytes() + b"\0"):
        copy.with_name("m.onnx.sig").write_bytes(wrong)
        with pytest.raises(ModelRefused, match="was changed"):
            verify(data, copy, key)


def test_keys_are_private_and_never_overwritten(folder: Path) -> None:
    key = folder / "key.pem"
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    before = key.read_bytes()
    for there in (key, folder / "key.pem.pub"):
        refused = sign("--new-key", there if there == key else folder / "key.pem")
        assert isinstance(refused.exception, UsageError) and "never overwritten" in str(refused.exception)
    assert key.read_bytes() == before


def test_what_is_no_key_and_what_is_no_model(folder: Path, copy: Path) -> None:
    (folder / "noise.pem").write_bytes(b"\x1b[2Jnoise")
    for key in ("noise.pem", "key.pem", "none.pem", "m.onnx"):  # a private key is no public one
        done = run("--model", copy, "--require-signed", folder / key, "--check")
        assert done.returncode == 2 and key in done.stderr and len(done.stderr.splitlines()) == 1
    for key in ("noise.pem", "key.pem.pub", "none.pem"):
        assert isinstance(sign(copy, "--key", folder / key).exception, UsageError)
    assert isinstance(sign(folder / "x.csv", "--key", folder / "key.pem").exception, ModelRefused)
    assert not (folder / "x.csv.sig").exists()
    for wrong in ((), (copy,), ("--new-key", folder / "k", copy), ("--new-key", folder / "k", "--key", folder / "k")):
        assert isinstance(sign(*wrong).exception, UsageError)
    with pytest.raises(UsageError, match="not its bytes"):
        Detector.load(copy.read_bytes(), signed_by=folder / "key.pem.pub")


def test_openssl_makes_the_same_of_it(folder: Path, copy: Path) -> None:
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("there is no openssl")

    def told(*arguments: str) -> subprocess.CompletedProcess[bytes]:
        words = [openssl, "pkeyutl", *arguments, "-rawin", "-in", str(copy)]
        return subprocess.run(words, capture_output=True, check=False, timeout=60)

    signature = copy.with_name("m.onnx.sig")
    done = told("-verify", "-pubin", "-inkey", str(folder / "key.pem.pub"), "-sigfile", str(signature))
    if b"rawin" in done.stderr or b"operation not supported" in done.stderr:
        pytest.skip("this openssl is too old for Ed25519")
    assert done.returncode == 0, done.stderr
    signature.unlink()
    assert told("-sign", "-inkey", str(folder / "key.pem"), "-out", str(signature)).returncode == 0
    verify(copy.read_bytes(), copy, folder / "key.pem.pub")


def test_without_the_package_the_extra_is_named(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cryptography.hazmat.primitives", None)
    with pytest.raises(MissingExtra, match=r"pip install 'edgekd\[signed\]'"):
        Detector.load(copy, signed_by=copy)
    assert Detector.load(copy).manifest.method == "test"
