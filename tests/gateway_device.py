"""Runs `edgekd-gateway run` as a process of its own; its file is written from options as `edgekd-run` has them."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import device
from device import PATIENCE_S, ROOT, Device

COMMAND = [sys.executable, "-m", "edgekd.runtime.gateway.cli"]
FLAGS = ("stdin", "follow", "adapt", "scores", "quiet")
NUMBERS = (
    "threshold",
    "hysteresis",
    "state-every",
    "baud",
    "exec-timeout",
    "outbox-mb",
    "alarm-factor",
)
PAIRS = ("adapt-band", "calibrate-band")
TOP = ("publish", "exec", "exec-timeout", "exec-retry", "outbox", "outbox-mb", "metrics", "quiet", "mqtt-password-file")
TOP += ("receipts", "heartbeat", "control", "mqtt-ca", "mqtt-cert", "mqtt-key", "mqtt-client-id")
TOP += ("page", "page-token-file", "history")


def gateway_toml(*arguments: object) -> str:
    """`--model M --tcp A --publish T` … as the text of a gateway's file."""
    words = [str(argument) for argument in arguments]
    top: dict[str, Any] = {}
    stream: dict[str, Any] = {}
    while words:
        key = words.pop(0).removeprefix("--")
        table = top if key in TOP else stream
        if key in FLAGS:
            table[key] = True
        elif key in PAIRS:
            table[key] = [float(words.pop(0)), float(words.pop(0))]
        elif key == "map":
            table[key] = [*table.get(key, []), words.pop(0)]
        else:
            value = words.pop(0)
            table[key] = json.loads(value) if key in NUMBERS else value
    lines = [f"{key} = {json.dumps(value)}" for key, value in top.items()]
    return "\n".join([*lines, "[[stream]]", *(f"{key} = {json.dumps(value)}" for key, value in stream.items())]) + "\n"


def gateway_command(*arguments: object) -> list[str]:
    """The command that runs such a file, which is written for it."""
    more = [argument for argument in arguments if argument == "--reset-threshold"]
    with tempfile.NamedTemporaryFile("w", prefix="gateway-", suffix=".toml", dir=FOLDER.name, delete=False) as file:
        file.write(gateway_toml(*(argument for argument in arguments if argument not in more)))
    return [*COMMAND, "run", file.name, *map(str, more)]


FOLDER = tempfile.TemporaryDirectory(prefix="edgekd-gateways-")


def run(*arguments: object, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run to the end."""
    command = gateway_command(*arguments)
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE_S, **options)


def run_file(file: Path, *arguments: object, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run a file to the end."""
    command = [*COMMAND, "run", str(file), *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE_S, **options)


class Gateway(Device):
    """A running `edgekd-gateway`."""

    def command(self, *arguments: object) -> list[str]:
        return gateway_command(*arguments)

    def event_of(self, line: str) -> dict[str, Any]:
        return without_id(json.loads(line))


def without_id(event: dict[str, Any]) -> dict[str, Any]:
    """An event as `edgekd-run` would tell it."""
    return {key: value for key, value in event.items() if key != "id"}


def events_of(text: str, kind: str = "") -> list[dict[str, Any]]:
    """The events in a gateway's standard output, without their names, all or those of one kind."""
    return [without_id(event) for event in device.events_of(text, kind)]
