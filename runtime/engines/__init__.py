"""The engines that run a step graph: ONNX Runtime, LiteRT, tflite-runtime. A file's content chooses, not its name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from edgekd.runtime.container import format_of
from edgekd.runtime.errors import ModelRefused
from edgekd.runtime.json_fields import shown
from edgekd.runtime.manifest import Manifest

Feeds = Mapping[str, np.ndarray]
Signature = dict[str, tuple[str, tuple[int, ...]]]
"""Name -> (dtype, shape)."""


class Stream(dict[str, np.ndarray]):
    """The feeds of one stream, in arrays that are its own: an engine may bind itself to them and to a second set of
    state, and then return as next state arrays that the step after the next overwrites."""

    bound_to: Engine | None = None
    bindings: dict[tuple[int, ...], Any]
    """By the identities of the arrays, which they keep alive."""


class Engine(Protocol):
    """One loaded step graph. It holds no state, so many streams can share it, from several threads too."""

    name: str  # engine and version, for people

    def run(self, feeds: Feeds) -> Sequence[np.ndarray]:
        """One step.

        feeds: `samples` float32 (hop, n) raw units, `valid` float32 (n,), and each state tensor by its name.
        Returns the manifest's `outputs`, scores float32 () and contributions float32 (n,), then the next state in its
        order; fresh arrays, which no later step changes but for the state of a `Stream`.
        """


def load_engine(model: bytes, manifest: Manifest) -> Engine:
    """For a model file's bytes; raises ModelRefused where graph and manifest disagree, UsageError for the engine."""
    if format_of(model) == "onnx":
        from edgekd.runtime.engines.onnx import OnnxEngine

        return OnnxEngine(model, manifest)
    from edgekd.runtime.engines.tflite import TfliteEngine

    return TfliteEngine(model, manifest)


def check_signature(manifest: Manifest, inputs: Signature, outputs: Signature) -> list[str]:
    """The graph's outputs in the order of `Engine.run`. Raises ModelRefused where they are not the manifest's."""
    n, state = len(manifest.sensors), {spec.name: (spec.dtype, spec.shape) for spec in manifest.state}
    fed: Signature = {"samples": ("float32", (manifest.hop, n)), "valid": ("float32", (n,)), **state}
    returned: Signature = {name: ("float32", () if name.endswith("score") else (n,)) for name in manifest.outputs}
    returned.update((f"next_{name}", tensor) for name, tensor in state.items())
    for side, wanted, given in (("input", fed, inputs), ("output", returned, outputs)):
        for name in sorted({*wanted, *given}):
            where = f"{side} '{shown(name)}'"
            if name not in given:
                raise ModelRefused(f"the graph has no {where}, which the manifest needs; export it again")
            if name not in wanted:
                raise ModelRefused(f"the graph's {where} is not in the manifest; export it again")
            if given[name] != wanted[name]:
                tensors = (f"{dtype} ({', '.join(map(str, shape))})" for dtype, shape in (given[name], wanted[name]))
                found, meant = map(shown, tensors)
                raise ModelRefused(f"{where} is {found} in the graph and {meant} in the manifest; export it again")
    return list(returned)
