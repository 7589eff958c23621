"""The engines that run a step graph: ONNX Runtime, LiteRT, tflite-runtime. A file's content chooses, not its name."""

from __future__ import annotations

from edgekd.runtime.container import container_of
from edgekd.runtime.engines.interface import Engine, Feeds, graph_inputs, graph_outputs
from edgekd.runtime.engines.onnx import OnnxEngine
from edgekd.runtime.engines.tflite import TfliteEngine
from edgekd.runtime.manifest import Manifest

__all__ = ["Engine", "Feeds", "OnnxEngine", "TfliteEngine", "graph_inputs", "graph_outputs", "load_engine"]

_KINDS: dict[str, type[OnnxEngine] | type[TfliteEngine]] = {"onnx": OnnxEngine, "tflite": TfliteEngine}


def load_engine(model: bytes, manifest: Manifest) -> Engine:
    """The engine for a model file's bytes.

    Raises ModelRefused where graph and manifest disagree, MissingExtra or UsageError for the engine itself.
    """
    return _KINDS[container_of(model).name](model, manifest)
