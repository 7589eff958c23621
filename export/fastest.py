"""Which kind of file is the fastest for a student on this machine, timed in turn."""

from __future__ import annotations

import numpy as np

from edgekd.checkpoint import Checkpoint
from edgekd.export.candidate import FLOAT, Workshop, in_turn
from edgekd.export.exporter import TIE, Exported
from edgekd.export.formats import ROOMS
from edgekd.runtime.engines import load_engine
from edgekd.runtime.errors import EdgeKDError

NAMES = {"onnx": "ONNX", "tflite": "TFLite"}


def step_us(checkpoint: Checkpoint, done: Exported, format: str) -> dict[str, float]:
    """Median step, microseconds, of the file that was written, the first, and of the float file in every format.

    A format that this machine has no exporter or no engine for is left out.
    """
    engines = {f"{NAMES[format]} {_kind(done)}": load_engine(done.written.content, done.manifest)}
    for other in ROOMS:
        try:
            engines.setdefault(f"{NAMES[other]} {FLOAT}", Workshop(checkpoint, other).float_engine)
        except EdgeKDError:
            continue
    times = in_turn(list(engines.values()), done.manifest, checkpoint.replay().values)
    return dict(zip(engines, (np.median(times, axis=0) * 1e6).tolist()))


def in_words(us: dict[str, float]) -> str:
    """The fastest of them in a line; what was written, the first, is as good within the noise."""
    written, best = next(iter(us)), min(us, key=lambda name: us[name])
    figures = "µs a step: " + ", ".join(f"{name} {value:,.0f}" for name, value in us.items())
    if us[written] <= TIE * us[best]:
        return f"fastest on this machine: {written}, which was written ({figures})"
    way = f"with --format {best.split()[0].lower()}" if best.split()[0] != written.split()[0] else "without --int8"
    return f"fastest on this machine: {best}, {us[best] / us[written]:.2f} of {written}; export {way} ({figures})"


def _kind(done: Exported) -> str:
    return FLOAT if done.written is done.float else "int8"
