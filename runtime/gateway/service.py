"""The service: the streams of one file, with everything that a gateway adds to them."""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path

from edgekd.runtime import assembly
from edgekd.runtime.cli import SWITCH_S, forget_stdout
from edgekd.runtime.detector import Detector
from edgekd.runtime.disk_writer import DiskWriter
from edgekd.runtime.errors import UsageError
from edgekd.runtime.files import sha256, state_folder
from edgekd.runtime.gateway.options import GatewayOptions, StreamOptions
from edgekd.runtime.gateway.outbox import Outbox
from edgekd.runtime.gateway.sinks.fan_out import FanOut
from edgekd.runtime.gateway.sinks.interface import Outlet
from edgekd.runtime.gateway.sinks.spare import SpareStdout
from edgekd.runtime.gateway.watchers.site_threshold import SiteThreshold, ThresholdWatcher
from edgekd.runtime.gateway.watchers.systemd import Systemd
from edgekd.runtime.loop import Loop, Say
from edgekd.runtime.signals import Signals
from edgekd.runtime.sinks import StderrLines, wall_time
from edgekd.runtime.sources import Source
from edgekd.runtime.sources.reconnect import Door


def run(options: GatewayOptions, reset_threshold: bool = False) -> int:
    """Run until the inputs end, or a signal; the exit code. reset_threshold: forget what the site has learned."""
    (stream,) = options.streams
    say = StderrLines("edgekd-gateway", options.quiet)
    with assembly.lock_of(stream, say):
        return _run(options, stream, reset_threshold, say)


def _run(options: GatewayOptions, stream: StreamOptions, reset_threshold: bool, say: Say) -> int:
    sys.setswitchinterval(SWITCH_S)
    writer = DiskWriter()
    detector = Detector.load(
        stream.model, threshold=stream.threshold, false_alarms_per_day=stream.false_alarms_per_day, probe=True,
        signed_by=stream.require_signed,
    )  # fmt: skip
    source = open_source(options, stream, detector)

    def lost(reason: str) -> None:
        say(f"nothing takes standard output any more ({reason}); events go on to the other sinks")
        fan_out.emit({"event": "stdout_lost", "time": wall_time(), "reason": reason})

    stdout = assembly.stdout_of(stream, source.live)
    fan_out = FanOut(SpareStdout(stdout, lost) if options.publish or options.command else stdout, writer, say)
    deliver(options, stream, fan_out, writer, patient=not source.live)
    loop = loop_of(stream, detector, source, fan_out, writer, say, reset_threshold)
    if options.metrics:
        from edgekd.runtime.gateway.watchers.metrics import serve_metrics

        say(f"metrics are at {serve_metrics(options.metrics, loop, fan_out)}")
    signals = Signals("edgekd-gateway", loop.stop)
    gone = False
    try:
        loop.run()
        say(loop.summary())
    except BrokenPipeError:  # nobody reads the events any more: what they did not get is told after the next start
        gone = True
    finally:
        fan_out.close(lambda: loop.stopped or gone, lambda: signals.over_by)
    if gone:
        forget_stdout()
    sys.stdout.flush()
    signals.done()
    return 130 if signals.interrupted else 0


def loop_of(
    stream: StreamOptions,
    detector: Detector,
    source: Source,
    fan_out: FanOut,
    writer: DiskWriter,
    say: Say,
    reset_threshold: bool = False,
) -> Loop:
    """One stream with all that looks on."""
    episodes = assembly.episodes_of(stream, detector)
    loop = Loop(source, detector, episodes, fan_out.emit, say, stream.scores)
    first = assembly.samples_in(stream.calibrate_for, detector.manifest.period_s)
    band = stream.adapt_band if stream.adapt else None
    site = SiteThreshold(detector.manifest, detector.threshold, first, band, reset_threshold, stream.calibrate_band)
    threshold = ThresholdWatcher(loop, site)
    keeper = assembly.keeper_of(stream, loop, writer, threshold)
    fan_out.keeper = keeper[0] if keeper else None
    loop.watchers = [*Systemd.watching(loop), *assembly.watchers_of(stream, loop), threshold, fan_out, *keeper]
    if stream.give_up_after is not None and (stream.serial or stream.tcp):
        from edgekd.runtime.gateway.watchers.give_up import GiveUp

        loop.watchers.append(GiveUp(loop, stream.give_up_after))
    return loop


