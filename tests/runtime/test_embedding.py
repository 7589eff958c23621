"""The detector inside somebody else's program gives the scores of `edgekd-run`: the README's lines, and a gateway."""

from __future__ import annotations

import ast
import asyncio
import importlib.util
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from device import PATIENCE_S, ROOT, events_of, run, write_csv
from step_models import step_file, step_samples

import edgekd.runtime

N, COUNT = 3, 200
MACHINES = ("pump", "fan", "press")
GATEWAY = ROOT / "examples" / "gateway.py"
Scores = list[tuple[int, float]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model, and a recording of each machine with gaps in it."""
    folder = tmp_path_factory.mktemp("embedding")
    step_file(folder / "student.onnx", N, 4, warmup=8, threshold=0.15)
    for seed, machine in enumerate(MACHINES):
        samples = step_samples(N, COUNT, seed)
        samples[np.random.default_rng(seed).random(samples.shape) < 0.02] = np.nan
        write_csv(folder / f"{machine}.csv", samples)
    return folder


def command_scores(folder: Path, machine: str) -> list[dict[str, Any]]:
    done = run("--model", folder / "student.onnx", "--csv", folder / f"{machine}.csv", "--scores")
    return events_of(done.stdout, "score")


def test_the_readme_s_lines_find_what_the_command_finds(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), flags=re.S)
    (code,) = [block for block in blocks if "Detector.load" in block]
    told: list[tuple[float, tuple[str, ...]]] = []
    lines = (folder / "pump.csv").read_text().splitlines()[1:]
    gateway = [np.array([float(field or "nan") for field in line.split(",")]) for line in lines]
    monkeypatch.chdir(folder)
    exec(code, {"gateway": gateway, "notify": lambda score, sensors: told.append((score, sensors))})
    want = [event["score"] for event in command_scores(folder, "pump") if event["anomaly"]]
    assert [float(str(np.float32(score))) for score, _ in told] == want and want
    assert all(set(sensors) <= {"s0", "s1", "s2"} for _, sensors in told)


def example() -> ModuleType:
    spec = importlib.util.spec_from_file_location("gateway", GATEWAY)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


async def told_by_gateway(folder: Path) -> dict[str, Scores]:
    """Three machines send at one time, one of them over two connections; every verdict is told as an anomaly."""
    told: dict[str, Scores] = {machine: [] for machine in MACHINES}

    def alert(machine: str, verdict: Any) -> None:
        told[machine].append((verdict.sample, float(str(np.float32(verdict.score)))))

    server = await example().Gateway(str(folder / "student.onnx"), alert, threshold=-1.0).serve(0)
    port = server.sockets[0].getsockname()[1]

    async def send(machine: str, lines: list[str]) -> str:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(f"{machine}\n".encode())
        for line in lines:
            writer.write(line.encode())
            await writer.drain()
            await asyncio.sleep(0)  # the machines take turns
        writer.write_eof()
        answer = await reader.read()  # to the end: all is scored
        writer.close()
        return answer.decode()

    async def machine(name: str) -> None:
        rows = (folder / f"{name}.csv").read_text().splitlines(keepends=True)[1:]
        if name == "fan":
            assert "skipped a line" in await send(name, [*rows[:90], "not,a,sample\n", "1,2\n", rows[90][:3]])
            rows = rows[90:]
        assert await send(name, rows) == ""

    async with server:
        await asyncio.wait_for(asyncio.gather(*map(machine, MACHINES)), PATIENCE_S)
    return told


def test_the_gateway_s_machines_get_the_scores_of_runs_of_their_own(folder: Path) -> None:
    told = asyncio.run(told_by_gateway(folder))
    for machine in MACHINES:
        want = [(event["sample"], event["score"]) for event in command_scores(folder, machine)]
        assert told[machine] == want and len(want) == COUNT // 4 - 1


def test_the_gateway_uses_public_names_only() -> None:
    public = set(edgekd.runtime.__all__)
    assert "Detector" in public
    for node in ast.walk(ast.parse(GATEWAY.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("edgekd"):
            assert node.module == "edgekd.runtime"
            assert {name.name for name in node.names} <= public
        elif isinstance(node, ast.Import):
            assert not [name for name in node.names if name.name.startswith("edgekd")]


def test_the_gateway_says_what_is_wrong_with_a_model(folder: Path) -> None:
    command = [sys.executable, GATEWAY, folder / "pump.csv", "0"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE_S)
    assert done.returncode == 1 and "neither an ONNX nor a TFLite file" in done.stderr
    assert len(done.stderr.splitlines()) == 1
