"""The engines that run a step graph: ONNX Runtime, LiteRT, tflite-runtime. A file's content chooses, not its name."""

from __future__ import annotations

from edgekd.runtime.container import format_of
from edgekd.runtime.engines.interface import Engine
from edgekd.runtime.manifest import Manifest

__all__ = ["Engine", "load_engine"]


def load_engine(model: bytes, manifest: Manifest) -> Engine:
    """The engine for a model file's bytes.

    Raises ModelRefused where graph and manifest disagree, MissingExtra or UsageError for the engine itself.
    """
    if format_of(model) == "onnx":
        from edgekd.runtime.engines.onnx import OnnxEngine

        return OnnxEngine(model, manifest)
    from edgekd.runtime.engines.tflite import TfliteEngine

    return TfliteEngine(model, manifest)
