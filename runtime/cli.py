"""The `edgekd-run` command: options in, one loop, exit codes out. Heavy imports wait until the options are right."""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgekd import __version__
from edgekd.runtime.errors import EdgeKDError, UsageError
from edgekd.runtime.options import (
    GOES_WITH,
    INPUTS,
    Options,
    decision_options,
    input_options,
    model_options,
    service_options,
    sink_options,
    state_options,
    strongest_input,
)

if TYPE_CHECKING:
    from edgekd.runtime.detector import Detector
    from edgekd.runtime.episodes import Episodes
    from edgekd.runtime.gateway.watchers.site_threshold import SiteThreshold
    from edgekd.runtime.manifest import Manifest
    from edgekd.runtime.sources import Source
    from edgekd.runtime.sources.row_parser import Layout

SWITCH_S = 0.0005  # a thread that sends events keeps detection waiting for so long, not for Python's 5 ms
CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 110, "auto_envvar_prefix": "EDGEKD"}
EPILOG = """Events are JSON lines on standard output, words go to standard error. Every option can also be given as an
environment variable, EDGEKD_ and its name (EDGEKD_MODEL, EDGEKD_STATE_EVERY), and in the file of --config. Flags are
stronger than variables, variables than the file.

\b
Exit codes: 0 done or stopped, 1 the self-test failed, 2 usage, 3 model refused,
4 the input failed for good, 130 interrupted."""


@click.command(context_settings=CONTEXT, epilog=EPILOG)
@model_options
@input_options
@decision_options
@state_options
@sink_options
@service_options
@click.version_option(__version__, prog_name="edgekd-run")
@click.pass_context
def cli(context: click.Context, **given: Any) -> None:
    """Run an exported detector on a stream of sensor samples.

    \b
    Examples:
        edgekd-run --model student.onnx --serial /dev/ttyUSB0
        edgekd-run --model student.onnx --tcp plant-7:4001 --sequence count --checksum nmea
        edgekd-run --model student.onnx --csv recording.csv --scores
        edgekd-run --model student.onnx --csv /var/log/plant.csv --follow --resample mean
        mosquitto_sub -t plant | edgekd-run --model student.onnx --stdin --state /var/lib/edgekd/state
        edgekd-run --model images.onnx --frames camera --scores
        edgekd-run --model student.onnx --check
        edgekd-run --model student.onnx --require-signed key.pem.pub --serial /dev/ttyUSB0
        edgekd-run --config /etc/edgekd/edgekd.toml
    """
    options = Options(**strongest_input(context, given))
    if options.check:
        sys.exit(_check(options.model, options.require_signed, options.as_json))
    if options.as_json:
        raise UsageError("--json goes with --check; events are JSON lines anyway")
    sys.exit(_run(options))


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


def _run(options: Options) -> int:
    """Put the parts together and run them."""
    _refuse_contradictions(options)

    from edgekd.runtime.sinks import Words

    say = Words(options.quiet)
    if not options.state:
        return _detect(options, say)
    from edgekd.runtime.lock import lock_state

    with lock_state(options.state, say):
        return _detect(options, say)


