"""Every file that could be written for one student: made, proven, timed and judged, each when it is asked for."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from edgekd.blocks.step import StepModule
from edgekd.checkpoint import Checkpoint
from edgekd.data.recording import Recording
from edgekd.evaluation.score_model import ModelScores
from edgekd.export import describe
from edgekd.export.detection import Detection, detect
from edgekd.export.embed import embed
from edgekd.export.formats import room
from edgekd.export.gate import float_misses, int8_misses
from edgekd.export.parity import STEPS, Parity, Reference, prove
from edgekd.export.scheme import Scheme
from edgekd.export.tflite import MICRO
from edgekd.runtime.detector import Detector
from edgekd.runtime.engines import Engine, Stream, load_engine
from edgekd.runtime.errors import EdgeKDError, GateFailed
from edgekd.runtime.guard import admit
from edgekd.runtime.manifest import Manifest

FLOAT = "float32"
TIMED_S = 1.0  # steps are timed for about so long ...
ROUNDS = (40, 400)  # ... in at least and at most so many rounds


@dataclass(frozen=True)
class Candidate:
    """One file that could be written, and how it compares."""

    scheme: str
    """FLOAT, or the int8 scheme's name."""
    content: bytes
    manifest: Manifest
    parity: Parity
    step_us: float
    """Median step in the engine on this machine, microseconds."""
    step_ratio: float
    """Of a step of the float file: median over rounds in which both took their turn."""
    detection: Detection | None
    """On labeled data, where they were given."""
    misses: str
    """Why the accuracy gate does not let it through; empty where it does."""

    def to_json(self) -> dict[str, Any]:
        """What was measured, JSON-able."""
        return {
            "scheme": self.scheme,
            "quantization": self.manifest.quantization.scheme,
            "file_bytes": len(self.content),
            "step_us": self.step_us,
            "step_ratio": self.step_ratio,
            "threshold": self.manifest.threshold.value,
            "parity": self.parity.to_json(),
            "detection": None if self.detection is None else self.detection.to_json(),
            "misses": self.misses,
        }


