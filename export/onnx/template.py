"""One graph for all machines of a type: torch's exporter runs once, and each machine's values are put into its place.

Detectors of one configuration differ in their values alone, and the exporter takes seconds for what is the same graph
each time. It is asked twice with made-up values, each of which is there but once: so it shows where each value goes.
What constants alone make is computed when the values are in.
Each file is proven against torch like any other.
"""

from __future__ import annotations

import copy
import hashlib
from dataclasses import dataclass

import numpy as np
import onnx
import onnx_ir
import torch
from onnx import numpy_helper
from torch import Tensor

from edgekd.blocks.step import StepModule
from edgekd.export.onnx.graph import finished, float_graph, raw_graph, strip

MANTISSA = 23
"""Bits of float32: made-up values are odd ones of their 2^23 steps between 1 and 2, which no graph has of itself."""


@dataclass(frozen=True)
class Template:
    """A graph, and of its initializers those that hold a machine's values."""

    graph: onnx.ModelProto
    places: dict[str, np.ndarray]
    """Initializer: for each element the number of its value among all values of the step."""


_known: dict[str, Template | None] = {}


def float_model(step: StepModule, target: str | None = None) -> bytes:
    """Like that of `edgekd.export.onnx`, with the exporter's work done once for all steps of the same making."""
    key = _key(step)
    if key not in _known:
        _known[key] = _template(step)
    template = _known[key]
    return (float_graph(step) if template is None else _filled(template, step)).SerializeToString()


def _key(step: StepModule) -> str:
    """What the graph depends on: the configuration, all shapes, and all that is no float."""
    known = hashlib.sha256(repr((type(step), step.config, step.hop, step.n_sensors, step.state_shapes())).encode())
    for name, tensor in step.state_dict().items():
        known.update(repr((name, tuple(tensor.shape), tensor.dtype)).encode())
        if not _is_value(tensor):
            known.update(tensor.numpy().tobytes())
    return known.hexdigest()


def _is_value(tensor: Tensor) -> bool:
    return tensor.dtype == torch.float32


def _values(step: StepModule) -> list[Tensor]:
    return [tensor for tensor in step.state_dict().values() if _is_value(tensor)]


def _template(step: StepModule) -> Template | None:
    """None where there is none."""
    count = sum(tensor.numel() for tensor in _values(step))
    if count > 2 ** (MANTISSA - 1):
        return None
    graphs, codes = [], []
    for seed in range(2):
        steps = 2 * np.random.default_rng(seed).choice(2 ** (MANTISSA - 1), count, replace=False) + 1
        codes.append((1 + steps / 2**MANTISSA).astype(np.float32))
        twin, left = copy.deepcopy(step), torch.from_numpy(codes[-1])
        for tensor in _values(twin):
            tensor.copy_(left[: tensor.numel()].reshape(tensor.shape))
            left = left[tensor.numel() :]
        graphs.append(onnx_ir.to_proto(raw_graph(twin)))
        strip(graphs[-1])
    places: dict[str, np.ndarray] = {}
    for one, other in zip(*(graph.graph.initializer for graph in graphs)):
        if one.SerializeToString() == other.SerializeToString():
            continue
        at, there = (_found(numpy_helper.to_array(tensor), code) for tensor, code in zip((one, other), codes))
        if one.name != other.name or at is None or there is None or not np.array_equal(at, there):
            return None
        places[one.name] = at
    bare = [_without(graph, set(places)) for graph in graphs]
    return Template(graphs[0], places) if bare[0] == bare[1] else None


def _found(array: np.ndarray, codes: np.ndarray) -> np.ndarray | None:
    """For each element the number of its value among `codes`, of its shape; None where one is not there."""
    order = np.argsort(codes)
    at = order[np.minimum(np.searchsorted(codes, array, sorter=order), len(codes) - 1)]
    return at if array.dtype == np.float32 and (codes[at] == array).all() else None


def _without(graph: onnx.ModelProto, names: set[str]) -> bytes:
    """The rest of a graph."""
    rest = onnx.ModelProto()
    rest.CopyFrom(graph)
    kept = [tensor for tensor in rest.graph.initializer if tensor.name not in names]
    del rest.graph.initializer[:]
    rest.graph.initializer.extend(kept)
    return rest.SerializeToString()


def _filled(template: Template, step: StepModule) -> onnx.ModelProto:
    values = np.concatenate([tensor.detach().numpy().ravel() for tensor in _values(step)])
    model = onnx.ModelProto()
    model.CopyFrom(template.graph)
    for tensor in model.graph.initializer:
        if (place := template.places.get(tensor.name)) is not None:
            tensor.CopyFrom(numpy_helper.from_array(values[place], tensor.name))
    return finished(onnx_ir.from_proto(model))
