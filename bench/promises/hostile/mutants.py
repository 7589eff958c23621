"""Files with all kinds of change in turn.

`undigested` files keep the digest of what they were; `redigested` ones get a manifest whose digest is right again, so
that only the checks behind it stand between them and an engine.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from bench.promises.hostile.any_file import ANY_KINDS, BYTE_KINDS, Change
from bench.promises.hostile.checkpoint_file import CHECKPOINT_KINDS
from bench.promises.hostile.manifest import digest_with, set_digest, taken_apart, with_manifest
from bench.promises.hostile.onnx_file import ONNX_KINDS
from bench.promises.hostile.outbox_folder import OUTBOX_KINDS, Folder, any_bytes
from bench.promises.hostile.state_file import STATE_KINDS
from bench.promises.hostile.tflite_file import TFLITE_KINDS
from edgekd.runtime.container import format_of
from edgekd.runtime.guard import admit

KINDS: dict[str, Change] = {**ANY_KINDS, **ONNX_KINDS, **TFLITE_KINDS}


@dataclass(frozen=True)
class Mutant:
    """One file."""

    name: str
    kind: str
    redigested: bool
    data: Any
    """Bytes; of an outbox, those of its files by name."""


def mutants(bases: dict[str, bytes], count: int, canary: str, seed: int = 0) -> Iterator[Mutant]:
    """`count` files, every second one re-digested, all kinds of change in turn over all bases.

    bases: exported files, whole, by name. canary: path of a file that nobody may open.
    """
    rng = random.Random(seed)
    works = {name: (data, *taken_apart(data)) for name, data in bases.items()}
    turns = [
        (kind, name) for kind in KINDS for name in works if kind.partition(" ")[0] in ("any", format_of(bases[name]))
    ]
    made = 0
    for kind, name in itertools.cycle(turns):
        if made == count:
            return
        whole, bare, manifest = works[name]
        redigested = made % 2 == 1
        change = KINDS[kind]
        if kind.startswith("any manifest"):
            text = change(rng, manifest, canary)
            bare_digest = digest_with(bare, text)
            data = with_manifest(bare, text if not redigested else set_digest(text, bare_digest))
        elif redigested:
            changed = change(rng, bare, canary)
            try:
                data = with_manifest(changed, set_digest(manifest, digest_with(changed, manifest)))
            except Exception:  # nothing is left of it that could carry a manifest
                data = changed
        else:
            changed = change(rng, bare, canary)
            try:
                data = with_manifest(changed, manifest)
            except Exception:
                data = changed
        if data == whole:  # a change that changes nothing
            continue
        made += 1
        yield Mutant(f"{made:04d}-{name}", kind, redigested, data)


def other_mutants(bases: dict[str, Any], count: int, seed: int = 0) -> Iterator[Mutant]:
    """The same of `checkpoint.pt`, `state` and `outbox`, whichever are given, by name."""
    rng = random.Random(seed)
    changed = {"checkpoint.pt": CHECKPOINT_KINDS, "state": STATE_KINDS}
    for made in range(count):
        name = list(bases)[made // 2 % len(bases)]
        base, redigested = bases[name], made % 2 == 1
        data = base
        while data == base:
            if isinstance(base, dict):
                kind, on_folder = rng.choice(list(OUTBOX_KINDS.items())) if redigested else ("any bytes", any_bytes)
                data = on_folder(rng, Folder(base))
            else:
                kind, change = rng.choice(list((changed[name] if redigested else BYTE_KINDS).items()))
                data = change(rng, base, "")
        yield Mutant(f"{made:04d}-{name}", kind, redigested, data)


def still_whole(bases: dict[str, bytes]) -> None:
    """The files that are changed are good ones: raises ModelRefused where one is not."""
    for data in bases.values():
        admit(data, try_first=False)
