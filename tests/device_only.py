"""Runs Python code where nothing but the device install can be imported."""

from __future__ import annotations

import subprocess
import sys

from device import ROOT

ENGINES = {"onnx": "onnxruntime", "tflite": "ai_edge_litert"}
# all that the device install brings, with one of the engines; what the engine's package brings beyond is not needed
ALLOWED = {"edgekd", "numpy", "click", *sys.stdlib_module_names}
ALLOW_ONLY = """
import sys
allowed = set({allowed!r})
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] not in allowed:
            raise ModuleNotFoundError(f"blocked: {{name}}", name=name)
sys.meta_path.insert(0, Block())
"""


def python(code: str, *arguments: object, engine: str = "") -> str:
    program = ALLOW_ONLY.format(allowed=sorted({*ALLOWED, engine})) + code
    command = [sys.executable, "-c", program, *map(str, arguments)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout
