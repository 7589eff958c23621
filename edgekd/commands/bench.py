"""`edgekd bench`: size, latency, memory and quality of detectors side by side."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgekd.commands.files import File, check_files, data_path
from edgekd.commands.options import json_option, recording_options
from edgekd.file_kinds import CHECKPOINTS, MODELS, PLOT, RECORDING
from edgekd.runtime.errors import GateFailed, MissingExtra, UsageError

if TYPE_CHECKING:
    from edgekd.data import Recording

FILE = click.Path(dir_okay=False, path_type=Path)


@click.command("bench", short_help="Measure size, latency, memory and quality side by side.")
@click.argument("files", nargs=-1, required=True, type=FILE)
@click.option("--teacher", type=FILE, help="Teacher to compare with.  [default: FILE-teacher.pt, if it is there]")
@click.option("--data", metavar="DATA", help="Labeled recording: adds VUS-PR, events found and false alarms a day.")
@click.option("--plot", type=FILE, help="With --data: draw quality against microseconds a sample (.png, .svg, .pdf).")
@click.option("--rounds", type=click.IntRange(1), default=60, show_default=True, help="Rounds in which all take turns.")
@click.option(
    "--steps",
    type=click.IntRange(1),
    default=10_000,
    show_default=True,
    help="Consecutive steps over which all are compared; each model goes through them once.",
)
@click.option("--starts", type=click.IntRange(0), default=3, show_default=True, help="Cold starts of each.")
@recording_options
@json_option
def command(
    files: tuple[Path, ...],
    teacher: Path | None,
    data: str | None,
    plot: Path | None,
    rounds: int,
    steps: int,
    starts: int,
    as_json: bool,
    **reading: Any,
) -> None:
    """Measure detectors side by side in one run: students (.pt) and exported files (.onnx, .tflite).

    A student is timed in torch and, exported on the way, as ONNX and TFLite, float32 and int8; its teacher too, if it
    is there. One thread each, in turn, so that ratios hold on a busy machine; that all compute the same is checked in
    the same run. An exported file alone needs no torch: --json works on a device.

    \b
    Example:
        edgekd bench student.pt
        edgekd bench student.pt student.onnx --data plant.csv --plot cost.png
        edgekd bench student.tflite --json
    """
    if plot is not None and data is None:
        raise UsageError("--plot draws quality, which needs a labeled recording; give one with --data")
    models = [*(File("FILES", file, MODELS) for file in files), File("--teacher", teacher, CHECKPOINTS)]
    check_files([*models, File("--data", data_path(data), (RECORDING,))], [File("--plot", plot, (PLOT,))])
    if not as_json:
        _require_rich()
    from edgekd.compare.run import bench, parity_holds
    from edgekd.progress import Progress

    recording = None if data is None else _load(data, files[0], plot is not None, reading)
    with Progress() as progress:
        result = bench(
            list(dict.fromkeys(files)),
            teacher=teacher,
            recording=recording,
            rounds=rounds,
            starts=starts,
            steps=steps,
            say=progress.doing,
        )
    if plot is not None:
        _draw(plot, result)
    if as_json:
        click.echo(json.dumps(result, allow_nan=False))
    else:
        from rich.console import Console

        from edgekd.compare.table import render

        Console(highlight=False, width=None if sys.stdout.isatty() else 110).print(render(result))
    if not parity_holds(result):
        raise GateFailed("parity: an exported file does not compute what its student does; its times mean nothing")


def _require_rich() -> None:
    """Before minutes are spent on figures that could not be printed."""
    try:
        import rich  # noqa: F401
    except ModuleNotFoundError:
        raise MissingExtra("rich (which the tables need; --json does without)", "workstation") from None


def _load(data: str, model: Path, must_be_labeled: bool, reading: dict[str, Any]) -> Recording:
    from edgekd.data import load
    from edgekd.evaluation.score_model import reading_for

    recording = load(data, "test", **reading_for(model, reading))
    for note in recording.notes:
        click.echo(f"note: {note}", err=True)
    if must_be_labeled and (recording.labels is None or not recording.labels.any()):
        raise UsageError(f"{data}: has no labeled anomaly for --plot to draw; name its column with --label-column")
    return recording


def _draw(path: Path, result: dict[str, Any]) -> None:
    from edgekd.evaluation.cost_plot import CostPoint, plot_quality_against_cost

    rows = [row for row in result["rows"] if row["quality"]["vus_pr"] is not None]
    points = [CostPoint(row["name"], row["us_per_sample"], row["quality"]["vus_pr"], row["kind"]) for row in rows]
    random = [row["quality"]["vus_pr_random"] for row in rows if row["quality"]["vus_pr_random"] is not None]
    cpu = result["machine"]["cpu"]
    plot_quality_against_cost(
        path, points, sum(random) / len(random) if random else None, f"{result['data']['source']} on {cpu}"
    )
