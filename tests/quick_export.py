"""Exports of the shared student without the minutes that a real one takes; `conftest.py` makes a fixture of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest

from edgekd.checkpoint import Checkpoint
from edgekd.export import candidate, fastest, parity
from edgekd.export import onnx as room
from edgekd.export.scheme import Scheme


def short_reference(student: Path) -> parity.Reference:
    """A short replay of a student in torch."""
    checkpoint = Checkpoint.load(student)
    return parity.Reference(checkpoint.step(), checkpoint.replay(), checkpoint.threshold["value"], steps=80)


def install(float32: Path, reference: parity.Reference, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let `export` take the graph of a file that is there, a short replay, and int8 schemes that are made up.

    "exact" computes what float does, "coarse" what a student with rounded weights would, "wrong" and "unmade" nothing.
    """
    model = bare(float32)
    monkeypatch.setattr(room, "float_model", lambda step, target: model)
    monkeypatch.setattr(candidate, "Reference", lambda *given: reference)
    monkeypatch.setattr(candidate, "TIMED_S", 0.05)
    monkeypatch.setattr(fastest, "ROOMS", {"onnx": ""})
    made_up = {
        "coarse": rounded(0.3),
        "wrong": rounded(0.3, "mahalanobis."),
        "unmade": unmade,
        "exact": rounded(0.0),
    }
    schemes = {name: Scheme(name, f"int8 {name}", quantize) for name, quantize in made_up.items()}
    monkeypatch.setattr(room, "schemes", lambda target: schemes)


def bare(file: Path) -> bytes:
    """The graph of an exported file without its manifest."""
    graph = onnx.load(file)
    del graph.metadata_props[:]
    return graph.SerializeToString()


def rounded(to: float, part: str = "network.") -> Callable[..., bytes]:
    """A scheme that rounds the weights in a part of the float model to multiples of `to` of the largest."""

    def quantize(model: bytes, *_: object) -> bytes:
        graph = onnx.load_from_string(model)
        graph.doc_string = "int8"
        for tensor in graph.graph.initializer:
            if to and tensor.name.startswith(part) and tensor.name.endswith(("weight", "whiten")):
                weight = onnx.numpy_helper.to_array(tensor)
                step = np.float32(to * np.abs(weight).max())
                tensor.CopyFrom(onnx.numpy_helper.from_array(np.round(weight / step) * step, tensor.name))
        return graph.SerializeToString()

    return quantize


def unmade(*_: object) -> bytes:
    raise RuntimeError("no kernel for Foo\nsecond line")
