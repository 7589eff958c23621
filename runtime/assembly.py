"""From options to the parts of one loop: what `edgekd-run` and `edgekd-gateway` have in common."""

from __future__ import annotations

import contextlib
import math
import os
import re
import sys
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from edgekd.runtime.detector import Detector
from edgekd.runtime.episodes import COOLDOWN_HOPS, Episodes
from edgekd.runtime.errors import UsageError
from edgekd.runtime.files import identity
from edgekd.runtime.json_fields import shown
from edgekd.runtime.layout import PLAIN, Layout
from edgekd.runtime.loop import Loop, Say, Watcher
from edgekd.runtime.manifest import Manifest
from edgekd.runtime.options import Options
from edgekd.runtime.sinks import JsonLines, Sink
from edgekd.runtime.sources import Source
from edgekd.runtime.sources.row_parser import FirstLine
from edgekd.runtime.sources.row_reader import RowReader
from edgekd.runtime.watchers.faulty_input import BadLines, RateCheck

if TYPE_CHECKING:  # with what they stand on, memory that most runs do not need
    from edgekd.runtime.sources.reconnect import Door
    from edgekd.runtime.watchers.state_keeper import StateKeeper, Writer

INPUTS = {"frames": "DIR", "serial": "DEV", "csv": "FILE", "stdin": ""}
OF_LINES = ("layout", "sequence", "checksum", "time", "resample")
GOES_WITH = {"raw": ("stdin",), **dict.fromkeys(OF_LINES, ("serial", "csv", "stdin"))}
"""Options that mean something with some inputs only."""


def check(
    options: Options, inputs: Mapping[str, str] = INPUTS, goes_with: Mapping[str, tuple[str, ...]] = GOES_WITH
) -> None:
    """Raise UsageError for options that do not go together, or destroy a file. inputs: of these one must be given."""
    given = [name for name in inputs if getattr(options, name)]
    if options.stdin and sys.stdin is None:
        raise UsageError("--stdin: standard input is closed")
    if len(given) != 1:
        found = f"got {' and '.join(f'--{name}' for name in given)}" if given else "got none"
        *more, last = (f"--{name} {what}".rstrip() for name, what in inputs.items())
        raise UsageError(f"give one input, {', '.join(more)} or {last} ({found})")
    for name, fitting in goes_with.items():
        if getattr(options, name) not in (None, False) and given[0] not in fitting:
            wanted = " or ".join(f"--{name}" for name in fitting)
            raise UsageError(f"--{name.replace('_', '-')} goes with {wanted}, not with --{given[0]}")
    if options.resample and options.sequence:
        raise UsageError("--sequence counts samples at the model's own rate; with --resample go by --time")
    for name, value in vars(options).items():
        if isinstance(value, float) and not math.isfinite(value):
            raise UsageError(f"--{name.replace('_', '-')} must be a finite number")
    if options.threshold is not None and options.false_alarms_per_day is not None:
        raise UsageError("--threshold and --false-alarms-per-day both set the threshold; leave out one")
    if options.frames or options.raw:
        if options.record:
            raise UsageError("--record writes rows of a series; images are files already")
        if options.min_duration or options.cooldown or options.hysteresis != 1:
            raise UsageError("--min-duration, --cooldown, --hysteresis go with a series; images are judged one by one")
    stdin, lock = "/dev/stdin" if options.stdin else None, f"{options.state}.lock" if options.state else None
    reads = (("--model", options.model), ("--csv", options.csv), ("--serial", options.serial), ("--stdin", stdin))
    taken = {identity(path): name for name, path in reads if path}
    writes = (("--state", options.state), ("the lock of --state", lock), ("--record", options.record))
    for name, path in (("--layout", options.layout), ("--require-signed", options.require_signed), *writes):
        if path and os.path.exists(path) and not os.path.isfile(path):  # noqa: PTH110, PTH113 - neither raises
            raise UsageError(f"{name} {shown(path, 300)}: is no regular file; give another name")
    for name, path in writes:
        if path and (other := taken.setdefault(identity(path), name)) != name:
            raise UsageError(f"{name} would write over the file of {other}; give one of them another name")
    if options.state:
        from edgekd.runtime.state import require_state

        require_state(options.state)


def open_source(options: Options, detector: Detector) -> Source:
    """The input that the options name. Raises UsageError where it cannot be read."""
    if options.frames or options.raw:
        return _images(options, detector)
    if options.serial:
        from edgekd.runtime.sources.serial_line import SerialPort

        return connection(SerialPort(options.serial, options.baud), options, detector)
    if options.csv:
        from edgekd.runtime.sources.csv_file import CsvFile

        manifest, likely = detector.manifest, options.layout is None
        return CsvFile(options.csv, manifest, columns_of(options.maps, manifest), layout_of(options, manifest), likely)
    from edgekd.runtime.sources.stdin import Stdin

    return Stdin(_lines(options, detector, "header fits", Stdin.name))


def connection(door: Door, options: Options, detector: Detector) -> Source:
    """Lines from something that may be lost and comes back, read while the detector computes."""
    from edgekd.runtime.sources.read_ahead import ReadAhead
    from edgekd.runtime.sources.reconnect import Reconnecting

    manifest = detector.manifest
    rows = _lines(options, detector, "anything", door.name)
    return ReadAhead(Reconnecting(door, rows, manifest), manifest)


