"""The `edgekd-run` command: options in, one loop, exit codes out. Heavy imports wait until the options are right."""

from __future__ import annotations

import json
import math
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgekd import __version__
from edgekd.runtime.errors import EdgeKDError, UsageError

if TYPE_CHECKING:
    from edgekd.runtime.detector import Detector
    from edgekd.runtime.manifest import Manifest
    from edgekd.runtime.sources import Source

CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 110, "auto_envvar_prefix": "EDGEKD"}
EPILOG = """Events are JSON lines on standard output, words go to standard error. Every option can also be given as an
environment variable, EDGEKD_ and its name: EDGEKD_MODEL, EDGEKD_STATE_EVERY.

\b
Exit codes: 0 done or stopped, 1 the self-test failed, 2 usage, 3 model refused,
4 the input failed for good, 130 interrupted."""


@click.command(context_settings=CONTEXT, epilog=EPILOG)
@click.option("--model", required=True, type=click.Path(exists=True, dir_okay=False), help="File from edgekd export.")
@click.option("--serial", metavar="DEV", help="Read lines from a serial port; it may come and go.")
@click.option("--baud", default=115200, show_default=True, type=click.IntRange(50, 20_000_000), help="With --serial.")
@click.option("--csv", metavar="FILE", help="Read a CSV or JSON-lines file, then end.")
@click.option("--stdin", is_flag=True, help="Read lines from standard input until it ends.")
@click.option("--frames", metavar="DIR", help="Read the images of a folder (.npy, .pgm, .raw), then end.")
@click.option("--raw", metavar="RxC[:KIND]", help="With --stdin: images as raw bytes, 28x28 or 28x28:float32.")
@click.option("--map", "maps", metavar="NAME=COLUMN", multiple=True, help="Sensor NAME is COLUMN in the input.")
@click.option("--scores", is_flag=True, help="Also print every score, not only anomalies.")
@click.option("--threshold", type=float, help="Use this threshold instead of the model's.")
@click.option("--state", type=click.Path(dir_okay=False), help="Save the detector's state here and resume from it.")
@click.option("--state-every", default=60.0, show_default=True, type=click.FloatRange(0), help="Seconds between saves.")
@click.option("--record", type=click.Path(dir_okay=False), help="Append what the sensors say to this CSV.")
@click.option("--check", is_flag=True, help="Verify the model on this machine and end.")
@click.option("--json", "as_json", is_flag=True, help="With --check: a JSON report.")
@click.option("--quiet", is_flag=True, help="No words on standard error but errors.")
@click.version_option(__version__, prog_name="edgekd-run")
def cli(model: str, check: bool, as_json: bool, **options: Any) -> None:
    """Run an exported detector on a stream of sensor samples.

    \b
    Examples:
        edgekd-run --model student.onnx --serial /dev/ttyUSB0
        edgekd-run --model student.onnx --csv recording.csv --scores
        mosquitto_sub -t plant | edgekd-run --model student.onnx --stdin --state /var/lib/edgekd/state
        edgekd-run --model images.onnx --frames camera --scores
        edgekd-run --model student.onnx --check
    """
    if check:
        sys.exit(_check(model, as_json))
    if as_json:
        raise UsageError("--json goes with --check; events are JSON lines anyway")
    sys.exit(_run(model, **options))


def main() -> None:
    """Run the command; every error that a user can mend becomes one line and its own exit code."""
    try:
        cli.main(standalone_mode=False)
    except (click.exceptions.Abort, KeyboardInterrupt):
        sys.exit(130)
    except click.ClickException as error:
        error.show()
        sys.exit(2)
    except EdgeKDError as error:
        click.echo(f"edgekd-run: {error}", err=True)
        sys.exit(error.exit_code)
    except BrokenPipeError:
        _forget_stdout()
    except OSError as error:  # what is left is the event stream itself: every input and file has its own handling
        click.echo(f"edgekd-run: {error.strerror or error}: cannot go on; check where standard output goes", err=True)
        _forget_stdout()
        sys.exit(1)


