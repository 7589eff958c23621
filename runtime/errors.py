"""The one error family. Library code raises these; only the two `cli.py` turn them into a line and an exit code."""

from __future__ import annotations


class EdgeKDError(Exception):
    """Something that a user can mend: the message says what, where and what to do, in one line."""

    exit_code = 1


class GateFailed(EdgeKDError):
    """A check or an accuracy gate did not hold (parity, self-test)."""


class UsageError(EdgeKDError):
    """The call or the data given with it do not fit."""

    exit_code = 2


class MissingExtra(UsageError):
    """A command needs an optional package that is not installed."""

    def __init__(self, package: str, extra: str) -> None:
        super().__init__(f"{package} is not installed; pip install 'edgekd[{extra}]' brings it")


class RecordingError(UsageError):
    """A recording cannot be read or does not fit the model; what is quoted of it stays on one line."""

    def __init__(self, message: str) -> None:
        super().__init__("".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in message))


class ModelRefused(EdgeKDError):
    """A model file is damaged, of an unknown format, or not what its manifest says."""

    exit_code = 3


class InputLost(EdgeKDError):
    """The input ended for good and the caller asked to be told."""

    exit_code = 4