def _detect(options: Options, say: Callable[[str], None]) -> int:
    from edgekd.runtime.detector import Detector
    from edgekd.runtime.disk_writer import DiskWriter
    from edgekd.runtime.gateway.reload import Reload
    from edgekd.runtime.gateway.sinks.fan_out import Several
    from edgekd.runtime.gateway.watchers.systemd import Systemd
    from edgekd.runtime.loop import Loop
    from edgekd.runtime.signals import ended_in_time, handle_signals

    sys.setswitchinterval(SWITCH_S)
    writer = DiskWriter()
    detector = Detector.load(options.model, threshold=options.threshold, probe=True, signed_by=options.require_signed)
    episodes, site = _decision(options, detector)
    source = _source(options, detector)
    sink = Several(options, source.live, writer, say)
    keeper = recorder = None
    if options.state:
        from edgekd.runtime.resume import StateKeeper

        keeper = StateKeeper(
            options.state, detector, episodes, site, sink.emit, say, writer, options.state_every, options.state_samples
        )
    if options.record:
        from edgekd.runtime.watchers.record import Recorder

        recorder = Recorder(options.record, detector.manifest.names)
    loop = Loop(source, detector, episodes, sink, say, keeper, recorder, options.scores, Systemd.of(), site)
    if options.config:
        loop.reload = Reload(loop, sink, options, _read_again)
    if options.metrics:
        from edgekd.runtime.gateway.watchers.metrics import serve_metrics

        say(f"metrics are at {serve_metrics(options.metrics, loop)}")
    handle_signals(loop)
    sink.stream = keeper
    sink.start()
    try:
        code = loop.run()
    finally:
        sink.close(lambda: loop.stopped or loop.broken_pipe, loop.over_by)
    if loop.broken_pipe:
        _forget_stdout()
    sys.stdout.flush()
    ended_in_time()
    return code


def _read_again() -> Options:
    """The options of this process as they would be if it began now. Raises as the command does."""
    with cli.make_context("edgekd-run", sys.argv[1:]) as context:
        options = Options(**strongest_input(context, context.params))
    _refuse_contradictions(options)
    return options


def _decision(options: Options, detector: Detector) -> tuple[Episodes, SiteThreshold]:
    """What makes alarms of verdicts; durations become samples."""
    from edgekd.runtime.episodes import Episodes
    from edgekd.runtime.gateway.watchers.site_threshold import SiteThreshold

    period_s = detector.manifest.period_s
    lasting, cooldown, first = (
        math.ceil(seconds / period_s - 1e-9)
        for seconds in (options.min_duration, options.cooldown, options.calibrate_for)
    )
    if options.hysteresis < 1 and detector.threshold <= 0:
        raise UsageError("--hysteresis: this model's threshold is not above 0, a part of it would be no lower")
    band = options.adapt_band if options.adapt else None
    reset, calibrate_band = options.reset_threshold, options.calibrate_band
    site = SiteThreshold(detector.manifest, detector.threshold, first, band, reset, calibrate_band)
    return Episodes(lasting, cooldown, options.hysteresis), site


def _refuse_contradictions(options: Options) -> None:
    """Raises UsageError for options that do not go together."""
    given = [f"--{name}" for name in INPUTS if getattr(options, name)]
    if len(given) != 1:
        found = f"got {' and '.join(given)}" if given else "got none"
        raise UsageError(
            "give one input, --frames DIR, --mqtt URL, --tcp HOST:PORT, --serial DEV, --csv FILE or --stdin"
            f" ({found}); or --check"
        )
    if options.raw and not options.stdin:
        raise UsageError("--raw goes with --stdin; files of a folder (--frames) say their own shape")
    for name, inputs in GOES_WITH.items():
        if getattr(options, name) not in (None, False) and given[0][2:] not in inputs:
            raise UsageError(f"--{name.replace('_', '-')} goes with --{' or --'.join(inputs)}, not with {given[0]}")
    if options.resample and options.sequence:
        raise UsageError("--sequence counts samples at the model's own rate; with --resample go by --time")
    if options.record and (options.frames or options.raw):
        raise UsageError("--record writes rows of a series; images are files already")
    if options.threshold is not None and not math.isfinite(options.threshold):
        raise UsageError("--threshold must be a finite number")
    for name, (low, high) in (("adapt", options.adapt_band), ("calibrate", options.calibrate_band)):
        if not low <= 1 <= high:
            raise UsageError(f"--{name}-band: give a factor up to 1 and one from 1 on, as in 0.5 2.0")
    if options.calibrate_for and options.threshold is not None:
        raise UsageError("--threshold sets it by hand, --calibrate-for by this site's scores; leave out one")
    for name in ("calibrate_for", "reset_threshold"):
        if getattr(options, name) and not options.state:
            raise UsageError(f"--{name.replace('_', '-')} needs --state FILE, which is where the threshold is kept")
    if options.frames or options.raw:
        for name, default in (
            ("min_duration", 0), ("cooldown", 0), ("hysteresis", 1), ("adapt", False), ("calibrate_for", 0),
        ):  # fmt: skip
            if getattr(options, name) != default:
                raise UsageError(f"--{name.replace('_', '-')} goes with a series; images are judged one by one")


