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

ARENA_BYTES = 64 * 2**20  # no model for a microcontroller comes near; one that is too small may kill the process
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
        self._interpreter, self.arena_bytes = _loaded(runtime.Interpreter.from_bytes, model)
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


def _loaded(make: Any, model: bytes) -> tuple[Any, int]:
    """The interpreter and the bytes of its arena that are used; raises GateFailed where Micro cannot run it."""
    with _standard_error() as said:
        try:
            interpreter = make(model, arena_size=ARENA_BYTES)
            interpreter.invoke()
        except (RuntimeError, ValueError):
            lacking = re.findall(r"opcode '(\w+)'", said())
            why = f"has no operator {lacking[0]}" if lacking else f"cannot run it ({' '.join(said().split())[:200]})"
            mend = "take another preset or method, or a board that runs LiteRT"
            raise GateFailed(f"TensorFlow Lite Micro {why}; {mend}") from None
        interpreter.print_allocations()
        (used,) = re.findall(r"allocation total (\d+) bytes", said())
    return interpreter, int(used)


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
