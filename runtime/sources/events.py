"""What a source says beside its samples."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class InputEvent:
    """Something that happened to the input itself, to be told in the stream of events."""

    event: str
    words: str
    fields: dict[str, Any] = field(default_factory=dict)
    rewarm: bool = False
    """Samples are missing here, more than the detector's window or nobody knows how many: it must warm up again."""
    told: bool = True
    """Whether to tell it; one that repeats is counted and told now and then."""
