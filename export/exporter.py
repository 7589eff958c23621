"""The export itself: float or int8 by a scheme, through the gate; a file appears only when all of it holds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgekd.blocks.step import StepModule
from edgekd.checkpoint import Checkpoint
from edgekd.data.recording import Recording
from edgekd.export.candidate import Candidate, Workshop
from edgekd.export.parity import STEPS, Parity
from edgekd.runtime.errors import GateFailed, ModelRefused, UsageError
from edgekd.runtime.files import atomic
from edgekd.runtime.manifest import Manifest

DEFAULT, AUTO = "default", "auto"
TIE = 1.05  # what lies within so much of the best is as good: times are noisy, bytes are the manifest's

Say = Callable[[str], None]
Convert = Callable[[StepModule, str | None], bytes]


@dataclass(frozen=True)
class Exported:
    """What was written, and what it was chosen from."""

    path: Path
    written: Candidate
    float: Candidate
    """The float file of the same student."""
    tried: tuple[Candidate, ...]
    """The int8 files that were made, in the order of trying."""

    @property
    def manifest(self) -> Manifest:
        return self.written.manifest

    @property
    def parity(self) -> Parity:
        return self.written.parity

    @property
    def file_bytes(self) -> int:
        return len(self.written.content)


def export(
    checkpoint: Checkpoint,
    output: Path,
    *,
    format: str = "onnx",
    int8: str | None = None,
    target: str | None = None,
    labeled: Recording | None = None,
    force: bool = False,
    steps: int = STEPS,
    timed_s: float | None = None,
    convert: Convert | None = None,
    say: Say = lambda line: None,
    doing: Say = lambda text: None,
) -> Exported:
    """Write `output`; raises GateFailed, and leaves no file, where it is not what was trained (`force` writes it).

    int8: a scheme of the format, "default" for its first, "auto" for the fastest that the gate lets through. A student
    in which there is nothing to quantize is written in float.
    target: the engine that a TFLite file is meant for.
    labeled: a recording on which the gate compares what int8 and float detect.
    steps: length of the closed-loop proof. timed_s: about how long steps are timed for, None as long as is usual.
    convert: another way to the float model than the format's own, such as `edgekd.export.onnx.template.float_model`.
    say: called with one line for each int8 file that was tried; doing: with what is being done, in a few words.
    """
    if target is not None and format == "onnx":
        raise UsageError(f"--target {target}: an ONNX file has one engine, ONNX Runtime; leave --target out")
    workshop = Workshop(
        checkpoint, format, target, labeled=labeled, steps=steps, timed_s=timed_s, convert=convert, doing=doing
    )
    if workshop.float.misses and not force:  # an int8 file of a wrong graph would be wrong as well
        raise GateFailed(
            f"parity: {workshop.float.misses}; this is a bug of the export, --force writes the file for a look at it"
        )
    trial = Trial(workshop, say)
    written = workshop.float if int8 is None else trial.choose(int8, force) or workshop.float
    _write(output, written.content)
    return Exported(output, written, workshop.float, tuple(trial.made.values()))


class Trial:
    """The choice of an int8 scheme: each is tried at most once, and one line is said of it."""

    def __init__(self, workshop: Workshop, say: Say = lambda line: None) -> None:
        self._workshop, self._say = workshop, say
        self.made: dict[str, Candidate] = {}
        self.reasons: dict[str, str] = {}
        """Why a scheme does not hold, for those that do not."""

    def choose(self, name: str = DEFAULT, force: bool = False) -> Candidate | None:
        """The int8 file by a scheme, "default" or "auto"; None where there is nothing to quantize.

        Raises GateFailed, which says what to use instead, where the gate lets none through; `force` does.
        """
        known = list(self._workshop.schemes)
        if not known:
            return None
        if name not in (DEFAULT, AUTO, *known):
            raise UsageError(
                f"--int8 {name}: this detector has no such scheme here; give one of auto, {', '.join(known)}"
            )
        return (
            self._fastest(known, force) if name == AUTO else self._named(known[0] if name == DEFAULT else name, force)
        )

    def _named(self, name: str, force: bool) -> Candidate | None:
        if not self._holds(name) and not (force and name in self.made):
            others = (other for other in self._workshop.schemes if other != name)
            instead = next((other for other in others if self._holds(other)), None)
            use = "no other scheme holds: export without --int8" if instead is None else f"use --int8 {instead}"
            raise GateFailed(f"parity: int8 by '{name}': {self.reasons[name]}; {use} (--force writes it for a look)")
        return self.made.get(name)

    def _fastest(self, names: list[str], force: bool) -> Candidate | None:
        """The fastest of those that hold; of equals the smallest; of equals the closest to torch."""
        holding = [name for name in names if self._holds(name)]
        passed = [self.made[name] for name in holding if name in self.made]
        if passed:
            fastest = _near_best(passed, lambda candidate: candidate.step_ratio)
            smallest = _near_best(fastest, lambda candidate: len(candidate.content))
            return min(smallest, key=lambda candidate: candidate.parity.max_score_error)
        if holding:
            return None
        if force and self.made:
            return max(self.made.values(), key=lambda c: np.nan_to_num(c.parity.rank_correlation, nan=-1.0))
        reasons = "; ".join(f"{name}: {reason}" for name, reason in self.reasons.items())
        raise GateFailed(f"parity: no int8 scheme holds ({reasons}); export without --int8, in float")

    def _holds(self, name: str) -> bool:
        """Make the file by this scheme and ask the gate. A file with nothing to quantize holds, and is not made."""
        if name not in self.made and name not in self.reasons:
            try:
                candidate = self._workshop.int8(self._workshop.schemes[name])
            except (GateFailed, ModelRefused) as error:
                self.reasons[name] = str(error).removeprefix("parity: ")
                self._say(f"{name}: refused, {self.reasons[name]}")
            else:
                if candidate is None:
                    return True
                self.made[name] = candidate
                if candidate.misses:
                    self.reasons[name] = candidate.misses
                self._say(in_a_line(candidate))
        return name not in self.reasons


def _near_best(candidates: list[Candidate], cost: Callable[[Candidate], float]) -> list[Candidate]:
    limit = TIE * min(map(cost, candidates))
    return [candidate for candidate in candidates if cost(candidate) <= limit]


def in_a_line(candidate: Candidate) -> str:
    """One int8 file for people."""
    parity = candidate.parity
    return (
        f"{candidate.scheme}: {f'refused, {candidate.misses}' if candidate.misses else 'holds'}; "
        f"{len(candidate.content):,} bytes, step {candidate.step_us:.0f} µs ({candidate.step_ratio:.2f} of float), "
        f"Spearman {parity.rank_correlation:.5f}, {parity.changed_decisions:.2%} of decisions changed"
    )


def _write(path: Path, content: bytes) -> None:
    """The whole file or none; one that was there before stays until then."""
    try:
        with atomic(path) as file:
            file.write(content)
    except OSError as error:
        raise GateFailed(f"{path}: cannot be written ({error.strerror}); choose another place with -o") from None
