"""NMEA checksums: * and two hexadecimal digits at the end of a line, the XOR of what stands before."""

from __future__ import annotations

import re

import numpy as np

from edgekd.runtime.sources import NoSample

_CHECKED = re.compile(rb"(.+)\*([0-9a-fA-F]{2})", re.DOTALL)


def without_checksum(line: bytes) -> bytes:
    """The line before its * and checksum, after a leading $; raises NoSample where that is missing or wrong."""
    found = _CHECKED.fullmatch(line.removeprefix(b"$"))
    if found is None:
        raise NoSample("there is no checksum at its end, * and two hexadecimal digits")
    if int(found[2], 16) != np.bitwise_xor.reduce(np.frombuffer(found[1], np.uint8)):
        raise NoSample("its checksum is wrong")
    return found[1]