def _lines(options: Options, detector: Detector, first_line: FirstLine, name: str) -> RowReader:
    """What reads the lines of a live input."""
    manifest = detector.manifest
    columns, layout = columns_of(options.maps, manifest), layout_of(options, manifest)
    return RowReader(manifest, columns, first_line, name, layout, True, options.layout is None)


def layout_of(options: Options, manifest: Manifest) -> Layout:
    """What the lines carry: the layout given, else the training's, as far as options do not say otherwise."""
    if options.layout:
        layout = Layout.from_toml(options.layout)
    else:
        layout = manifest.layout or PLAIN
        layout = layout if options.csv else layout.without_text()  # a live input is not written as a file was
    if options.sequence:
        column, *wraps = re.split(r":(?=[0-9]{1,19}\Z)", options.sequence)
        if wraps and int(wraps[0]) < 2:
            raise UsageError(f"--sequence {options.sequence}: a count that wraps at {wraps[0]} counts nothing")
        layout = replace(layout, sequence=column, sequence_wraps_at=int(wraps[0]) if wraps else 0)
    if options.time and (options.time,) != layout.time:
        layout = replace(layout, time=(options.time,), time_format="")
    return replace(
        layout,
        gaps=layout.gaps or bool(options.time),
        checksum=layout.checksum or options.checksum is not None,
        resample=options.resample or layout.resample,
    )


def columns_of(maps: Iterable[str], manifest: Manifest) -> dict[str, str]:
    """`--map` options as sensor -> column; a name may itself hold an equals sign."""
    columns: dict[str, str] = {}
    for text in maps:
        name = next((text[:i] for i, c in enumerate(text) if c == "=" and text[:i] in manifest.names), "")
        column = text[len(name) + 1 :]
        if not name or not column:
            known = ", ".join(manifest.names[:8]) + (" …" if len(manifest.names) > 8 else "")
            raise UsageError(f"--map '{text}' is not NAME=COLUMN with one of the model's sensors ({known})")
        if name in columns:
            raise UsageError(f"--map names sensor '{name}' twice")
        columns[name] = column
    return columns


def episodes_of(options: Options, detector: Detector) -> Episodes:
    """What makes alarms of verdicts; durations become samples."""
    if options.hysteresis < 1 and detector.threshold <= 0:
        raise UsageError("--hysteresis: this model's threshold is not above 0, a part of it would be no lower")
    period_s, cooldown = detector.manifest.period_s, COOLDOWN_HOPS * detector.manifest.hop
    if options.cooldown is not None:
        cooldown = samples_in(options.cooldown, period_s)
    return Episodes(samples_in(options.min_duration, period_s), cooldown, options.hysteresis)


def samples_in(seconds: float, period_s: float) -> int:
    """The least number of samples that last so long."""
    return math.ceil(seconds / period_s - 1e-9)


def stdout_of(options: Options, live: bool) -> Sink:
    """Events as lines on standard output. A file can wait for whoever reads them, a sensor cannot."""
    with contextlib.suppress(OSError, AttributeError):  # no stream of the system's
        if live:
            from edgekd.runtime.sinks.live_lines import LiveLines

            return LiveLines(sys.stdout.fileno(), patience_s=1.0 if options.stdin else 0.0)
    return JsonLines(sys.stdout)


def lock_of(options: Options, say: Say) -> contextlib.AbstractContextManager[None]:
    """Keeps other runs off this one's state, if it has any."""
    if not options.state:
        return contextlib.nullcontext()
    from edgekd.runtime.state import lock_state

    return lock_state(options.state, say)


def watchers_of(options: Options, loop: Loop) -> list[Watcher]:
    """What looks on in every run, but for what keeps the state."""
    watchers: list[Watcher] = []
    rows = loop.source.rows
    if isinstance(rows, RowReader):
        if options.time:
            rows.parser.ask_time()
        if not rows.resampler:  # else they need not come at the model's period
            watchers.append(RateCheck(loop))
    watchers.append(BadLines(loop))
    if options.record:
        from edgekd.runtime.watchers.record import Recorder

        watchers.append(Recorder(loop, options.record))
    return watchers


def keeper_of(
    options: Options, loop: Loop, writer: Writer | None = None, parts: dict[str, Any] | None = None
) -> list[StateKeeper]:
    """What keeps the state, if it is to be kept; it comes behind all others. parts: what a gateway saves more."""
    if not options.state:
        return []
    from edgekd.runtime.watchers.state_keeper import StateKeeper, Writer

    return [StateKeeper(options.state, loop, writer or Writer(), options.state_every, parts or {})]


def _images(options: Options, detector: Detector) -> Source:
    from edgekd.runtime.sources.images import FrameFiles, FrameReader, parse_raw

    if detector.image is None:
        raise UsageError(f"--{'frames' if options.frames else 'raw'}: this model takes a series, not images; use --csv")
    if options.frames:
        return FrameFiles(options.frames, detector.image)
    from edgekd.runtime.sources.stdin import Stdin

    return Stdin(FrameReader(detector.image, parse_raw(options.raw or "", detector.image)))
