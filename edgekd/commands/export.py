"""`edgekd export`: a student checkpoint to one self-describing file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgekd.commands.files import File, check_files, data_path
from edgekd.commands.options import data_options, json_option
from edgekd.file_kinds import CHECKPOINTS, EXPORTED, RECORDING, require
from edgekd.runtime.errors import UsageError

if TYPE_CHECKING:
    from edgekd.data import Recording
    from edgekd.export import Candidate, Exported

SUFFIXES = {"onnx": ".onnx", "tflite": ".tflite"}
SCHEMES = (
    "default",
    "auto",
    "static",
    "static-float-recurrence",
    "percentile",
    "entropy",
    "weights",
    "dynamic",
    "dynamic-full",
)
"""Those of both formats: which of them a file's format has, its exporter says."""


LITTLE = 0.95  # of float's step: what int8 has to beat to be called faster


class SchemeCommand(click.Command):
    """Lets `--int8` stand alone: the next word is its value only where it is meant as a scheme, else it is STUDENT."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        words = list(args)
        end = words.index("--") if "--" in words else len(words)
        for i in reversed([i for i, word in enumerate(words[:end]) if word == "--int8"]):
            value = words.pop(i + 1) if i + 1 < end and _means_a_scheme(words[i + 1]) else "default"
            words[i] = f"--int8={value}"
        return super().parse_args(ctx, words)


def _means_a_scheme(word: str) -> bool:
    """A scheme, or a bare word that is no file: one that was misspelled, which the option refuses with the list."""
    return word in SCHEMES or not (word.startswith("-") or Path(word).suffix or Path(word).exists())


@click.command("export", cls=SchemeCommand, short_help="Turn a student into one self-describing file.")
@click.argument("student", type=click.Path(dir_okay=False, path_type=Path))
@click.option(
    "-o", "--output", type=click.Path(dir_okay=False, path_type=Path), help="File to write.  [default: STUDENT.onnx]"
)
@click.option(
    "--format", "format_", type=click.Choice(list(SUFFIXES)), help="Kind of file.  [default: that of -o, else onnx]"
)
@click.option(
    "--int8",
    type=click.Choice(SCHEMES),
    metavar="[SCHEME]",
    help="Quantize to int8, by the format's default scheme, by a named one, or by the best of all (auto).",
)
@click.option(
    "--target",
    type=click.Choice(("litert", "tflite-runtime", "tflm")),
    help="Engine that a TFLite file is meant for; tflm is TensorFlow Lite Micro.  [default: litert]",
)
@click.option("--data", metavar="DATA", help="Labeled recording: compare what float and int8 detect, too.")
@click.option(
    "--false-alarms-per-day", metavar="N", type=float, help="Budget for the threshold, instead of the student's own."
)
@click.option("--force", is_flag=True, help="Write the file even where the gate does not let it through.")
@data_options
@json_option
def command(
    student: Path,
    output: Path | None,
    format_: str | None,
    int8: str | None,
    target: str | None,
    data: str | None,
    false_alarms_per_day: float | None,
    force: bool,
    as_json: bool,
    **reading: Any,
) -> None:
    """Turn STUDENT into one file, ONNX or TFLite: the whole detector, its state as inputs and outputs, its manifest.

    The file is replayed against torch, 1,000 steps with its state fed back. If its scores are not what was trained,
    nothing is written; those of an int8 file must rank and decide alike, with a threshold of its own.

    At the end, the file and the float file of each format are timed in turn: which is fastest here? int8 makes large
    networks faster; of small ones and of linear detectors it saves bytes alone.

    \b
    Int8 schemes:
        onnx    static, static-float-recurrence, percentile, entropy, weights
        tflite  dynamic, static, dynamic-full, weights; for tflm static
    A linear detector has weights alone.

    \b
    Example:
        edgekd export student.pt --int8
        edgekd export student.pt -o plant.tflite --int8 auto --data labeled.csv
    """
    require(student, CHECKPOINTS)
    kind, output = _destination(student, output, format_)
    reads = [File("STUDENT", student), File("--data", data_path(data), (RECORDING,))]
    check_files(reads, [File("-o", output, (EXPORTED,))])
    from edgekd.blocks.step import too_much_state
    from edgekd.checkpoint import Checkpoint
    from edgekd.export import export
    from edgekd.export.fastest import in_words, step_us
    from edgekd.progress import Progress

    checkpoint = Checkpoint.load(student)
    if false_alarms_per_day is not None:
        checkpoint.set_budget(false_alarms_per_day)
    labeled = None if data is None else _labeled(data, student, reading)
    with Progress() as progress:
        done = export(
            checkpoint,
            output,
            format=kind,
            int8=int8,
            target=target,
            labeled=labeled,
            force=force,
            say=progress.say,
            doing=progress.doing,
        )
        if not target:
            progress.doing("every format is timed")
        us = {} if target else step_us(checkpoint, done, kind)
    if as_json:
        click.echo(json.dumps(_as_json(done, kind) | {"formats_us": us}))
        return
    click.echo(f"{done.path}: {done.file_bytes:,} bytes, {done.manifest.quantization.scheme}")
    click.echo("\n".join(_table([done.float] if done.written is done.float else [done.float, done.written])))
    for note in [*_notes(done, int8), too_much_state(checkpoint.step()), in_words(us) if len(us) > 1 else ""]:
        if note:
            click.echo(note, err=True)


def _destination(student: Path, output: Path | None, kind: str | None) -> tuple[str, Path]:
    """Format and file: each follows from the other where only one is given."""
    by_suffix = {suffix: name for name, suffix in SUFFIXES.items()}
    if output is None:
        kind = kind or "onnx"
        return kind, student.with_suffix(SUFFIXES[kind])
    found = by_suffix.get(output.suffix)
    if found is None or kind not in (None, found):
        wanted = [SUFFIXES[kind]] if kind else list(by_suffix)
        raise UsageError(
            f"{output}: the name of an exported file ends in {' or '.join(wanted)}; give -o {output.stem}{wanted[0]}"
        )
    return found, output


def _labeled(data: str, student: Path, reading: dict[str, Any]) -> Recording:
    from edgekd.data import load
    from edgekd.evaluation.score_model import reading_for

    recording = load(data, "test", **reading_for(student, reading))
    for note in recording.notes:
        click.echo(f"note: {note}", err=True)
    if recording.labels is None or not recording.labels.any() or recording.labels.all():
        raise UsageError(f"{data}: has no labeled anomaly for --data to measure; name its column with --label-column")
    return recording


def _table(candidates: list[Candidate]) -> list[str]:
    """One column for each file, the figures of int8 beside those of float."""
    last = candidates[-1]
    # float as it was timed in turn with int8, so that a machine that was busy in between is not in the ratio
    steps_us = [last.step_us * candidate.step_ratio / last.step_ratio for candidate in candidates]
    rows = [
        ("", [candidate.scheme for candidate in candidates]),
        ("file bytes", [f"{len(candidate.content):,}" for candidate in candidates]),
        ("step, µs", [f"{us:,.0f}" for us in steps_us]),
        ("  of float", [f"{candidate.step_ratio:.2f}" for candidate in candidates]),
        ("worst score error", [f"{candidate.parity.max_score_error:.2g}" for candidate in candidates]),
        ("Spearman with torch", [f"{candidate.parity.rank_correlation:.5f}" for candidate in candidates]),
        ("decisions changed", [f"{candidate.parity.changed_decisions:.2%}" for candidate in candidates]),
        ("threshold", [f"{candidate.manifest.threshold.value:.4g}" for candidate in candidates]),
    ]
    found = [candidate.detection for candidate in candidates if candidate.detection]
    if found:
        rows += [
            ("VUS-PR", [_number(one.vus_pr, ".3f") for one in found]),
            ("  of random scores", [_number(one.vus_pr_random, ".3f") for one in found]),
            ("events found", [f"{one.events_found} of {one.events}" for one in found]),
            ("false alarms a day", [_number(one.false_alarms_per_day, ".2f") for one in found]),
            ("  Spearman with float", [_number(one.rank_correlation, ".5f") for one in found]),
            ("  decisions changed", [_number(one.changed_decisions, ".2%") for one in found]),
        ]
    steps = last.parity.steps
    lines = [f"{label:<22}" + "".join(f"{cell:>16}" for cell in cells) for label, cells in rows]
    return [*lines, f"over {steps:,} closed-loop steps" + (f", detection on {found[0].source}" if found else "")]


def _number(value: float | None, style: str) -> str:
    return "-" if value is None else format(value, style)


def _notes(done: Exported, int8: str | None) -> list[str]:
    notes = []
    if int8 is not None and done.written is done.float:
        notes.append("there is nothing in this detector to quantize: the file is float32")
    elif done.written.step_ratio > LITTLE and done.written is not done.float:
        size = done.file_bytes / len(done.float.content)
        notes.append(
            f"int8 buys no speed on this machine ({done.written.step_ratio:.2f} of float's step), it is {size:.2f} of "
            "float's bytes"
        )
    if arena_bytes := done.manifest.metrics.get("arena_bytes"):
        notes.append(f"TensorFlow Lite Micro needs an arena of {arena_bytes:,} bytes for it, as measured on x86-64")
    return notes


def _as_json(done: Exported, kind: str) -> dict[str, Any]:
    return {
        "file": str(done.path),
        "format": kind,
        **done.written.to_json(),
        "float": done.float.to_json(),
        "tried": [candidate.to_json() for candidate in done.tried],
    }
