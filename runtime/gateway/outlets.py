"""What delivers events: the outbox, and the sinks that take them from it."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from edgekd.runtime.errors import UsageError
from edgekd.runtime.files import sha256, state_folder
from edgekd.runtime.gateway.disk_writer import DiskWriter
from edgekd.runtime.gateway.options import GatewayOptions
from edgekd.runtime.gateway.outbox import Outbox
from edgekd.runtime.gateway.sinks.fan_out import FanOut
from edgekd.runtime.gateway.sinks.interface import Outlet


def deliver(options: GatewayOptions, fan_out: FanOut, writer: DiskWriter, patient: bool) -> None:
    """Give the fan-out its outbox and what delivers from it, where something is to be delivered."""
    if not (options.publish or options.command):
        return
    folder = outbox_folder(options)
    outbox = Outbox(folder, int(options.outbox_mb * 2**20), writer, fan_out.tell, patient)
    outlets: list[Outlet] = []
    if options.publish:
        from edgekd.runtime.gateway.mqtt.publish import Publisher, address_of

        address = address_of(options.publish, "publish", *options.inputs)
        place, receipts = str(folder.absolute()), options.receipts
        outlets.append(Publisher(address, options.secrets, outbox, fan_out.tell, place=place, receipts=receipts))
    if options.command:
        from edgekd.runtime.gateway.sinks.exec import Exec

        outlets.append(Exec(options.command, options.exec_timeout, options.exec_retry, outbox, fan_out.tell))
    fan_out.outbox, fan_out.outlets = outbox, outlets


def outbox_folder(options: GatewayOptions) -> Path:
    """Beside the state; else where the system keeps a service's state, or a user's. One of 0.1.0 is taken over."""
    if options.outbox:
        return Path(options.outbox)
    stream = options.streams[0]
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