def _run(
    model: str,
    serial: str | None,
    baud: int,
    csv: str | None,
    stdin: bool,
    frames: str | None,
    raw: str | None,
    maps: tuple[str, ...],
    scores: bool,
    threshold: float | None,
    state: str | None,
    state_every: float,
    record: str | None,
    quiet: bool,
) -> int:
    """Put the parts together and run them."""
    inputs = (("--serial", serial), ("--csv", csv), ("--stdin", stdin), ("--frames", frames))
    given = [name for name, value in inputs if value]
    if len(given) != 1:
        found = f"got {' and '.join(given)}" if given else "got none"
        raise UsageError(f"give one input, --frames DIR, --serial DEV, --csv FILE or --stdin ({found}); or --check")
    if raw and not stdin:
        raise UsageError("--raw goes with --stdin; files of a folder (--frames) say their own shape")
    if record and (frames or raw):
        raise UsageError("--record writes rows of a series; images are files already")
    if threshold is not None and not math.isfinite(threshold):
        raise UsageError("--threshold must be a finite number")

    from edgekd.runtime.detector import Detector
    from edgekd.runtime.loop import Loop
    from edgekd.runtime.sinks import JsonLines, Words
    from edgekd.runtime.threshold import Episodes

    say, sink, episodes = Words(quiet), JsonLines(sys.stdout), Episodes()
    detector = Detector.load(model, threshold=threshold)
    if frames or raw:
        source = _images(detector, frames, raw)
    else:
        source = _source(detector.manifest, serial, baud, csv, _columns(maps, detector.manifest))
    keeper = recorder = None
    if state:
        from edgekd.runtime.resume import StateKeeper

        keeper = StateKeeper(state, state_every, detector, episodes, sink.emit, say)
    if record:
        from edgekd.runtime.record import Recorder

        recorder = Recorder(record, detector.manifest.names)
    loop = Loop(source, detector, episodes, sink, say, keeper, recorder, scores)
    for signum in (signal.SIGTERM, signal.SIGINT):
        signal.signal(signum, lambda number, _: loop.stop(number))
    code = loop.run()
    if loop.broken_pipe:
        _forget_stdout()
    return code


def _source(manifest: Manifest, serial: str | None, baud: int, csv: str | None, columns: dict[str, str]) -> Source:
    if serial:
        from edgekd.runtime.sources.serial_line import SerialLine

        return SerialLine(serial, baud, manifest, columns)
    if csv:
        from edgekd.runtime.sources.csv_file import CsvFile

        return CsvFile(csv, manifest, columns)
    from edgekd.runtime.sources.stdin import Stdin

    return Stdin(manifest, columns)


def _images(detector: Detector, frames: str | None, raw: str | None) -> Source:
    from edgekd.runtime.sources.frames import FrameBytes, FrameFiles, parse_raw

    if detector.image is None:
        raise UsageError(f"{'--frames' if frames else '--raw'}: this model takes a series, not images; use --csv")
    return (
        FrameFiles(frames, detector.image)
        if frames
        else FrameBytes(detector.image, parse_raw(raw or "", detector.image))
    )


def _columns(maps: tuple[str, ...], manifest: Manifest) -> dict[str, str]:
    """`--map` options as sensor -> column; a name may itself hold an equals sign."""
    columns: dict[str, str] = {}
    for text in maps:
        cuts = [i for i, c in enumerate(text) if c == "=" and text[:i] in manifest.names]
        if not cuts or not text[cuts[0] + 1 :]:
            known = ", ".join(manifest.names[:8]) + (" …" if len(manifest.names) > 8 else "")
            raise UsageError(f"--map '{text}' is not NAME=COLUMN with one of the model's sensors ({known})")
        name = text[: cuts[0]]
        if name in columns:
            raise UsageError(f"--map names sensor '{name}' twice")
        columns[name] = text[cuts[0] + 1 :]
    return columns


def _check(model: str, as_json: bool) -> int:
    """Print the report; 0 if the model is fit to run here, 1 if its self-test fails."""
    from edgekd.runtime.check import check_model, describe

    try:
        report = check_model(model)
    except EdgeKDError as error:
        if as_json:
            click.echo(json.dumps({"ok": False, "file": model, "error": str(error)}))
        raise
    click.echo(json.dumps(report) if as_json else describe(report))
    if report["ok"]:
        return 0
    click.echo(
        f"edgekd-run: {Path(model).name}: the self-test failed; this engine does not compute what was trained", err=True
    )
    return 1


def _forget_stdout() -> None:
    """Nobody reads standard output any more: keep Python from flushing into it at exit, and from saying so."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    main()
