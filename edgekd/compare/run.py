"""The whole comparison in one run: load, prove, time in turn, start afresh, measure quality."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from edgekd.compare import fresh, parity
from edgekd.compare.machine import machine
from edgekd.compare.subjects import KINDS, Subject, load_subjects, samples_for, teacher_of
from edgekd.compare.timing import ROUNDS, Timing, in_turn
from edgekd.data.recording import Recording
from edgekd.runtime.errors import UsageError
from edgekd.threads import one_thread

STARTS = 3  # cold starts of each, in turn; the median counts
PROTOCOL = {
    "step": "one step of the whole detector with its state handed back, one thread, engines in turn; median of the "
    "rounds' medians, p99 over all steps; a teacher's step is one complete window of its network",
    "ratio": "median over the rounds of step time over the teacher's in the same round",
    "start": "a process of its own, files cached: interpreter, imports, model, self-test, one step",
    "memory": "peak resident memory of that process after some more steps",
    "multiply_adds": "convolutions, matrix products and recurrences of one step",
}
Say = Callable[[str], None]


def bench(
    files: Sequence[Path],
    *,
    teacher: Path | None = None,
    recording: Recording | None = None,
    rounds: int = ROUNDS,
    starts: int = STARTS,
    steps: int = parity.STEPS,
    say: Say = lambda text: None,
) -> dict[str, Any]:
    """Measure everything in these files side by side: a JSON-able dict with `machine`, `protocol`, `rows`, `notes`.

    A student.pt brings its float and int8 exports in every format along. recording: fed to the engines where its
    sensors fit, and with labels the ground of the quality figures. steps: consecutive steps over which all are
    compared, each model goes through them once. say: called with what is being done. Raises UsageError, ModelRefused,
    GateFailed (a self-test, a process that dies).
    """
    if rounds < 1 or starts < 0 or steps < 1:
        raise UsageError(f"{rounds} rounds, {starts} starts, {steps} steps; give at least 1 round and 1 step")
    with TemporaryDirectory() as folder:
        say("loading and exporting")
        subjects, notes = load_subjects(files, teacher, Path(folder))
        require_sensors(subjects, recording)
        say(f"checking over {steps:,} steps that {len(subjects)} models compute the same")
        with one_thread():
            proofs = parity.check(subjects, recording, steps)
        for subject in subjects:
            subject.feed(samples_for(subject, subjects, recording))
        say(f"timing {rounds} rounds in turn")
        timings = in_turn(subjects, rounds)
        say("starting each in a process of its own")
        fresh_starts = _starts(subjects, starts)
        rows = [
            _row(subject, timing, proof, start)
            for subject, timing, proof, start in zip(subjects, timings, proofs, fresh_starts)
        ]
        _compare_with_teachers(rows, subjects, timings)
        notes += _fastest(subjects, timings)
        if recording is not None:
            for row, subject in zip(rows, subjects):
                say(f"scoring {recording.source or 'the recording'} with {subject.name}")
                row["quality"] = quality(subject.path, recording)
        about = {"source": recording.source, "samples": len(recording)} if recording is not None else None
        return {"machine": machine(), "protocol": PROTOCOL, "data": about, "rows": rows, "notes": notes}


def _fastest(subjects: Sequence[Subject], timings: Sequence[Timing]) -> list[str]:
    """A line for each student of which several files were timed."""
    by_student: dict[str, list[tuple[float, str]]] = {}
    for subject, timing in zip(subjects, timings):
        if subject.kind in KINDS:
            by_student.setdefault(subject.digest, []).append((timing.p50_us, subject.name))
    return [f"fastest on this machine: {min(files)[1]}" for files in by_student.values() if len(files) > 1]


def parity_holds(result: dict[str, Any]) -> bool:
    """Whether every float file computes what its student does, within its tolerance."""
    proofs = [row["parity"] for row in result["rows"] if row["kind"] == "float32" and row["parity"]]
    return all(proof["max_score_error"] <= parity.FLOAT_TOLERANCE for proof in proofs)


def require_sensors(subjects: Sequence[Subject], recording: Recording | None) -> None:
    """Raise UsageError where a recording lacks a subject's sensors: it could neither be fed nor scored."""
    for subject in subjects:
        lacking = [] if recording is None else [name for name in subject.sensors if name not in recording.sensors]
        if recording is not None and lacking:
            raise UsageError(
                f"{recording.source}: lacks the sensor '{lacking[0]}' of {subject.path}; bench with a recording of the"
                " same sensors, or without --data"
            )


def quality(path: Path, recording: Recording) -> dict[str, Any]:
    """The report of one model on a recording, with the headline on top: JSON-able."""
    from edgekd.evaluation.report import evaluate_scores
    from edgekd.evaluation.score_model import score_model

    with one_thread():
        found = score_model(path, recording)
    report = evaluate_scores(
        found.recording, found.samples, found.scores, found.threshold, found.hop, found.threshold_rule
    )
    return {**report.headline(), "report": report.to_json()}


def _starts(subjects: Sequence[Subject], count: int) -> list[list[tuple[float, int]]]:
    """Cold starts in turn: seconds and peak bytes of each."""
    found: list[list[tuple[float, int]]] = [[] for _ in subjects]
    for _ in range(count):
        for times, subject in zip(found, subjects):
            times.append(fresh.start(subject.path))
    return found


def _row(
    subject: Subject, timing: Timing, proof: dict[str, Any] | None, starts: list[tuple[float, int]]
) -> dict[str, Any]:
    us = timing.p50_us
    return {
        "name": subject.name,
        "kind": subject.kind,
        "format": subject.format,
        "file": str(subject.made_from or subject.path),
        "exported_here": subject.made_from is not None,
        **subject.about,
        "sensors": len(subject.sensors),
        "hop": subject.hop,
        "step_us": {"p50": us, "p99": timing.p99_us, "steps": int(timing.seconds.size)},
        "us_per_sample": us / subject.hop,
        "samples_per_s": subject.hop / us * 1e6,
        "cold_start_s": float(np.median([seconds for seconds, _ in starts])) if starts else None,
        "peak_rss_bytes": int(np.median([peak for _, peak in starts])) if starts else None,
        "parity": proof,
        "step_to_teacher": None,
        "sample_to_teacher": None,
        "quality": None,
    }


def _compare_with_teachers(rows: list[dict[str, Any]], subjects: Sequence[Subject], timings: Sequence[Timing]) -> None:
    """The ratios to a teacher of the same sensors, where one was timed in this run."""
    for row, subject, timing in zip(rows, subjects, timings):
        teacher = teacher_of(subject, subjects)
        if teacher is None or teacher is subject:
            continue
        ratio = timing.ratio_to(timings[subjects.index(teacher)])
        row["step_to_teacher"] = ratio
        row["sample_to_teacher"] = ratio * teacher.hop / subject.hop
