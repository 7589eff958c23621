"""`edgekd inspect`: what is in a student or an exported file."""

from __future__ import annotations

import json
from pathlib import Path

import click

from edgekd.commands.options import json_option


@click.command("inspect")
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@json_option
def command(file: Path, as_json: bool) -> None:
    """Say what is in FILE: a student or teacher checkpoint (.pt), or an exported detector (.onnx, .tflite).

    Method, sensors, rhythm, state, threshold and where it came from, parity record, digests, cost. An exported file
    needs nothing but the device's own install; one that was changed after its export is refused.

    \b
    Example:
        edgekd inspect student.onnx
        edgekd inspect student.pt --json
    """
    from edgekd.inspection import describe, render

    about = describe(file)
    click.echo(json.dumps(about, allow_nan=False) if as_json else render(about))
