"""Result files: JSON under bench/results/, each with its figures, the command, versions and the machine."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import sys
import time
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from edgekd.runtime.files import atomic

RESULTS = Path(__file__).parent / "results"
WORK = Path(__file__).parent / "trained"
"""Checkpoints and exported files, not committed."""
PACKAGES = ("torch", "onnx", "onnxruntime", "numpy", "scikit-learn")


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    model = platform.processor()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        lines = cpuinfo.read_text().splitlines()
        model = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), model)
        flags = next((line for line in lines if line.startswith("flags")), "")
        model += "".join(f" {flag}" for flag in ("avx2", "avx512f", "avx512_vnni", "amx_tile") if f" {flag}" in flags)
    return {"cpu": model, "cores": os.cpu_count(), "system": f"{platform.system()} {platform.machine()}"}


def save(name: str, figures: Any, **facts: Any) -> Path:
    """Write bench/results/NAME.json; `facts` are seeds, settings and the like."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    module = sys.modules["__main__"].__spec__.name.removesuffix(".__main__")  # of `python -m MODULE`
    content = {
        # where data and models lie is the machine's own business
        "command": " ".join([f"python -m {module}", *(a for a in sys.argv[1:] if "/" not in a)]),
        "machine": machine(),
        "versions": {"python": platform.python_version(), **{package: version(package) for package in PACKAGES}},
        **facts,
        "figures": figures,
    }
    write_json(path, content)
    print(f"wrote {path.relative_to(Path.cwd())}")
    return path


def write_json(path: Path, content: Any) -> None:
    """A result that a kill leaves whole, as it was before or as it is now."""
    with atomic(path) as file:
        file.write((json.dumps(content, indent=1) + "\n").encode())


def kept(name: str) -> Any:
    """The figures of bench/results/NAME.json, or nothing."""
    path = RESULTS / f"{name}.json"
    return json.loads(path.read_text())["figures"] if path.exists() else {}


def in_turn(
    name: str, parts: Mapping[str, Callable[[Path], dict[str, Any]]], wanted: Callable[[str], bool], **known: Any
) -> None:
    """Measure the wanted parts, each in an empty folder, print them, and save them beside those of before."""
    figures = kept(name) | known
    for part, measure in parts.items():
        if wanted(part):
            with TemporaryDirectory() as folder:
                began = time.monotonic()
                figures[part] = measure(Path(folder)) | {"took_s": round(time.monotonic() - began, 1)}
            print(f"{part}: {figures[part]}", flush=True)
            save(name, figures)


def digest(about: Any) -> str:
    """Of what a cell depends on, JSON-able: a changed setting is another cell, an unchanged one is never run again."""
    return hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:12]


def changed(config: Any) -> dict[str, Any]:
    """The settings that are not at their defaults: one that is new to the code leaves the cells as they are that do
    not use it."""
    default = type(config)()
    return {name: value for name, value in vars(config).items() if value != getattr(default, name)}


def rounded(figures: Any) -> Any:
    """Numbers to six digits: files that people may read."""
    if isinstance(figures, dict):
        return {key: rounded(value) for key, value in figures.items()}
    if isinstance(figures, (list, tuple)):
        return [rounded(value) for value in figures]
    return float(f"{figures:.6g}") if isinstance(figures, float) else figures


def table(rows: list[dict[str, Any]]) -> str:
    """Rows of figures as a markdown table; the first row names the columns."""
    columns = list(rows[0])
    lines = ["| " + " | ".join(columns) + " |", "|" + " --- |" * len(columns)]
    for row in rows:
        lines.append("| " + " | ".join(_cell(row.get(column, "")) for column in columns) + " |")
    return "\n".join(lines)


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.3g}" if abs(value) < 0.01 else f"{value:.3f}" if abs(value) < 100 else f"{value:.0f}"
    return str(value)
