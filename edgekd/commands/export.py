"""`edgekd export`: a student checkpoint to one self-describing file."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import click

from edgekd.commands.options import json_option
from edgekd.runtime.errors import UsageError


@click.command("export")
@click.argument("student", type=click.Path(dir_okay=False, path_type=Path))
@click.option(
    "-o", "--output", type=click.Path(dir_okay=False, path_type=Path), help="File to write.  [default: STUDENT.onnx]"
)
@click.option("--int8", is_flag=True, help="Quantize the convolutions to int8.")
@click.option("--force", is_flag=True, help="Write the file even where parity does not hold.")
@json_option
def command(student: Path, output: Path | None, int8: bool, force: bool, as_json: bool) -> None:
    """Turn STUDENT into one ONNX file: the whole detector, its state as inputs and outputs, its manifest inside.

    The file is replayed against torch, 1,000 steps with its state fed back. If the scores differ, nothing is written.

    \b
    Example:
        edgekd export student.pt --int8
        edgekd export student.pt -o plant.onnx
    """
    from edgekd.checkpoint import Checkpoint
    from edgekd.export import export

    output = output or student.with_suffix(".onnx")
    if output.suffix != ".onnx":
        raise UsageError(f"{output}: an exported file is ONNX, and its name ends so; give -o {output.stem}.onnx")
    done = export(Checkpoint.load(student), output, int8=int8, force=force)
    quantized = done.manifest.quantization.scheme != "float32"
    if as_json:
        figures = {key: value for key, value in asdict(done).items() if key not in ("manifest", "path")}
        click.echo(json.dumps({"file": str(output), "quantization": done.manifest.quantization.scheme, **figures}))
        return
    parity = done.parity
    click.echo(
        f"{output}: {done.file_bytes:,} bytes, {done.manifest.quantization.scheme}\n"
        f"parity over {parity.steps} closed-loop steps: worst score error {parity.max_score_error:.2g}, "
        f"rank correlation {parity.rank_correlation:.5f}, {parity.changed_decisions:.2%} of decisions changed"
    )
    if quantized:
        click.echo(
            f"int8 against float: {done.file_bytes / done.float_bytes:.2f} of the bytes, a step {done.step_us:.0f} us "
            f"against {done.float_step_us:.0f} us on this machine"
        )
        if done.step_us >= done.float_step_us:
            click.echo("int8 is not faster than float here: export without --int8 if speed is what you want", err=True)
    elif int8:
        click.echo("this detector has no convolutions to quantize: the file is float32", err=True)
