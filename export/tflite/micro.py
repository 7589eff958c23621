"""TensorFlow Lite Micro: a model in its own interpreter, as an engine for the gate, and the memory that it takes there.

What Micro has no operator for it refuses; what it computes wrongly it computes without a word, dynamic int8 for one.
"""

from __future__ import annotations

import contextlib
import os
import re
import tempfile
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from edgekd.export.describe import SELF_TEST_SEED, SELF_TEST_STEPS
from edgekd.export.tflite.flatbuffer import unpacked
from edgekd.runtime.engines import Engine, Feeds
from edgekd.runtime.errors import GateFailed, MissingExtra
from edgekd.runtime.manifest import Manifest
from edgekd.runtime.selftest import self_test_scores

LARGEST_ARENA_KIB = 16 * 1024
TOLERANCE = 1e-3  # |score - LiteRT's| of the threshold, over the steps of a self-test


class MicroEngine:
    """One interpreter; see `edgekd.runtime.engines.Engine`."""

    def __init__(self, model: bytes, manifest: Manifest) -> None:
        """Raises MissingExtra, and GateFailed where Micro does not take the model."""
        try:
            from tflite_micro import runtime
        except ModuleNotFoundError:
            raise MissingExtra("tflite-micro", "tflm") from None
        self.name = "tflite-micro"
        self.arena_bytes = 1024 * _smallest_arena_kib(runtime.Interpreter.from_bytes, model)
        self._interpreter = runtime.Interpreter.from_bytes(model, arena_size=self.arena_bytes)
        (graph,) = unpacked(model).subgraphs
        inputs, outputs = (
            [graph.tensors[index].name.decode() for index in side] for side in (graph.inputs, graph.outputs)
        )
        state = list(manifest.cold_state())
        self._inputs = inputs
        self._outputs = [outputs.index(name) for name in (*manifest.outputs, *(f"next_{name}" for name in state))]
        self._shapes = [() if name.endswith("score") else None for name in manifest.outputs] + [None] * len(state)

    def run(self, feeds: Feeds) -> Sequence[np.ndarray]:
        """See `Engine.run`."""
        for index, name in enumerate(self._inputs):
            self._interpreter.set_input(np.ascontiguousarray(feeds[name]), index)
        self._interpreter.invoke()
        found = [np.array(self._interpreter.get_output(index)) for index in self._outputs]
        return [array if shape is None else array.reshape(shape) for array, shape in zip(found, self._shapes)]

    def require_same(self, other: Engine, manifest: Manifest) -> None:
        """Raise GateFailed unless its scores are those of another engine."""
        mine, theirs = (
            np.array(self_test_scores(engine, manifest, SELF_TEST_SEED, SELF_TEST_STEPS)) for engine in (self, other)
        )
        error = float(np.max(np.abs(mine - theirs) / np.maximum(np.abs(theirs), abs(manifest.threshold.value))))
        if not error <= TOLERANCE:
            raise GateFailed(
                f"parity: TensorFlow Lite Micro scores it {error:.2g} off {other.name}, allowed is {TOLERANCE:g}; "
                "export it without --int8"
            )


def _smallest_arena_kib(make: Any, model: bytes) -> int:
    """The smallest arena that the model runs in; raises GateFailed where it runs in none."""
    with _standard_error() as said:
        if not _runs(make, model, LARGEST_ARENA_KIB):
            lacking = re.findall(r"opcode '(\w+)'", said())
            why = f"has no operator {lacking[0]}" if lacking else f"cannot run it ({' '.join(said().split())[:200]})"
            raise GateFailed(f"TensorFlow Lite Micro {why}; take another preset or method, or a board that runs LiteRT")
        too_small, enough = 0, LARGEST_ARENA_KIB
        while enough - too_small > 1:
            middle = (too_small + enough) // 2
            too_small, enough = (too_small, middle) if _runs(make, model, middle) else (middle, enough)
    return enough


def _runs(make: Any, model: bytes, arena_kib: int) -> bool:
    try:
        make(model, arena_size=1024 * arena_kib).invoke()
    except (RuntimeError, ValueError):
        return False
    return True


@contextlib.contextmanager
def _standard_error() -> Iterator[Any]:
    """Nothing reaches standard error, to which Micro tells what is wrong; yields what reads it."""
    with tempfile.TemporaryFile() as file:
        kept = os.dup(2)
        os.dup2(file.fileno(), 2)

        def said() -> str:
            file.seek(0)
            return file.read().decode(errors="replace")

        try:
            yield said
        finally:
            os.dup2(kept, 2)
            os.close(kept)
