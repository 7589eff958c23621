"""How the machines of a fleet are trained and exported: one table for all, and one for each type of machine."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Annotated, Any, Literal

from edgekd.blocks.threshold import RATES
from edgekd.distillation import SHARED, configure
from edgekd.runtime import json_fields as read
from edgekd.runtime.errors import ModelRefused, UsageError

FORMATS = ("onnx", "tflite")
ONE = ("machine", "type")
WARM_EPOCHS = 2
"""Of a student that begins as that of its type, a third of the preset's: it begins near its end."""

_Word = Annotated[str | None, read.or_null, read.text, 80, read.OPTIONAL]


def _one_of(value: Any, where: str, words: tuple[str, ...]) -> Any:
    if value not in words:
        raise ModelRefused(f"'{where}' must be {' or '.join(words)}, got {read.shown(value)}")
    return value


@dataclass(frozen=True)
class Settings:
    """What `edgekd distill` and `edgekd export` are told for one machine."""

    method: _Word = None
    preset: _Word = None
    set: Annotated[dict[str, Any], read.free, read.OPTIONAL] = field(default_factory=dict)
    """Settings put over the preset's."""
    one: Annotated[Literal["machine", "type"], _one_of, ONE, read.OPTIONAL] = "machine"
    """What has a network of its own: each machine, or all machines of a type together."""
    seed: Annotated[int, read.integer, 0, 2**32 - 1, read.OPTIONAL] = 0
    false_alarms_per_day: Annotated[float, read.number, RATES[-1], RATES[0], read.OPTIONAL] = 1.0
    format: Annotated[Literal["onnx", "tflite"], _one_of, FORMATS, read.OPTIONAL] = "onnx"
    int8: _Word = None
    """A scheme, "default" or "auto"; None exports in float."""

    @property
    def shares(self) -> bool:
        """Whether machines of a type begin with a teacher and a student that are theirs together."""
        return configure(self.method, self.preset, self.set)[0] in SHARED

    def to_json(self) -> dict[str, Any]:
        """JSON-able."""
        return asdict(self)


def settings_of(values: dict[str, Any], where: str) -> Settings:
    """Settings from a table of a file; raises UsageError naming the key."""
    try:
        found: Settings = read.record({key.replace("-", "_"): value for key, value in values.items()}, "", Settings)
    except ModelRefused as error:
        raise UsageError(f"{where}: {str(error).removeprefix('manifest: ').partition(';')[0]}") from None
    configure(found.method, found.preset, found.set)
    if found.one == "type" and not found.shares:
        raise UsageError(f"{where}: one student for a type is for {' and '.join(SHARED)}; leave it out")
    return found
