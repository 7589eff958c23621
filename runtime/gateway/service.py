"""The service: the streams of one file, with everything that a gateway adds to them."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
from pathlib import Path
from typing import cast

from edgekd.runtime import assembly
from edgekd.runtime.cli import SWITCH_S, forget_stdout
from edgekd.runtime.detector import Detector
from edgekd.runtime.disk_writer import DiskWriter
from edgekd.runtime.errors import EdgeKDError, InputLost, UsageError
from edgekd.runtime.files import sha256, state_folder
from edgekd.runtime.gateway.models.exchange import Exchange
from edgekd.runtime.gateway.models.store import Store
from edgekd.runtime.gateway.models.trial import Switch
from edgekd.runtime.gateway.mute import Mute
from edgekd.runtime.gateway.options import GatewayOptions, StreamOptions
from edgekd.runtime.gateway.outbox import Outbox
from edgekd.runtime.gateway.sinks.fan_out import FanOut
from edgekd.runtime.gateway.sinks.interface import Outlet, Turning
from edgekd.runtime.gateway.sinks.spare import SpareStdout
from edgekd.runtime.gateway.watchers.clock import WallClock
from edgekd.runtime.gateway.watchers.heartbeat import Heartbeat
from edgekd.runtime.gateway.watchers.site_threshold import SiteThreshold, ThresholdWatcher
from edgekd.runtime.gateway.watchers.systemd import Systemd
from edgekd.runtime.gateway.watchers.threads import Threads
from edgekd.runtime.loop import Loop, Say
from edgekd.runtime.signals import Signals
from edgekd.runtime.sinks import StderrLines, wall_time
from edgekd.runtime.sources import Source
from edgekd.runtime.sources.reconnect import Door
from edgekd.runtime.watchers.state_keeper import StateKeeper

M_MMAP_THRESHOLD = -3  # malloc.h


def run(options: GatewayOptions, reset_threshold: bool = False) -> int:
    """Run until the inputs end, or a signal; the exit code. reset_threshold: forget what the site has learned."""
    (stream,) = options.streams
    say = StderrLines("edgekd-gateway", options.quiet)
    with assembly.lock_of(stream, say):
        return _run(options, stream, reset_threshold, say)


def _run(options: GatewayOptions, stream: StreamOptions, reset_threshold: bool, say: Say) -> int:
    sys.setswitchinterval(SWITCH_S)
    _give_back_large_blocks()
    writer = DiskWriter()
    store = Store(Path(f"{stream.state}.models") if stream.state else None, stream.model)
    running, path = _load(stream, store, say)
    switch = Switch(running)
    detector = cast(Detector, switch)
    source = open_source(options, stream, detector)

    def lost(reason: str) -> None:
        say(f"nothing takes standard output any more ({reason}); events go on to the other sinks")
        fan_out.emit({"event": "stdout_lost", "time": wall_time(), "reason": reason})

    stdout = assembly.stdout_of(stream, source.live)
    fan_out = FanOut(SpareStdout(stdout, lost) if options.publish or options.command else stdout, writer, say)
    deliver(options, stream, fan_out, writer, patient=not source.live)
    fan_out.mute = Mute(Path(f"{stream.state}.mute") if stream.state else None, writer, fan_out.emit, say)
    loop = Loop(source, detector, assembly.episodes_of(stream, detector), fan_out.emit, say, stream.scores)
    exchange = watch(loop, switch, options, stream, store, fan_out, fan_out.mute, writer, reset_threshold)
    if options.metrics:
        from edgekd.runtime.gateway.watchers.metrics import serve_metrics

        say(f"metrics are at {serve_metrics(options.metrics, loop, fan_out)}")
    if options.page:
        from edgekd.runtime.gateway.page.serve import Page

        page = Page(options, writer, fan_out)
        page.watch(stream, loop, fan_out, exchange)
        say(f"the page is at {page.serve()}")
    signals = Signals("edgekd-gateway", loop.stop)
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN and not os.isatty(2):  # else a terminal has closed
        signal.signal(signal.SIGHUP, lambda *_: exchange.offers.look())
    exchange.start(path, store.begin(path))
    gone, broken = False, True
    try:
        loop.run()
        broken = False
        say(loop.summary())
    except InputLost:
        broken = False
        raise
    except BrokenPipeError:  # nobody reads the events any more: what they did not get is told after the next start
        gone = True
    finally:
        fan_out.close(lambda: loop.stopped or broken, lambda: signals.over_by)
    if gone:
        forget_stdout()
    sys.stdout.flush()
    signals.done()
    return 130 if signals.interrupted else 0


def _give_back_large_blocks() -> None:
    """glibc keeps blocks of a size that was freed once, up to 32 MiB of them; a message or a model may be as large."""
    with contextlib.suppress(OSError, AttributeError):  # another C library
        ctypes.CDLL(None).mallopt(M_MMAP_THRESHOLD, 2**20)


def _load(stream: StreamOptions, store: Store, say: Say) -> tuple[Detector, Path]:
    """The model to start with and where it lies; raises what `Detector.load` does where none is good."""
    *kept, model = store.first(stream.state)
    for path in (*kept, model):
        try:
            detector = Detector.load(
                path, threshold=stream.threshold, false_alarms_per_day=stream.false_alarms_per_day, probe=True,
                signed_by=stream.require_signed,
            )  # fmt: skip
            return detector, path
        except EdgeKDError as error:
            if path is model:
                raise
            say(f"a kept model is left out: {error}")
    raise AssertionError


def watch(
    loop: Loop,
    switch: Switch,
    options: GatewayOptions,
    stream: StreamOptions,
    store: Store,
    fan_out: FanOut,
    mute: Mute,
    writer: DiskWriter,
    reset_threshold: bool = False,
) -> Exchange:
    """All that looks on."""
    first = assembly.samples_in(stream.calibrate_for, switch.manifest.period_s)
    band = stream.adapt_band if stream.adapt else None

    def site_of(detector: Detector, reset: bool = False) -> SiteThreshold:
        return SiteThreshold(detector.manifest, detector.threshold, first, band, reset, stream.calibrate_band)

    threshold = ThresholdWatcher(loop, site_of(switch.running, reset_threshold))

    def keeper() -> list[StateKeeper]:
        """What keeps the state of the model that runs now."""
        keepers = assembly.keeper_of(stream, loop, writer, {"threshold": threshold, "mute": mute})
        fan_out.keeper = keepers[0] if keepers else None
        return keepers

    def save() -> None:
        if old := fan_out.keeper:
            (new,) = keeper()
            new.stream_id, new.failures = old.stream_id, old.failures
            loop.watchers[loop.watchers.index(old)] = new
            new.save()

    exchange = Exchange(loop, switch, stream, store, site_of, threshold, writer, save)
    turning: list[Turning] = [*fan_out.outlets]

    def notes() -> str:
        return "".join(f"{words}; " for words in (mute.words, exchange.words) if words)

    loop.watchers = [Threads(loop, fan_out, writer, turning), *Systemd.watching(loop, turning, notes)]
    loop.watchers += [*assembly.watchers_of(stream, loop), mute, exchange, threshold]
    if loop.source.live:
        loop.watchers.append(WallClock(loop))
    if options.control:
        from edgekd.runtime.gateway.mqtt.control import Control
        from edgekd.runtime.gateway.mqtt.publish import address_of

        address = address_of(options.control, "control", stream.mqtt, options.publish)
        control = Control(
            address, options.secrets, exchange.offers.post, mute.ask, fan_out.tell, place=place_of(stream)
        )
        turning.append(control)
        loop.watchers.append(control)
    if options.heartbeat:
        loop.watchers.append(Heartbeat(loop, fan_out, options.heartbeat, notes))
    loop.watchers += [fan_out, *keeper()]
    if stream.give_up_after is not None and (stream.serial or stream.tcp):
        from edgekd.runtime.gateway.watchers.give_up import GiveUp

        loop.watchers.append(GiveUp(loop, stream.give_up_after))
    return exchange


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

        address = parse_url(stream.mqtt, "mqtt")
        return MqttMessages(address, options.secrets, manifest, columns, layout, likely, place=place_of(stream))
    return assembly.open_source(stream, detector)


def place_of(stream: StreamOptions) -> str:
    """What tells this stream from another one of this machine, the same at every start."""
    return str(Path(stream.state or stream.model).absolute())


def deliver(options: GatewayOptions, stream: StreamOptions, fan_out: FanOut, writer: DiskWriter, patient: bool) -> None:
    """Give the fan-out its outbox and what delivers from it, where something is to be delivered."""
    if not (options.publish or options.command):
        return
    folder = outbox_folder(options, stream)
    outbox = Outbox(folder, int(options.outbox_mb * 2**20), writer, fan_out.tell, patient)
    outlets: list[Outlet] = []
    if options.publish:
        from edgekd.runtime.gateway.mqtt.publish import Publisher, address_of

        outlets.append(
            Publisher(
                address_of(options.publish, "publish", stream.mqtt), options.secrets, outbox, fan_out.tell,
                place=str(folder.absolute()), receipts=options.receipts,
            )
        )  # fmt: skip
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