def _source(options: Options, detector: Detector) -> Source:
    if options.frames or options.raw:
        return _images(options, detector)
    manifest = detector.manifest
    columns = _columns(options.maps, manifest)
    layout = _layout(options)
    if options.serial or options.tcp:
        return _connection(options, detector, columns, layout)
    if options.csv and options.follow:
        from edgekd.runtime.gateway.sources.growing_file import CsvFollow

        return CsvFollow(options.csv, manifest, columns, layout, options.give_up_after)
    if options.csv:
        from edgekd.runtime.sources.csv_file import CsvFile

        return CsvFile(options.csv, manifest, columns, layout)
    if options.mqtt:
        from edgekd.runtime.gateway.mqtt.connection import parse_url
        from edgekd.runtime.gateway.mqtt.subscribe import MqttMessages
        from edgekd.runtime.gateway.sinks.fan_out import mqtt_secrets

        return MqttMessages(parse_url(options.mqtt, "--mqtt"), mqtt_secrets(options), manifest, columns, layout)
    from edgekd.runtime.sources.stdin import Stdin

    return Stdin(manifest, columns, layout)


def _connection(options: Options, detector: Detector, columns: dict[str, str], layout: Layout) -> Source:
    """A serial port or a TCP connection, read while the detector computes."""
    from edgekd.runtime.sources import RowReader
    from edgekd.runtime.sources.read_ahead import Backlog
    from edgekd.runtime.sources.reconnect import Door, Reconnecting

    door: Door
    if options.serial:
        from edgekd.runtime.sources.serial_line import SerialPort

        door = SerialPort(options.serial, options.baud)
    else:
        from edgekd.runtime.gateway.sources.tcp import TcpServer

        door = TcpServer(options.tcp or "")
    manifest = detector.manifest
    rows = RowReader(manifest, columns, "anything", door.name, layout, live=True)
    source = Reconnecting(door, rows, manifest, options.give_up_after, options.idle_timeout or None)
    return Backlog(source, manifest, lambda: detector.samples_seen)


def _layout(options: Options) -> Layout:
    """What the lines carry; `--sequence COLUMN:N` says where the count wraps."""
    from edgekd.runtime.sources.row_parser import Layout

    column, colon, wraps = (options.sequence or "").rpartition(":")
    wraps_at = int(wraps) if colon and wraps.isascii() and wraps.isdigit() and len(wraps) <= 20 else None
    if wraps_at is not None and wraps_at < 2:
        raise UsageError(f"--sequence {options.sequence}: a count that wraps at {wraps_at} counts nothing")
    return Layout(
        checksum=options.checksum is not None,
        sequence=options.sequence if wraps_at is None else column,
        sequence_wraps_at=wraps_at,
        time=options.time,
        resample=options.resample,
    )


def _images(options: Options, detector: Detector) -> Source:
    from edgekd.runtime.sources.images import FrameBytes, FrameFiles, parse_raw

    if detector.image is None:
        raise UsageError(
            f"{'--frames' if options.frames else '--raw'}: this model takes a series, not images; use --csv"
        )
    if options.frames:
        return FrameFiles(options.frames, detector.image)
    return FrameBytes(detector.image, parse_raw(options.raw or "", detector.image))


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


def _check(model: str, signed_by: str | None, as_json: bool) -> int:
    """Print the report; 0 if the model is fit to run here, 1 if its self-test fails."""
    from edgekd.runtime.check import check_model, describe

    try:
        report = check_model(model, signed_by)
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
