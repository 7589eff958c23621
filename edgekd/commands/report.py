"""`edgekd report`: a page about a model on a recording."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgekd.commands.evaluate import PARTS
from edgekd.commands.files import File, check_files, data_path, marks_path
from edgekd.commands.options import json_option, marks_option, recording_options
from edgekd.file_kinds import MODELS, PAGE, RECORDING

if TYPE_CHECKING:
    from edgekd.report.gather import Report

_FILE = click.Path(dir_okay=False, path_type=Path)


@click.command("report", short_help="Write a page that shows a model at work on a recording.")
@click.argument("model", type=_FILE)
@click.argument("data")
@click.option("-o", "--output", type=_FILE, default=Path("report.html"), show_default=True, help="Page to write.")
@click.option("--against", type=_FILE, help="Another student or exported file, beside MODEL.")
@click.option("--events", type=_FILE, help="What a device told meanwhile: its event lines. Their threshold counts.")
@click.option(
    "--part",
    type=click.Choice(list(PARTS)),
    default="test",
    show_default=True,
    help="Part of a collection; a plain file has one part only.",
)
@marks_option
@recording_options
@json_option
def command(
    model: Path, data: str, output: Path, against: Path | None, events: Path | None, part: str, marks: str | None,
    as_json: bool, **reading: Any,
) -> None:  # fmt: skip
    """Write a page about MODEL, a student (.pt) or an exported file (.onnx, .tflite), on DATA.

    One HTML file that needs no network: score and alarms over time, the curves of the sensors behind each alarm beside
    their normal range, what another threshold would have told, data quality, and what the model is.

    DATA is [FORMAT:]PATH[#ITEM], or what a device recorded. With --marks, which of its alarms were true and which
    false, it says which setting would have told the fewest false ones and lost no true one.

    \b
    Example:
        edgekd report student.pt plant.csv -o report.html
        edgekd report student.onnx plant.csv --against student-int8.onnx
        edgekd report student.onnx record.csv --events events.jsonl --marks marks.csv
    """
    reads = [
        File("DATA", data_path(data), (RECORDING,), "the model comes first: edgekd report MODEL DATA"),
        File("MODEL", model, MODELS),
        File("--against", against, MODELS),
        File("--events", events),
        File("--marks", marks_path(marks)),
    ]
    check_files(reads, [File("-o", output, (PAGE,))])
    from edgekd.data.marks import read_marks
    from edgekd.progress import Progress
    from edgekd.report.content import content
    from edgekd.report.device import read_events
    from edgekd.report.gather import gather, read
    from edgekd.report.page import page, write

    told, said = ([] if events is None else read_events(events)), ([] if marks is None else read_marks(marks))
    found = read(model, data, PARTS[part], reading)
    samples, scored = len(found.recording) * (1 + (against is not None)), 0

    def scoring(more: int) -> None:
        nonlocal scored
        scored += more
        progress.doing("scoring", scored / samples)

    with Progress(quiet=as_json) as progress:
        scoring(0)
        report = gather(model, found, against, told, said, scoring)
        progress.doing("writing")
        write(page(content(report)), output)
    for note in (*report.model.found.recording.notes, *report.model.found.notes):
        click.echo(f"note: {note}", err=True)
    if as_json:
        click.echo(json.dumps(_to_json(report, output), allow_nan=False))
        return
    for line in (*report.model.words, *_advice(report)):
        click.echo(line)
    click.echo(f"{output}: {output.stat().st_size / 1e6:.1f} MB, open it in a browser", err=True)


def _to_json(report: Report, output: Path) -> dict[str, Any]:
    from edgekd.report.gather import options_of

    advice = None if report.advice is None else options_of(report, report.advice)
    judgement = report.model.judgement.to_json()
    return {"report": str(output), "words": report.model.words, "judgement": judgement, "advice": advice}


def _advice(report: Report) -> list[str]:
    """The better setting and what sets it."""
    if report.advice is None:
        return []
    from edgekd.report.gather import options_of

    options = options_of(report, report.advice)
    now, then = (report.verdicts.outcome(setting) for setting in (report.model.setting, report.advice))
    words = " ".join(f"--{name} {value}" for name, value in options.items())
    return [
        f"Fewest false alarms of the score, no true one lost: {then.false_alarms} in place of {now.false_alarms}, by",
        f"    edgekd-run --model {report.model.file_on_device} {words}",
    ]