class Workshop:
    """Makes the files of one student in one format; what they share is made once."""

    def __init__(
        self,
        checkpoint: Checkpoint,
        format: str = "onnx",
        target: str | None = None,
        *,
        labeled: Recording | None = None,
        steps: int = STEPS,
        reference: Reference | None = None,
        timed_s: float | None = None,
        convert: Callable[[StepModule, str | None], bytes] | None = None,
        doing: Callable[[str], None] = lambda text: None,
    ) -> None:
        """reference: what torch computes, where the workshop of another format knows it already. timed_s: about how
        long steps are timed for. convert: another way to the float model. doing: called with what is being done."""
        self.step, self.replay, self.labeled = checkpoint.step(), checkpoint.replay(), labeled
        self._room, self._target = room(format), target
        known: dict[str, Scheme] = self._room.schemes(target)
        alone = bool(self.step.matrix_weights)
        self.schemes = {name: scheme for name, scheme in known.items() if scheme.weights_alone or not alone}
        self._manifest = describe.described(checkpoint, self.step)
        self._convert = convert or self._room.float_model
        self._steps, self._reference, self._timed_s, self._doing = steps, reference, timed_s, doing

    @cached_property
    def reference(self) -> Reference:
        """What torch computes over the replay stretch."""
        self._doing(f"torch goes through {self._steps:,} steps")
        return self._reference or Reference(self.step, self.replay, self._manifest.threshold.value, self._steps)

    @cached_property
    def float(self) -> Candidate:
        """The float file."""
        self._doing(f"the float file goes through {self._steps:,} steps")
        parity = prove(self.reference, self.float_engine)
        found = self._float_detection
        us, ratio = step_times(self.float_engine, None, self._manifest, self.replay.values, self._timed_s)
        return self._packed(
            FLOAT, self._float_model, self.float_engine, self._manifest, parity,
            step_us=us, step_ratio=ratio, detection=found and found[0], misses=float_misses(parity),
        )  # fmt: skip

    def int8(self, scheme: Scheme) -> Candidate | None:
        """The int8 file by a scheme; None where there is nothing to quantize.

        Raises GateFailed or ModelRefused where it cannot be made, or not be run by its engine.
        """
        model = self._quantized(scheme)
        if model == self._float_model:
            return None
        manifest = describe.quantized(self._manifest, scheme)
        engine = self._loaded(model, manifest)
        self._doing(f"the int8 file by '{scheme.name}' goes through {self._steps:,} steps")
        parity = prove(self.reference, engine, int8=True)
        manifest = describe.refitted(manifest, parity)
        detection = of_float = None
        if self.labeled is not None and self._float_detection is not None:
            of_float, scores = self._float_detection
            detection, _ = detect(Detector(engine, manifest), self.labeled, scores)
        us, ratio = step_times(engine, self.float_engine, manifest, self.replay.values, self._timed_s)
        return self._packed(
            scheme.name, model, engine, manifest, parity,
            step_us=us, step_ratio=ratio, detection=detection, misses=int8_misses(parity, detection, of_float),
        )  # fmt: skip

    @cached_property
    def _float_model(self) -> bytes:
        self._doing("converting the student")
        return self._convert(self.step, self._target)

    @cached_property
    def float_engine(self) -> Engine:
        """The float file, loaded."""
        return self._loaded(self._float_model, self._manifest)

    def _loaded(self, model: bytes, manifest: Manifest) -> Engine:
        """A model in the engine that it is meant for."""
        content = embed(model, manifest)
        engine = load_engine(content, manifest)
        if self._target != MICRO:
            return engine
        from edgekd.export.tflite.micro import MicroEngine

        micro = MicroEngine(content, manifest)
        micro.require_same(engine, manifest)
        return micro

    @cached_property
    def _float_detection(self) -> tuple[Detection, ModelScores] | None:
        if self.labeled is None:
            return None
        self._doing(f"scoring {self.labeled.source}")
        return detect(Detector(self.float_engine, self._manifest), self.labeled)

    def _quantized(self, scheme: Scheme) -> bytes:
        self._doing(f"quantizing by '{scheme.name}'")
        try:
            return scheme.quantize(self._float_model, self.step, self.step.calibration(self.replay))
        except (EdgeKDError, MemoryError):
            raise
        except Exception as error:  # the quantizers' own, of many kinds
            words = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
            raise GateFailed(f"cannot be made of this student ({words})") from error

    def _packed(
        self, scheme: str, model: bytes, engine: Engine, manifest: Manifest, parity: Parity, **measured: Any
    ) -> Candidate:
        """The file with all that was measured in its manifest."""
        manifest = describe.proven(manifest, engine, parity)
        if arena_bytes := getattr(engine, "arena_bytes", 0):
            manifest = replace(manifest, metrics={**manifest.metrics, "arena_bytes": arena_bytes})
        detection: Detection | None = measured["detection"]
        if detection is not None:
            manifest = replace(manifest, metrics={**manifest.metrics, "detection": detection.to_json()})
        content = embed(model, manifest)
        admit(content, try_first=False)  # what a device would refuse is not handed out
        return Candidate(scheme, content, manifest, parity, **measured)


def step_times(
    engine: Engine, other: Engine | None, manifest: Manifest, values: np.ndarray, timed_s: float | None = None
) -> tuple[float, float]:
    """Median microseconds of a step, and its ratio to the other engine's (1.0 without one)."""
    times = in_turn([engine] if other is None else [engine, other], manifest, values, timed_s)
    return float(np.median(times[:, 0]) * 1e6), float(np.median(times[:, 0] / times[:, -1]))


def in_turn(
    engines: Sequence[Engine], manifest: Manifest, values: np.ndarray, timed_s: float | None = None
) -> np.ndarray:
    """Seconds of a step, (rounds, engines): they take turns, so that a slow moment of the machine hits all.

    timed_s: about how long that takes, None for TIMED_S.
    """
    given = {"samples": np.ascontiguousarray(values[: manifest.hop]), "valid": np.ones(values.shape[1], np.float32)}
    turns = [(engine, Stream(manifest.cold_state() | given)) for engine in engines]

    def one_round() -> list[float]:
        seconds = []
        for engine, feeds in turns:
            started = time.perf_counter()
            engine.run(feeds)
            seconds.append(time.perf_counter() - started)
        return seconds

    slow = sum(np.median([one_round() for _ in range(5)], axis=0))  # lazy kernels and cold caches are over after these
    return np.array([one_round() for _ in range(int(np.clip((timed_s or TIMED_S) / slow, *ROUNDS)))])
