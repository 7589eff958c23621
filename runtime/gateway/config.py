"""The gateway's file: TOML, each key the name of an option in `options.py`, those of a stream in a `[[stream]]` table.

    publish = "mqtts://user@broker.example/alerts"

    [[stream]]
    model = "/etc/edgekd/student.onnx"
    serial = "/dev/serial/by-id/usb-…"

Nothing overrides the file. Relative paths begin at the current directory.
"""

from __future__ import annotations

import difflib
import sys
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from edgekd.runtime.errors import UsageError
from edgekd.runtime.gateway.options import (
    GatewayOptions,
    StreamOptions,
    check,
    key_of,
    keys_of,
    stream_named,
)
from edgekd.runtime.json_fields import shown
from edgekd.runtime.options import DURATION

MAX_BYTES = 2**20  # somebody gave a recording
_NO_EVENTS = "is gone: events are on standard output, which the unit's StandardOutput=append: brings to a file"
TEXT = 'a string, as in "a"'
GONE = {
    "spool": "spool is outbox now",
    "spool-mb": "spool-mb is outbox-mb now",
    "events": f"events {_NO_EVENTS}",
    "events-mb": "events-mb is gone: logrotate rotates that file",
    "events-keep": "events-keep is gone: logrotate rotates that file",
}
"""What a file of edgekd-run 0.1.0 may hold."""


def read_config(path: str) -> GatewayOptions:
    """What a file says. Raises UsageError that names it and the key where it is wrong or contradicts itself."""
    told = shown(path, 300)
    try:
        found = _load(path)
        streams = found.pop("stream", [])
        if not isinstance(streams, list) or not all(isinstance(stream, dict) for stream in streams):
            raise UsageError("write [[stream]], with two brackets on each side")
        _refuse_old(found)
        gateway = _values(keys_of(GatewayOptions), found)
        if not streams:
            raise UsageError(
                'no stream; write a line [[stream]] and below it model = "student.onnx" and its input, such as'
                ' serial = "/dev/ttyUSB0"'
            )
        options = GatewayOptions(**gateway, streams=tuple(map(_stream, streams)))
        check(options)
    except UsageError as error:
        raise UsageError(f"{told}: {error}") from None
    return options


def _load(path: str) -> dict[str, Any]:
    try:
        with Path(path).open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise UsageError(f"{error.strerror}; edgekd-gateway init prints one to begin with") from None
    if len(data) > MAX_BYTES:
        raise UsageError(f"larger than {MAX_BYTES >> 20} MiB, so no gateway's file")
    try:
        return tomllib.loads(data.decode())
    except (ValueError, RecursionError) as error:  # of TOML, of UTF-8, or an integer of thousands of digits
        hint = "; text goes in quotes" if "Invalid value" in str(error) else ""
        raise UsageError(f"not TOML: {shown(str(error), 200)}{hint}") from None


def _refuse_old(found: Mapping[str, Any]) -> None:
    """What edgekd-run 0.1.0 had at the top of its file, or somebody forgot to put under [[stream]]."""
    words = []
    if of_stream := [key for key in keys_of(StreamOptions) if key in found]:
        words.append(f"{', '.join(of_stream)} belong{'' if of_stream[1:] else 's'} under a line [[stream]]")
    words += [why for key, why in GONE.items() if key in found]
    if words:
        raise UsageError("; ".join([*words, "edgekd-gateway init prints an example"]))


def _stream(found: Mapping[str, Any]) -> StreamOptions:
    try:
        return StreamOptions(**_values(keys_of(StreamOptions), found))
    except UsageError as error:
        raise UsageError(f"{stream_named(found.get('name'))}{error}") from None


def _values(known: Mapping[str, click.Option], found: Mapping[str, Any]) -> dict[str, Any]:
    """Parameter name -> value, as click converts it; its default where the file has none."""
    for key, value in found.items():
        if key not in known:
            raise UsageError(_unknown(key, known))
        if "\0" in str(value):  # no file and no address of the system's
            raise UsageError(f"{key} holds a character that no name has, \\u0000")
        if wanted := _wanted(known[key], value):
            told = str(value).lower() if isinstance(value, bool) else repr(value)
            if wanted is TEXT and not isinstance(value, (bool, int, float)):
                told = f"a {'list' if isinstance(value, list) else 'table'}"  # what is in it may be a password
            raise UsageError(f"{key} must be {wanted}, got {shown(told)}")
    given = {known[key].name: value for key, value in found.items()}
    command = click.Command("file", params=list(known.values()), add_help_option=False)
    try:
        return command.make_context("file", [], default_map=given).params
    except click.MissingParameter as error:
        assert error.param
        raise UsageError(f"{key_of(error.param)} is missing") from None
    except click.BadParameter as error:
        assert error.param
        raise UsageError(f"{key_of(error.param)}: {error.message}") from None


def _unknown(key: str, known: Mapping[str, click.Option]) -> str:
    if key in GONE:
        return GONE[key]
    if key in keys_of(GatewayOptions):
        return f"{key} is not a stream's; put it above the line [[stream]]"
    close = difflib.get_close_matches(key.replace("_", "-"), known, 1)
    advice = f"did you mean {close[0]}?" if close else "edgekd-gateway init lists all"
    return f"there is no key '{shown(key)}'; {advice}"


def _wanted(option: click.Option, value: Any) -> str:
    """What the value should be, where it is something else; click itself would take 5.7 for 5 and 1 for true."""
    words, right = TEXT, isinstance(value, str)
    if option.multiple:
        right = isinstance(value, list) and all(isinstance(item, str) for item in value)
        words = 'a list of strings, as in ["a", "b"]'
    elif option.nargs > 1:
        right = isinstance(value, list) and len(value) == option.nargs and all(map(_is_number, value))
        words = f"a list of {option.nargs} numbers"
    elif option.is_flag:
        words, right = "true or false", isinstance(value, bool)
    elif isinstance(option.type, click.types.IntParamType):
        words, right = "a whole number", _is_number(value) and isinstance(value, int)
    elif isinstance(option.type, click.types.FloatParamType):
        words, right = "a finite number", _is_number(value)
    elif option.type is DURATION:
        words = 'a length of time, as in "90s"'
    return "" if right else words


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) <= sys.float_info.max
