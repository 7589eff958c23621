"""What the figures were measured on."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

PACKAGES = ("edgekd", "numpy", "onnxruntime", "ai-edge-litert", "tflite-runtime", "torch")
INSTRUCTIONS = ("avx2", "avx512f", "avx_vnni", "avx512_vnni", "amx_int8", "asimd", "asimddp", "i8mm")
"""Those that decide how fast int8 and float products are."""


def machine() -> dict[str, Any]:
    """CPU, cores, system, versions and how busy it was, JSON-able."""
    model, flags = _cpu()
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "cpu": model,
        "instructions": [name for name in INSTRUCTIONS if name in flags],
        "cores": os.cpu_count(),
        "cores_usable": usable,
        "load_1min": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": platform.python_version(),
        "versions": {name: found for name in PACKAGES if (found := _version(name))},
    }


def in_words(about: dict[str, Any]) -> str:
    """Two lines for people."""
    versions = ", ".join(f"{name} {found}" for name, found in about["versions"].items())
    instructions = f" ({', '.join(about['instructions'])})" if about["instructions"] else ""
    load = "" if about["load_1min"] is None else f", load {about['load_1min']:g}"
    return (
        f"{about['cpu']}{instructions}, {about['cores_usable']} of {about['cores']} cores{load}\n"
        f"{about['system']}, Python {about['python']}, {versions}"
    )


def _cpu() -> tuple[str, frozenset[str]]:
    """Name and flags; Linux tells them in /proc/cpuinfo, an ARM board its name in the device tree."""
    entries: dict[str, str] = {}
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text(errors="replace").splitlines():
            key, _, value = line.partition(":")
            entries.setdefault(key.strip(), value.strip())
    board = Path("/proc/device-tree/model")
    name = entries.get("model name") or (board.read_text().rstrip("\0") if board.exists() else "")
    flags = entries.get("flags") or entries.get("Features") or ""
    return name or platform.processor() or platform.machine(), frozenset(flags.split())


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
