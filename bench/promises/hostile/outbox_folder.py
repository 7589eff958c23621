"""Changes of an outbox: of its files' bytes, or of its records and numbers under checksums that are right again.

A folder is a dict of its files' contents by name.
"""

from __future__ import annotations

import random
import zlib
from collections.abc import Callable

from bench.promises.hostile.any_file import BYTE_KINDS

Folder = dict[str, bytes]
NUMBERS = (0, -1, 1, 7, 2**31, 2**63, 10**15, 10**19, 10**40)
EVENTS = (b"", b"{}", b"[]", b"null", b'{"event": NaN}', b'{"event": "\\ud800"}', b"\xff\xfe", b"{" * 5000, b"\0" * 40)
Change = Callable[[random.Random, Folder], Folder]


def any_bytes(rng: random.Random, files: Folder) -> Folder:
    name = rng.choice(sorted(name for name, content in files.items() if len(content) > 8))
    return {**files, name: rng.choice(list(BYTE_KINDS.values()))(rng, files[name], "")}


def other_record(rng: random.Random, files: Folder) -> Folder:
    """One record, or all, with another number, boot or event."""
    name = rng.choice(sorted(name for name in files if name.endswith(".events")))
    lines = files[name].splitlines(keepends=True)
    some = range(len(lines)) if rng.random() < 0.2 else [rng.randrange(len(lines))]
    way = rng.randrange(4)
    for i in some:
        _, length, seq, boot, text = lines[i].rstrip(b"\n").split(b" ", 4)
        if way == 0:
            seq = b"%d" % rng.choice(NUMBERS)
        elif way == 1:
            boot = rng.choice((b"", b"x" * 5000, b'"', b"\xff", b"-"))
        elif way == 2:
            text = rng.choice((*EVENTS, text[: rng.randrange(len(text))], text.replace(b'"', b"'"), text * 200))
            length = b"%d" % len(text)
        else:
            length = b"%d" % rng.choice(NUMBERS)
        rest = b" ".join((length, seq, boot, text))
        lines[i] = b"%08x %s\n" % (zlib.crc32(rest), rest)
    return {**files, name: b"".join(lines)}


def other_order(rng: random.Random, files: Folder) -> Folder:
    """Records that are there twice, in another order, or in files of other names."""
    name = rng.choice(sorted(name for name in files if name.endswith(".events")))
    lines = files[name].splitlines(keepends=True)
    way = rng.randrange(4)
    if way == 0:
        rng.shuffle(lines)
        return {**files, name: b"".join(lines)}
    if way == 1:
        return {**files, name: b"".join(lines * rng.choice((2, 50)))}
    other = rng.choice(("0" * 16, "9" * 16, "0" * 15 + "1", "x" * 16)) + ".events"
    kept = {key: value for key, value in files.items() if key != name or way == 2}
    return {**kept, other: files[name]}


def other_acknowledged(rng: random.Random, files: Folder) -> Folder:
    """A sink has taken what there is not, or nothing."""
    seq = rng.choice(NUMBERS)
    slot = b"%08x %020d\n" % (zlib.crc32(b"%d" % seq), seq)
    names = [name for name in files if name.endswith(".acked")] or ["exec.acked"]
    return {**files, rng.choice(names): slot * rng.choice((1, 2, 100))}


OUTBOX_KINDS: dict[str, Change] = {
    "outbox records": other_record,
    "outbox order": other_order,
    "outbox acknowledged": other_acknowledged,
}
"""With checksums that are right; `any_bytes` is without."""
