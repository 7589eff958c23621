"""The Node.js example scores a recording as `edgekd-run` does, with no EdgeKD code of its own."""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

import numpy as np
import pytest
from device import events_of, run

from edgekd.data import Recording

EXAMPLE = Path(__file__).parents[2] / "examples" / "node"
UNREACHABLE = re.compile(r"ENOTFOUND|EAI_AGAIN|ECONNREFUSED|ECONNRESET|ETIMEDOUT|ENETUNREACH|ENOTCACHED|E40[137]|E50\d")
PATIENCE_S = 120.0


@pytest.fixture(scope="module")
def example(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the example with its packages, which stay in pytest's cache until the lock file changes."""
    if not (shutil.which("node") and shutil.which("npm")):
        pytest.skip("node or npm is not installed")
    lock = hashlib.sha256((EXAMPLE / "package-lock.json").read_bytes()).hexdigest()[:12]
    packages = request.config.cache.mkdir(f"node-{lock}") / "node_modules"
    if not packages.exists():
        _install(packages)
    folder = tmp_path_factory.mktemp("node") / "example"
    shutil.copytree(EXAMPLE, folder, ignore=shutil.ignore_patterns("node_modules"))
    (folder / "node_modules").symlink_to(packages)
    return folder


def _install(packages: Path) -> None:
    """All packages or none, also where two sessions install at once."""
    with tempfile.TemporaryDirectory(dir=packages.parent) as folder:
        for name in ("package.json", "package-lock.json", ".npmrc"):
            shutil.copy(EXAMPLE / name, folder)
        # a machine without a network skips soon
        patience = ["--fetch-retries=1", "--fetch-retry-mintimeout=1000", "--fetch-timeout=30000"]
        command = ["npm", "ci", "--prefer-offline", "--no-audit", "--no-fund", *patience]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=PATIENCE_S)
        if done.returncode and UNREACHABLE.search(done.stderr):
            pytest.skip("the npm registry cannot be reached")
        assert done.returncode == 0, done.stderr
        with contextlib.suppress(OSError):  # another session was faster
            (Path(folder) / "node_modules").rename(packages)


@pytest.fixture(scope="module")
def recording(tiny_recording: Recording, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What gateways meet: columns in another order, a time, values missing for a moment, for long, from the start."""
    values = tiny_recording.values[:400].astype(np.float64)
    values[200:230] *= 10  # an anomaly
    values[:45, 0] = np.nan  # never seen until then
    values[100:103, 1] = np.nan  # short enough to be held
    values[250:290, 2] = np.nan  # held for too long
    values[300, 3] = 1e39  # infinite as float32, so missing as well
    order = [2, 0, 3, 1]
    lines = ["time," + ",".join(tiny_recording.sensors[i] for i in order)]
    lines += [f"{60 * t}," + ",".join("" if v != v else str(v) for v in row[order]) for t, row in enumerate(values)]
    path = tmp_path_factory.mktemp("recording") / "gateway.csv"
    path.write_text("\r\n".join([*lines, "torn,0.1"]))
    return path


@pytest.mark.parametrize("kind", ["float32", "int8"])
def test_node_gives_the_scores_of_edgekd_run(
    kind: str, example: Path, recording: Path, tiny_exported: dict[str, Path]
) -> None:
    model = tiny_exported[kind]
    device = run("--model", model, "--csv", recording, "--scores", "--quiet")
    assert device.returncode == 0, device.stderr
    command = ["node", str(example / "score.mjs"), str(model), str(recording)]
    node = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S)
    assert node.returncode == 0, node.stderr

    wanted, got = events_of(device.stdout, "score"), [json.loads(line) for line in node.stdout.splitlines()]
    assert {event["anomaly"] for event in wanted} == {True, False}, "the recording should hold both"
    for key in ("event", "sample", "anomaly"):  # warm-up: the first verdict is of the same sample
        assert [event[key] for event in got] == [event[key] for event in wanted]
    np.testing.assert_allclose([e["score"] for e in got], [e["score"] for e in wanted], rtol=1e-6)


def test_node_refuses_a_file_without_a_manifest(example: Path, recording: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.onnx"
    other.write_bytes(b"\x08\x0a\x12\x04test")  # ir_version, producer_name
    command = ["node", str(example / "score.mjs"), str(other), str(recording)]
    node = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S)
    assert node.returncode == 1
    assert "no manifest" in node.stderr
