"""What an engine is, and what of a graph must agree with the manifest before it runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np

from edgekd.runtime.errors import ModelRefused
from edgekd.runtime.json_fields import shown
from edgekd.runtime.manifest import Manifest

Feeds = Mapping[str, np.ndarray]
Signature = dict[str, tuple[str, tuple[int, ...]]]
"""Name -> (dtype, shape)."""


class Engine(Protocol):
    """One loaded step graph. It holds no state, so many streams can share it, from several threads too."""

    name: str
    """Engine and version, for people."""

    def run(self, feeds: Feeds) -> Sequence[np.ndarray]:
        """One step.

        feeds: `samples` float32 (hop, n) raw units, `valid` float32 (n,), and each state tensor by its name.
        Returns score float32 (), contributions float32 (n,), then the next state in the manifest's order; fresh arrays,
        which no later step changes.
        """


def graph_inputs(manifest: Manifest) -> Signature:
    """Every graph input that the manifest implies."""
    n = len(manifest.sensors)
    state = {s.name: (s.dtype, s.shape) for s in manifest.state}
    return {"samples": ("float32", (manifest.hop, n)), "valid": ("float32", (n,)), **state}


def graph_outputs(manifest: Manifest) -> Signature:
    """Every graph output, in the order in which `Engine.run` returns them."""
    state = {f"next_{s.name}": (s.dtype, s.shape) for s in manifest.state}
    return {"score": ("float32", ()), "contributions": ("float32", (len(manifest.sensors),)), **state}


def compare(side: str, wanted: Signature, given: Signature) -> None:
    """Refuse a graph whose inputs or outputs (`side`) are not those of the manifest."""
    for name in sorted({*wanted, *given}):
        if name not in given:
            raise ModelRefused(f"the graph has no {side} '{shown(name)}', which the manifest needs; export it again")
        if name not in wanted:
            raise ModelRefused(f"the graph's {side} '{shown(name)}' is not in the manifest; export it again")
        if given[name] != wanted[name]:
            raise ModelRefused(
                f"{side} '{shown(name)}' is {_words(*given[name])} in the graph and {_words(*wanted[name])} in the"
                " manifest; export it again"
            )


def _words(dtype: str, shape: tuple[int, ...]) -> str:
    return shown(f"{dtype} ({', '.join(map(str, shape))})")
