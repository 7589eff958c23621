"""`--config FILE`: options in TOML, each key the name of an option. Weaker than `EDGEKD_*` variables and flags.

    model = "/etc/edgekd/student.onnx"
    serial = "/dev/serial/by-id/usb-…"
    state-every = 60.0

One mapping and no other: `--state-every 60` is `state-every = 60`, a flag is `true` or `false`, an option that may be
given several times is a list. Paths mean what they mean on the command line.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import click

from edgekd.runtime.errors import UsageError
from edgekd.runtime.json_fields import shown

MAX_BYTES = 2**20  # somebody gave a recording
ACTS = frozenset(("config", "check", "json", "print-config", "print-unit", "reset-threshold", "version", "help"))
"""Options that do something once, or say where the settings are: no settings themselves."""


def settings(command: click.Command) -> dict[str, click.Option]:
    """The options that a config file may hold, under their names there."""
    options = {_key(parameter): parameter for parameter in command.params if isinstance(parameter, click.Option)}
    return {key: option for key, option in options.items() if key not in ACTS}


def read_config(path: str, context: click.Context) -> dict[str, Callable[[], Any]]:
    """A file as click's `default_map`: parameter name -> its value, converted when click asks for it.

    Raises UsageError that names the file and the key: unreadable, no TOML, unknown key, wrong type. What a stronger
    flag or variable replaces is never converted, so that its file need not be there.
    """
    told = shown(path, 300)
    known = settings(context.command)
    values: dict[str, Callable[[], Any]] = {}
    for key, value in _load(path, told).items():
        if key not in known:
            raise UsageError(f"{told}: {_unknown(key, value, known)}")
        option = known[key]
        wanted = _wanted(option, value)
        if wanted:
            raise UsageError(f"{told}: {key} must be {wanted}, got {shown(_toml(value), 80)}")
        assert option.name
        values[option.name] = _converted(option, value, context, f"{told}: {key}")
    return values


def config_callback(context: click.Context, _: click.Parameter, path: str | None) -> str | None:
    """Take the file's values for what neither a flag nor a variable gives."""
    if path:
        context.default_map = {**(context.default_map or {}), **read_config(path, context)}
    return path


def print_and_exit(name: str) -> Callable[[click.Context, click.Parameter, bool], None]:
    """A callback for a flag that prints a file of the package."""

    def callback(context: click.Context, _: click.Parameter, wanted: bool) -> None:
        if wanted and not context.resilient_parsing:
            from importlib.resources import files

            click.echo((files("edgekd.runtime") / name).read_text(encoding="utf-8"), nl=False)
            context.exit()

    return callback


def _load(path: str, told: str) -> Mapping[str, Any]:
    import tomllib

    try:
        with Path(path).open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise UsageError(f"{told}: {error.strerror}; edgekd-run --print-config prints one to begin with") from None
    if len(data) > MAX_BYTES:
        raise UsageError(f"{told}: larger than {MAX_BYTES >> 20} MiB, so no config file")
    try:
        return tomllib.loads(data.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UsageError(f"{told}: not TOML: {shown(str(error), 200)}") from None


def _unknown(key: str, value: Any, known: Mapping[str, click.Option]) -> str:
    if key in ACTS:
        return f"{key} is given on the command line, not in a config file"
    words = f"there is no option '{shown(key, 80)}'"
    if isinstance(value, dict):
        return f"{words}; write 'option = value' without tables"
    import difflib

    close = difflib.get_close_matches(key.replace("_", "-"), known, 1)
    return f"{words}; did you mean {close[0]}?" if close else f"{words}; edgekd-run --help lists them"


def _wanted(option: click.Option, value: Any) -> str:
    """What the value should be, where it is something else; click itself would take 5.7 for 5 and 1 for true."""
    if option.multiple:
        one = not isinstance(value, list) or not all(isinstance(item, str) for item in value)
        return 'a list of strings, as in ["a", "b"]' if one else ""
    number = _is_number(value)
    if option.nargs > 1:
        right = isinstance(value, list) and len(value) == option.nargs and all(map(_is_number, value))
        return "" if right else f"a list of {option.nargs} numbers"
    if option.is_flag:
        return "" if isinstance(value, bool) else "true or false"
    if isinstance(option.type, click.types.IntParamType):
        return "" if number and isinstance(value, int) else "a whole number"
    if isinstance(option.type, click.types.FloatParamType):
        return "" if number else "a number"
    return "" if isinstance(value, str) else 'a string, as in "a"'


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _converted(option: click.Option, value: Any, context: click.Context, where: str) -> Callable[[], Any]:
    def convert() -> Any:
        try:
            option.type_cast_value(context, value)
        except click.BadParameter as error:
            raise UsageError(f"{where}: {error.message}") from None
        return value

    return convert


def _key(option: click.Option) -> str:
    """`--state-every` -> state-every."""
    return max(option.opts, key=len).removeprefix("--")


def _toml(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else repr(value)
