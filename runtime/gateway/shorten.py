"""Events that are too large for the way they have to go."""

from __future__ import annotations

import json

from edgekd.runtime.sinks import encode

NAMES = ("event", "sample", "time", "id", "status", "shortened", "seq", "boot")  # they say which event it is


def shorten(text: bytes, most_bytes: int) -> bytes:
    """An event as JSON that is no longer than that: with `"shortened": true`, the longest of what it says is cut in
    half again and again. What names it stays, however long."""
    if len(text) <= most_bytes:
        return text
    event = {**json.loads(text), "shortened": True}
    while len(text := encode(event)) > most_bytes:
        longest = max(event.keys() - set(NAMES), key=lambda key: len(json.dumps(event[key])), default=None)
        if longest is None:
            break
        half = event[longest][: len(event[longest]) // 2] if isinstance(event[longest], (str, list)) else None
        event = {key: half if key == longest else value for key, value in event.items() if half or key != longest}
    return text
