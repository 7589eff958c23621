"""`edgekd evaluate`: how well a detector finds what is labeled in a recording."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgekd.commands.files import File, check_files, data_path, marks_path, open_text
from edgekd.commands.options import json_option, marks_option, recording_options
from edgekd.file_kinds import CHECKPOINTS, MODELS, PLOT, RECORDING, SCORES, SCORES_HEADER

if TYPE_CHECKING:
    from edgekd.data import Recording
    from edgekd.evaluation.fidelity import Fidelity
    from edgekd.evaluation.images import ImageReport
    from edgekd.evaluation.report import Report
    from edgekd.evaluation.score_model import ModelScores

PARTS = {"test": "test", "train": "train", "all": None}


@click.command("evaluate", short_help="Measure a student or an exported file on a labeled recording.")
@click.argument("model", type=click.Path(dir_okay=False, path_type=Path))
@click.argument("data")
@click.option(
    "--part",
    type=click.Choice(list(PARTS)),
    default="test",
    show_default=True,
    help="Part of a collection to measure on; a plain file has one part only.",
)
@click.option(
    "--teacher",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Also say how faithful MODEL is to this checkpoint: rank correlation, distance between the scores.",
)
@click.option("--threshold", type=float, help="Alarm above this score, instead of above the model's own threshold.")
@click.option("--metrics", is_flag=True, help="Also print the researcher's table, every figure beside random scores.")
@click.option("--budget", is_flag=True, help="Events found, delay and false alarms at 0.1, 1 and 10 a day.")
@click.option(
    "--plot",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Draw score, threshold, labels, alarms and top sensors over time (.png, .svg, .pdf).",
)
@click.option(
    "--scores",
    "scores_csv",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write a CSV with one row for each verdict: sample,score,anomaly.",
)
@click.option(
    "--no-entity-resets",
    "one_stream",
    is_flag=True,
    help="Let the state run on across the entities of DATA, as preset paper was trained, instead of clearing it.",
)
@click.option("--seed", default=0, show_default=True, help="Seed of the random scores that stand beside every figure.")
@marks_option
@recording_options
@json_option
def command(
    model: Path,
    data: str,
    part: str,
    teacher: Path | None,
    threshold: float | None,
    metrics: bool,
    budget: bool,
    plot: Path | None,
    scores_csv: Path | None,
    one_stream: bool,
    seed: int,
    marks: str | None,
    as_json: bool,
    **reading: Any,
) -> None:
    """Measure MODEL, a student (.pt) or an exported file (.onnx, .tflite), on DATA.

    DATA is [FORMAT:]PATH[#ITEM]. Says how many of its faults are found, how late, at how many false alarms, counting
    slow alarms and stuck sensors as a device tells them; then whether chance or a Mahalanobis distance does as well.
    That one is fitted on the normal samples that a student carries, for an exported file on DATA before its first
    fault, and gets the threshold at which it has as many false alarms. Without labels the alarms are listed; --marks
    makes labels of what people said of them.

    --metrics prints the figures that papers compare, at the threshold that the model carries or at every one. An
    exported file is run as on a device, each entity from the cold state. Images have no time: their figures are per
    image.

    \b
    Example:
        edgekd evaluate student.pt plant.csv --plot score.png
        edgekd evaluate student.onnx smd:ServerMachineDataset#machine-1-2 --scores scores.csv
        edgekd evaluate student.onnx plant.csv --threshold 3.5 --json
        edgekd evaluate student.onnx plant.csv --metrics --budget
        edgekd evaluate student.pt fashion-mnist:DIR#0 --teacher student-teacher.pt
    """
    reads = [
        File("DATA", data_path(data), (RECORDING,), "the model comes first: edgekd evaluate MODEL DATA"),
        File("MODEL", model, MODELS),
        File("--teacher", teacher, CHECKPOINTS),
        File("--marks", marks_path(marks)),
    ]
    check_files(reads, [File("--plot", plot, (PLOT,)), File("--scores", scores_csv, (SCORES,))])
    from edgekd.data import load
    from edgekd.data.marks import labeled, read_marks
    from edgekd.evaluation.budget import at_budgets, in_words
    from edgekd.evaluation.judgement import judge
    from edgekd.evaluation.score_model import reading_for, score_model
    from edgekd.evaluation.slow import slow_report
    from edgekd.evaluation.words import judged_in_words
    from edgekd.progress import Progress

    recording = load(data, PARTS[part], **reading_for(model, reading))
    said = [] if marks is None else read_marks(marks)
    if marks is not None:
        recording = labeled(recording, said)
    at_end = 0

    def scored(samples: int) -> None:
        nonlocal at_end
        at_end += samples
        progress.doing(f"scoring {recording.source}", at_end / len(recording))

    with Progress(quiet=as_json) as progress:
        scored(0)
        found = score_model(model, recording, scored, one_stream=one_stream)
        progress.doing("judging")
        at = found.threshold if threshold is None else threshold
        rule = found.threshold_rule if threshold is None else "given by hand"
        judged = judge(found, at, seed) if recording.frame is None else None
        report = _report(found, at, rule, seed) if metrics or as_json or judged is None else None
    for note in (*found.recording.notes, *found.notes):
        click.echo(f"note: {note}", err=True)
    faithful = None if teacher is None else _fidelity(teacher, recording, found, one_stream)
    budgets = at_budgets(found) if budget else []
    slow = slow_report(found, at)
    if scores_csv is not None:
        _write_scores(scores_csv, found, at)
    if plot is not None:
        from edgekd.evaluation.plots import plot_scores

        title = f"{found.name} on {found.recording.source}"
        verdicts = (found.recording, found.samples, found.scores, at, found.contributions)
        missed = None if judged is None else judged.missed
        plot_scores(plot, *verdicts, title, found.hop, found.slow, found.stuck, missed)
    if as_json:
        assert report is not None
        content = {"model": str(model), "detector": found.name, **report.to_json()}
        if judged is not None:
            content["judgement"] = judged.to_json() | {"words": judged_in_words(judged, found.recording, said)}
        if faithful is not None:
            content["fidelity"] = {"teacher": str(teacher), **faithful.to_json()}
        if slow is not None:
            content["slow"] = slow.to_json()
        if budget:
            content["budget"] = [row.to_json() for row in budgets]
        click.echo(json.dumps(content, allow_nan=False))
        return
    parts = [] if judged is None else ["\n".join(judged_in_words(judged, found.recording, said))]
    if report is not None:
        parts += [_table(report, found.name, model), *([slow.in_words()] if slow else [])]
    parts += [in_words(budgets)] if budget else []
    parts += [f"against {teacher}: {faithful.in_words()}"] if faithful else []
    click.echo("\n\n".join(parts))


def _report(found: ModelScores, threshold: float, rule: str, seed: int) -> Report | ImageReport:
    """The figures: those of images where the recording has any."""
    from edgekd.evaluation.images import evaluate_images
    from edgekd.evaluation.report import evaluate_scores

    verdicts = found.recording, found.samples, found.scores, threshold
    if found.recording.frame is not None:
        return evaluate_images(*verdicts, rule, seed)
    return evaluate_scores(*verdicts, found.hop, threshold_rule=rule, seed=seed)


def _table(report: Report | ImageReport, detector: str, model: Path) -> str:
    """The figures, for people who know them."""
    from rich.console import Console
    from rich.text import Text

    from edgekd.evaluation import images, table
    from edgekd.runtime.json_fields import shown

    rendered = images.render(report) if isinstance(report, images.ImageReport) else table.render(report)
    heading = Text.assemble((shown(detector), "bold"), f", {shown(str(model), 300)}")
    console = Console(highlight=False)
    with console.capture() as printed:
        console.print(heading, rendered, sep="\n")
    return printed.get().rstrip()


def _fidelity(path: Path, recording: Recording, found: ModelScores, one_stream: bool) -> Fidelity:
    """The model against a teacher's checkpoint, on the samples that both have a verdict on."""
    import numpy as np

    from edgekd.checkpoint import Checkpoint
    from edgekd.evaluation.fidelity import fidelity
    from edgekd.evaluation.score_model import score_model

    normal = Checkpoint.load(path).normal_scores.numpy()
    taught = score_model(path, recording, one_stream=one_stream)
    both, mine, theirs = np.intersect1d(found.samples, taught.samples, return_indices=True)
    labels = None if found.recording.labels is None else found.recording.labels[both]
    return fidelity(taught.scores[theirs], found.scores[mine], labels, normal)


def _write_scores(path: Path, found: ModelScores, threshold: float) -> None:
    """One row for each verdict; `sample` is the 0-based index of the newest sample that it has seen."""
    from edgekd.runtime.errors import UsageError

    try:
        with open_text(path) as file:
            file.write(SCORES_HEADER + b"\n")
            for sample, score in zip(found.samples.tolist(), found.scores.tolist()):
                file.write(f"{sample},{score:.9g},{score > threshold:d}\n".encode())  # 9 digits hold a float32
    except OSError as error:
        raise UsageError(f"{path}: cannot write the scores ({error.strerror}); give --scores another place") from None
