"""`edgekd fleet`: students for many machines, what each is worth, whose normal has moved."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from edgekd.commands.export import SCHEMES, SUFFIXES, SchemeCommand
from edgekd.commands.files import File, check_files
from edgekd.commands.options import data_options, json_option
from edgekd.file_kinds import PAGE
from edgekd.methods import METHODS
from edgekd.runtime.errors import GateFailed, UsageError

FOLDER = click.Path(file_okay=False, path_type=Path)
FILE = click.Path(dir_okay=False, path_type=Path)


@click.group("fleet", short_help="Students for many machines at once: what each is worth, and whose normal has moved.")
def command() -> None:
    """Students for many machines by one command, a report of what each is worth, and whose normal has moved.

    \b
    Example:
        edgekd fleet distill recordings/ -o site/
        edgekd fleet report site/
        edgekd fleet drift site/ --from records/
        edgekd fleet distill recordings/ -o site/ --changed --from records/
    """


@command.command("distill", cls=SchemeCommand, short_help="Train, export and prove a student for each machine.")
@click.argument("fleet")
@click.option(
    "-o", "--output", type=FOLDER, default=Path("site"), show_default=True, help="Folder for all that is made."
)
@click.option("--method", type=click.Choice(list(METHODS)), help="Detector to train.")
@click.option("--preset", help="Settings to start from, as for `edgekd distill`.")
@click.option("--set", "settings", multiple=True, metavar="NAME=VALUE", help="Override one setting; repeatable.")
@click.option(
    "--one",
    type=click.Choice(("machine", "type")),
    help="Who has a network of its own: each machine, begun as that of its type, or all machines of a type together, "
    "each with its own scaling and threshold.  [default: machine]",
)
@click.option("--false-alarms-per-day", metavar="N", type=float, help="Budget that thresholds are for.  [default: 1]")
@click.option("--seed", type=click.IntRange(0, 2**32 - 1), help="Seed of everything random.  [default: 0]")
@click.option("--format", "format_", type=click.Choice(list(SUFFIXES)), help="Kind of exported file.  [default: onnx]")
@click.option("--int8", type=click.Choice(SCHEMES), metavar="[SCHEME]", help="Quantize, as `edgekd export` does.")
@click.option("--sign-with", type=FILE, metavar="KEY", help="Sign every exported file and the list of them.")
@click.option("--on", metavar="ADDRESS", help="Work on a Ray cluster: ray://HOST:PORT, or auto.")
@click.option("--workers", type=click.IntRange(1), help="Processes on this computer.  [default: one a core]")
@click.option("--changed", is_flag=True, help="Only those whose normal has moved, from their own records: with --from.")
@click.option("--from", "records", type=FOLDER, metavar="FOLDER", help="What devices recorded, for --changed.")
@data_options
@json_option
def distill_command(
    fleet: str, output: Path, method: str | None, preset: str | None, settings: tuple[str, ...], one: str | None,
    false_alarms_per_day: float | None, seed: int | None, format_: str | None, int8: str | None,
    sign_with: Path | None, on: str | None, workers: int | None, changed: bool, records: Path | None, as_json: bool,
    **reading: Any,
) -> None:  # fmt: skip
    """Train a student for each machine of FLEET, export it, prove it, and keep it all in a folder.

    FLEET is a folder with a recording, or a folder of recordings, for each machine; a pattern in quotes; one table with
    --group COLUMN; or a .toml that says more. What has not changed is not made again; a run that was killed goes on
    where it was. A machine that fails costs that machine, and exit code 1.

    \b
    Example:
        edgekd fleet distill recordings/ -o site/ --preset innovations
        edgekd fleet distill 'plant/*/normal.csv' -o site/ --int8 --sign-with key.pem
        edgekd fleet distill plant.parquet --group machine -o site/
        edgekd fleet distill fleet.toml -o site/ --on auto
        edgekd fleet distill fleet.toml -o site/ --changed --from records/
    """
    if changed != (records is not None):
        raise UsageError("--changed and --from belong together: edgekd fleet distill FLEET --changed --from FOLDER")
    from edgekd.commands.distill import parse_settings
    from edgekd.commands.sign import private_key
    from edgekd.fleet.machines import read_fleet
    from edgekd.fleet.run import Run
    from edgekd.fleet.site import Site
    from edgekd.progress import Progress

    given = {
        "method": method, "preset": preset, "set": parse_settings(settings) or None, "one": one, "seed": seed,
        "false_alarms_per_day": false_alarms_per_day, "format": format_, "int8": int8,
    }  # fmt: skip
    key = None if sign_with is None else private_key(sign_with)
    options = {name: value for name, value in given.items() if value is not None}

    def told(line: str) -> None:
        click.echo(line, err=True)

    with Progress(quiet=as_json) as progress:
        progress.doing("looking at the machines")
        of_fleet, site = read_fleet(fleet, options, reading), Site(output)
        run = Run(
            of_fleet, site, on=on, workers=workers or -1, key=key, say=told if as_json else progress.say,
            doing=lambda what, share: progress.doing(what, share),
        )  # fmt: skip
        outcome = run.all_machines() if records is None else run.from_records(records)
    if as_json:
        click.echo(json.dumps({"site": str(output), **vars(outcome)}))
    else:
        click.echo(
            f"{output}: {len(outcome.made)} made, {outcome.unchanged} unchanged, {len(outcome.failed)} failed, "
            f"in {site.last['took_s']:.0f} s"
        )
    if outcome.elsewhere and records is None:
        click.echo(f"note: {outcome.elsewhere} more in {output} are not of this fleet; theirs stays", err=True)
    if outcome.failed:
        raise GateFailed(f"{len(outcome.failed)} of {outcome.machines} machines failed; mend them, then run it again")


@command.command("drift", short_help="Say whose normal has moved.")
@click.argument("site", type=FOLDER)
@click.option("--from", "records", type=FOLDER, metavar="FOLDER", required=True, help="What devices recorded.")
@click.option("--on", metavar="ADDRESS", help="Work on a Ray cluster: ray://HOST:PORT, or auto.")
@click.option("--workers", type=click.IntRange(1), help="Processes on this computer.  [default: one a core]")
@json_option
def drift_command(site: Path, records: Path, on: str | None, workers: int | None, as_json: bool) -> None:
    """Say whose normal has moved, and why, by what devices recorded with `edgekd-run --record`.

    FOLDER holds MACHINE.csv, or a folder MACHINE with all that its device recorded, for as many machines as there are;
    event lines beside it, MACHINE.jsonl, count as alarms. SITE/drift.json is written: what `edgekd fleet distill
    --changed` makes anew. Sensors that are missing or stuck are named to be mended, and nothing is learned from them.

    \b
    Example:
        edgekd fleet drift site/ --from records/
    """
    from edgekd.fleet.drift import find, in_words
    from edgekd.fleet.site import existing
    from edgekd.progress import Progress

    of_site = existing(site)
    if not records.is_dir():
        raise UsageError(f"{records}: no such folder; give the one with what devices recorded")
    with Progress(quiet=as_json) as progress:
        progress.doing("looking at the records")
        found = find(of_site, records, on, workers or -1)
    for name, line in found.failed.items():
        click.echo(f"{name}: {line}", err=True)
    if as_json:
        click.echo(json.dumps(of_site.drift()))
    else:
        for line in in_words(found):
            click.echo(line)
        without = f", {found.without} without a record" if found.without else ""
        click.echo(
            f"{len(found.moved)} of {found.looked} have moved, {len(found.mend)} to be mended{without}", err=True
        )
    if found.failed:
        raise GateFailed(f"{len(found.failed)} of {found.looked} records could not be looked at")


@command.command("report", short_help="Show what each machine's student is worth, the worst first.")
@click.argument("site", type=FOLDER)
@click.option("-o", "--output", type=FILE, help="Page to write.  [default: SITE/report.html]")
@json_option
def report_command(site: Path, output: Path | None, as_json: bool) -> None:
    """Show the machines of SITE, the worst first: faults found beside chance where there are labels, false alarms a
    day, data quality, bytes and microseconds, and what the last run changed. Writes a page with all of them.

    \b
    Example:
        edgekd fleet report site/
    """
    from edgekd.fleet import report
    from edgekd.fleet.site import REPORT, existing
    from edgekd.report.page import write

    of_site = existing(site)
    path = output or site / REPORT
    check_files([], [File("-o", path, (PAGE,))])
    rows = report.rows_of(of_site)
    write(report.page(rows, of_site), path)
    if as_json:
        content = [{**vars(row), "verdict": report.verdict(row)} for row in rows]
        click.echo(json.dumps({"report": str(path), "machines": content}))
        return
    click.echo("\n".join([*report.table(rows), "", *report.summary(rows, of_site)]))
    click.echo(f"{path}: all of them, open it in a browser", err=True)
