"""Changes of a student checkpoint: of its bytes, of what is in the archive, of what the archive means."""

from __future__ import annotations

import io
import random
from collections.abc import Callable
from typing import Any
from zipfile import ZipFile

from bench.promises.hostile.any_file import BYTE_KINDS, HUGE, ODD, Change

WORDS = ("", "../x", "\x1b]0;owned\x07", "a\u202eb", "\ud800", "x" * 100_000)
NUMBERS = (*ODD, *HUGE, 0.5, -1.0, 1e300, float("nan"), float("inf"))


def in_the_archive(rng: random.Random, data: bytes, canary: str) -> bytes:
    """One of its parts changed as any bytes can be, in an archive that is whole again."""
    out = io.BytesIO()
    with ZipFile(io.BytesIO(data)) as old, ZipFile(out, "w") as new:
        parts = [part.filename for part in old.infolist()]
        chosen = next(name for name in parts if name.endswith("data.pkl")) if rng.random() < 0.6 else rng.choice(parts)
        change = rng.choice([change for name, change in BYTE_KINDS.items() if name != "any noise behind"])
        for name in parts:
            content = old.read(name)
            new.writestr(name, change(rng, content, canary) if name == chosen and len(content) > 8 else content)
    return out.getvalue()


def content_change(change: Callable[[random.Random, Any], None]) -> Change:
    """A change of what the checkpoint holds."""

    def apply(rng: random.Random, data: bytes, _: str) -> bytes:
        import torch

        content = torch.load(io.BytesIO(data), weights_only=True)
        change(rng, content)
        out = io.BytesIO()
        torch.save(content, out)
        return out.getvalue()

    return apply


def other_tensor(rng: random.Random, content: dict[str, Any]) -> None:
    """Strides of nothing, other shapes and types, numbers that are none."""
    import torch

    places = [(content["weights"], name) for name in content["weights"]]
    places += [(content, "replay_samples"), (content, "normal_scores")] * 4
    holder, name = rng.choice(places)
    tensor = holder[name]
    huge = rng.choice((10**6, 10**9, 10**11))
    way = rng.randrange(9)
    if way == 0:
        holder[name] = torch.zeros(1).expand(huge)
    elif way == 1:
        holder[name] = torch.zeros(1, *tensor.shape[1:]).expand(huge, *tensor.shape[1:])
    elif way == 2:
        holder[name] = torch.zeros(8).as_strided((2, huge), (1, 0))
    elif way == 3:
        holder[name] = tensor.to(rng.choice((torch.float64, torch.int64, torch.bool, torch.complex64, torch.bfloat16)))
    elif way == 4:
        holder[name] = tensor.reshape(-1)[: rng.randrange(tensor.numel() + 1)]
    elif way == 5:
        holder[name] = torch.full_like(tensor.float(), rng.choice((float("nan"), float("inf"), -3e38, 3e38)))
    elif way == 6:
        holder[name] = rng.choice((None, 1, "tensor", [1.0], {}))
    elif way == 7:
        holder[name] = torch.sparse_coo_tensor(torch.zeros(1, 1, dtype=torch.int64), torch.zeros(1), (huge,))
    else:
        del holder[name]


def other_setting(rng: random.Random, content: dict[str, Any]) -> None:
    config = content["config"]
    name = rng.choice(sorted(config))
    config[name] = rng.choice((*NUMBERS, *WORDS, True, None, [1, 2, 3], [99_998, 99_999, 100_000], ["s0"] * 10**5, {}))


def other_value(rng: random.Random, content: dict[str, Any]) -> None:
    """Anything else in it, at any depth."""
    places: list[tuple[Any, Any]] = []
    pending: list[Any] = [{key: value for key, value in content.items() if key != "weights"}]
    holders: list[Any] = [content]
    while pending:
        value, holder = pending.pop(), holders.pop()
        keys = list(value) if isinstance(value, dict) else range(len(value))
        for key in keys:
            places.append((holder, key))
            if isinstance(value[key], (dict, list)):
                pending.append(value[key])
                holders.append(value[key])
    holder, key = rng.choice(places)
    way = rng.randrange(6)
    if way == 0 and isinstance(holder, dict):
        del holder[key]
    elif way == 1:
        holder[key] = [holder[key]] * rng.choice((2, 10**5))
    elif way == 2:
        nested: Any = [0]
        for _i in range(rng.choice((30, 150))):
            nested = [nested, nested]
        holder[key] = nested
    else:
        holder[key] = rng.choice((*NUMBERS, *WORDS, None, [], {}, {"a": {}}, (1, 2)))


CHECKPOINT_KINDS: dict[str, Change] = {
    "checkpoint archive": in_the_archive,
    "checkpoint tensors": content_change(other_tensor),
    "checkpoint settings": content_change(other_setting),
    "checkpoint values": content_change(other_value),
}
"""With digests that are right again; `BYTE_KINDS` are without."""
