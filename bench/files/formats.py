"""Teacher, student and its files in every format side by side, one run for each student, one thread.

    python -m bench.files.formats [--steps N] [NAME ...]

What `edgekd bench` measures, for a student of preset `edge` and a published one. Ten thousand steps of a published
student of 55 sensors take half an hour.
"""

from __future__ import annotations

from typing import Any

import click

from bench.results import kept, save, table
from bench.trained_students import student
from edgekd.compare import parity
from edgekd.compare.run import PROTOCOL, bench

STUDENTS = ("smd-1-2", "msl-gru")


def row(name: str, found: dict[str, Any], steps: int) -> dict[str, Any]:
    """The figures of one row of `edgekd bench` that the README shows; compared over so many closed-loop steps."""
    proof = found["parity"] or {}
    figures = {
        "student": name,
        "n": found["sensors"],
        "what": found["name"],
        "bytes": found["weights_bytes"] or found["file_bytes"],
        "step us": found["step_us"]["p50"],
        "p99 us": found["step_us"]["p99"],
        "us a sample": found["us_per_sample"],
        "a sample / teacher": found["sample_to_teacher"],
        "cold start s": found["cold_start_s"],
        "peak MiB": found["peak_rss_bytes"] / 2**20 if found["peak_rss_bytes"] else None,
        "steps compared": steps,
        "worst score error": proof.get("max_score_error"),
        "Spearman": proof.get("rank_correlation"),
    }
    return {key: "" if value is None else value for key, value in figures.items()}


@click.command()
@click.option("--steps", default=parity.STEPS, show_default=True, help="Closed-loop steps that are compared.")
@click.argument("names", nargs=-1)
def main(steps: int, names: tuple[str, ...]) -> None:
    """Measure, print and save; the rows of students that are not named stay as they were."""
    names = names or STUDENTS
    rows = [old for old in kept("formats") or [] if old["student"] not in names]
    for name in names:
        result = bench(
            [student(name)], steps=steps, say=lambda text, name=name: click.echo(f"{name}: {text}", err=True)
        )
        for note in result["notes"]:
            click.echo(f"{name}: {note}", err=True)
        found = [row(name, one, steps) for one in result["rows"]]
        print(table(found), flush=True)
        rows += found
    save("formats", rows, protocol=PROTOCOL)


if __name__ == "__main__":
    main()