def open_source(options: GatewayOptions, stream: StreamOptions, detector: Detector) -> Source:
    """The stream's input, of the kinds that only a gateway has or of those of `edgekd-run`."""
    manifest = detector.manifest
    if stream.tcp or stream.serial:
        from edgekd.runtime.gateway.sources.tcp import TcpServer
        from edgekd.runtime.sources.serial_line import SerialPort

        door: Door = TcpServer(stream.tcp) if stream.tcp else SerialPort(stream.serial or "", stream.baud)
        if stream.idle_timeout:
            from edgekd.runtime.gateway.sources.idle_timeout import IdleTimeout

            door = IdleTimeout(door, stream.idle_timeout)
        return assembly.connection(door, stream, detector)
    columns, layout = assembly.columns_of(stream.maps, manifest), assembly.layout_of(stream, manifest)
    likely = stream.layout is None
    if stream.csv and stream.follow:
        from edgekd.runtime.gateway.sources.growing_file import GrowingFile

        return GrowingFile(stream.csv, manifest, columns, layout, stream.give_up_after, likely)
    if stream.mqtt:
        from edgekd.runtime.gateway.mqtt.connection import parse_url
        from edgekd.runtime.gateway.mqtt.subscribe import MqttMessages

        return MqttMessages(parse_url(stream.mqtt, "mqtt"), options.secrets, manifest, columns, layout, likely)
    return assembly.open_source(stream, detector)


def deliver(options: GatewayOptions, stream: StreamOptions, fan_out: FanOut, writer: DiskWriter, patient: bool) -> None:
    """Give the fan-out its outbox and what delivers from it, where something is to be delivered."""
    if not (options.publish or options.command):
        return
    outbox = Outbox(outbox_folder(options, stream), int(options.outbox_mb * 2**20), writer, fan_out.tell, patient)
    outlets: list[Outlet] = []
    if options.publish:
        from edgekd.runtime.gateway.mqtt.publish import Publisher, publish_address

        outlets.append(Publisher(publish_address(options.publish, stream.mqtt), options.secrets, outbox, fan_out.tell))
    if options.command:
        from edgekd.runtime.gateway.sinks.exec import Exec

        outlets.append(Exec(options.command, options.exec_timeout, options.exec_retry, outbox, fan_out.tell))
    fan_out.outbox, fan_out.outlets = outbox, outlets


def outbox_folder(options: GatewayOptions, stream: StreamOptions) -> Path:
    """Beside the state; else where the system keeps a service's state, or a user's. One of 0.1.0 is taken over."""
    if options.outbox:
        return Path(options.outbox)
    if stream.state:
        folder, old = Path(f"{stream.state}.outbox"), Path(f"{stream.state}.spool")
    elif (home := state_folder()) is None:
        raise UsageError("there is no folder to keep events in; name one with outbox")
    elif os.environ.get("STATE_DIRECTORY"):
        folder, old = home / "outbox", home / "spool"
    else:
        what = "\0".join([str(Path(stream.model).resolve()), options.publish or "", options.command or ""])
        name = sha256(what.encode())[:12]
        folder, old = home / f"outbox-{name}", home / f"spool-{name}"
    if os.path.isdir(old) and not os.path.exists(folder):  # noqa: PTH110, PTH112 - neither raises
        with contextlib.suppress(OSError):  # told by the outbox, which cannot write there either
            old.rename(folder)
    return folder
