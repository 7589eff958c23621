"""`edgekd distill`: a recording to a trained student checkpoint."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgekd.commands.files import File, check_files, data_path, marks_path
from edgekd.commands.options import json_option, marks_option, recording_options
from edgekd.file_kinds import CHECKPOINTS, RECORDING, STUDENT, TEACHER, WORK
from edgekd.methods import METHODS
from edgekd.runtime.errors import UsageError

if TYPE_CHECKING:
    from edgekd.checkpoint import Checkpoint


@click.command("distill", context_settings={"show_default": True})
@click.argument("data")
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    default=Path("student.pt"),
    help="Student checkpoint to write.",
)
@click.option(
    "--method", type=click.Choice(list(METHODS)), help="Detector to train; a preset's name alone picks it too."
)
@click.option(
    "--preset",
    help="Settings to start from: paper, edge, joint, quick for lta (edge); innovations or another detector for linear "
    "(ensemble); signature, window, shape, image for regression (signature, or image where DATA is of images); "
    "published, edge, quick for anomalyllm (edge); patches for patches.",
)
@click.option(
    "--set", "settings", multiple=True, metavar="NAME=VALUE", help="Override one setting of the preset; repeatable."
)
@click.option(
    "--teacher",
    "teachers",
    multiple=True,
    type=click.Path(dir_okay=False, path_type=Path),
    help="A teacher to distill from; without it one is trained and kept beside the student. regression takes any "
    "checkpoint, and several of them.",
)
@click.option(
    "--teacher-scores",
    type=click.Path(dir_okay=False, path_type=Path),
    help="regression: a CSV of any scorer's scores of DATA, as columns sample,score or one score a row.",
)
@click.option(
    "--outliers",
    metavar="DATA",
    help="regression: what is not normal, images of another set or other machines, to be shown to the student.",
)
@click.option(
    "--student", metavar="NAME", help="regression: our-S1 to our-S7 (our-S3 for images), or energies for a series."
)
@click.option(
    "--co-learning",
    is_flag=True,
    help="regression of images: train the teacher and the student together.",
)
@click.option(
    "--false-alarms-per-day",
    metavar="N",
    type=float,
    default=1.0,
    help="Budget that the threshold is for; images and preset paper have a rule of their own.",
)
@click.option("--resume", is_flag=True, help="Go on with an interrupted training of the same data, settings and seed.")
@click.option("--seed", type=click.IntRange(0, 2**32 - 1), default=0, help="Seed of everything random.")
@click.option(
    "--device",
    type=click.Choice(["auto", "cpu", "cuda"]),
    default="auto",
    help="Where networks train; auto is the GPU where torch finds one.",
)
@marks_option
@recording_options
@json_option
def command(
    data: str, output: Path, method: str | None, preset: str | None, settings: tuple[str, ...],
    teachers: tuple[Path, ...], teacher_scores: Path | None, outliers: str | None, student: str | None,
    co_learning: bool, false_alarms_per_day: float, resume: bool, seed: int, device: str, marks: str | None,
    as_json: bool, **reading: Any,
) -> None:  # fmt: skip
    """Train a teacher on DATA and distill it into a small student.

    DATA is [FORMAT:]PATH[#ITEM]: a CSV or Parquet file, or one machine, channel or series of a collection. Its
    training part must be normal; --marks leaves out what people marked as true. The teacher is kept beside the student
    and can be given to the next run.

    \b
    Example:
        edgekd distill plant.csv -o student.pt
        edgekd distill smd:ServerMachineDataset#machine-1-2 -o student.pt --seed 1
        edgekd distill plant.csv -o fast.pt --preset innovations
        edgekd distill plant.csv -o small.pt --method regression --teacher student.pt --teacher fast.pt
        edgekd distill ucr:UCR#003 -o llm.pt --method anomalyllm --set teacher_init=random-frozen
        edgekd distill fashion-mnist:DIR#0 --method regression --student our-S3 --co-learning --outliers mnist:DIR
    """
    from edgekd.data import constant_sensors, load
    from edgekd.data.marks import read_marks, without_faults
    from edgekd.data.request import shorten
    from edgekd.distillation import distill, teacher_path, work_path
    from edgekd.progress import TrainingProgress
    from edgekd.verdict import verdict

    reads = [
        File("DATA", data_path(data), (RECORDING,)),
        File("--outliers", data_path(outliers), (RECORDING,)),
        File("--teacher-scores", teacher_scores),
        *(File("--teacher", teacher, CHECKPOINTS) for teacher in teachers),
        File("--marks", marks_path(marks)),
    ]
    beside = None if teachers else teacher_path(output)  # one that is trained on the way
    check_files(
        reads, [File("-o", output, (STUDENT,)), File("-o", beside, (TEACHER,)), File("-o", work_path(output), (WORK,))]
    )
    values = _sugar(parse_settings(settings), student=student, co_learning=co_learning or None)
    recording = load(data, "train", **reading)
    if marks is not None:
        recording = without_faults(recording, read_marks(marks))
    foreign = None if outliers is None else load(outliers, "train")
    notes = list(recording.notes)
    constant = constant_sensors(recording)
    if constant:
        notes.append(f"{len(constant)} constant sensors: {shorten(constant)}")
    if recording.labels is not None and recording.labels.any():
        notes.append(f"{recording.labels.sum():,} samples are labeled anomalous; they train as if they were normal")
    for note in notes:
        click.echo(f"note: {note}", err=True)
    try:
        with TrainingProgress(quiet=as_json) as progress:
            checkpoint = distill(
                recording, output, method=method, preset=preset, settings=values, teacher=teachers,
                teacher_scores=teacher_scores, outliers=foreign, false_alarms_per_day=false_alarms_per_day,
                seed=seed, resume=resume, device=device, report=progress,
            )  # fmt: skip
    except KeyboardInterrupt:
        click.echo("\nthe same command with --resume goes on after the last whole epoch", err=True)
        raise
    if as_json:
        click.echo(json.dumps({"student": str(output), **checkpoint.summary(), "verdict": verdict(checkpoint)}))
        return
    click.echo(f"{output}: {_words(checkpoint)}")
    for line in verdict(checkpoint):
        click.echo(line, err=True)


def _sugar(settings: dict[str, Any], **options: Any) -> dict[str, Any]:
    """Settings with what options of their own say."""
    given = {name: value for name, value in options.items() if value is not None}
    twice = sorted(name for name in given if name in settings and settings[name] != given[name])
    if twice:
        raise UsageError(f"{twice[0]} is given as an option and by --set, and not the same; leave one out")
    return {**settings, **given}


def _words(checkpoint: Checkpoint) -> str:
    """What was made, in a line."""
    threshold = checkpoint.threshold
    return (
        f"{checkpoint.method}/{checkpoint.preset}, {checkpoint.step().parameters_learned:,} parameters, threshold "
        f"{threshold['value']:.4g} ({threshold['rule']})"
    )


def parse_settings(settings: tuple[str, ...]) -> dict[str, Any]:
    """NAME=VALUE pairs; a value is JSON where it parses as such, a word otherwise."""
    parsed: dict[str, Any] = {}
    for setting in settings:
        name, equals, value = setting.partition("=")
        if not equals:
            raise UsageError(f"--set {setting}: write it as NAME=VALUE, for example --set epochs=10")
        try:
            parsed[name] = json.loads(value)
        except json.JSONDecodeError:
            parsed[name] = value
    return parsed
