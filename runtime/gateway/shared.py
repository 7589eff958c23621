"""What the streams of one process have in common."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from edgekd.runtime.gateway.bell import Wake
from edgekd.runtime.gateway.disk_writer import DiskWriter
from edgekd.runtime.gateway.models.engines import Engines
from edgekd.runtime.gateway.options import GatewayOptions
from edgekd.runtime.gateway.sinks.fan_out import FanOut

if TYPE_CHECKING:  # it is made of these
    from edgekd.runtime.gateway.life import Life


class Watching(Protocol):
    """Something that shows what all streams do."""

    def watch(self, name: str, life: Life) -> None:
        """This stream begins."""

    def pause(self, name: str) -> None:
        """It does not run, maybe for now."""

    def forget(self, name: str) -> None:
        """It is gone."""


@dataclass
class Shared:
    """Made once, for all streams."""

    options: GatewayOptions
    fan_out: FanOut
    writer: DiskWriter
    wake: Wake
    alone: bool
    """Whether there is one stream only: then its end is that of the process, and its errors are the process's."""
    engines: Engines = field(default_factory=Engines)
    watching: list[Watching] = field(default_factory=list)
