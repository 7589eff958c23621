"""The models that a gateway keeps beside its state: a good one is there whatever becomes of the file at `model`.

In the folder, `STATE.models`:

    000001-3f2a9c41d0be    a model that was admitted, with the digest that its state carries; FILE.sig beside it
    previous               the one that ran before, to go back to by hand
    seen.json              what each source has offered and is done with

The state file decides which one runs: it says whose state it is, and changes in one step. A model is on disk before its
state is, and leaves the disk after another one's state is there.
"""

from __future__ import annotations

import contextlib
import json
import threading
from pathlib import Path

from edgekd.runtime.files import atomic, sha256
from edgekd.runtime.guard.signature import signature_path
from edgekd.runtime.state import StateFile, StateUnusable

SHOWN = 12  # digits of a digest, as in the name of a state that is put aside


class Store:
    """One gateway's folder. May be used from several threads."""

    def __init__(self, folder: Path | None, model: str) -> None:
        """folder: None keeps nothing, so that every start takes the file at `model`, where the model is said to be."""
        self.folder = folder
        self._model = Path(model).absolute()
        self._lock = threading.Lock()
        self._seen: dict[str, str] = {}
        with contextlib.suppress(OSError, ValueError):
            found = json.loads((folder / "seen.json").read_bytes()) if folder else {}
            if isinstance(found, dict):
                self._seen = {str(source): str(digest) for source, digest in found.items()}

    def first(self, state: str | None) -> list[Path]:
        """The models to start with, best first: the one whose state it is, what else is kept, the file at `model`.

        Where the gateway's file names another `model` than it did, that one alone.
        """
        if self._seen.get("file") != str(self._model):
            return [self._model]
        kept, digest = self._kept(), _whose(Path(state)) if state else ""
        best = [path for path in kept if path.name.endswith(f"-{digest}")]
        return [*reversed(best), *(path for path in kept if path not in best), self._model]

    def begin(self, running: Path) -> Path | None:
        """Forget what a power cut has left of other models; the one before `running`, where that was on probation."""
        kept = self._kept()
        before = [path for path in kept if path.name < running.name] if running in kept else []
        for path in kept:
            if path not in (running, *before[-1:]):
                self._seen = {}  # it may be offered again
                self.discard(path)
        return before[-1] if before else None

    def keep(self, data: bytes, signature: bytes | None, digest: str) -> Path | None:
        """A model that was admitted, on disk; raises OSError where it cannot be."""
        if self.folder is None:
            return None
        with self._lock:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            number = max((int(path.name[:6]) for path in self._kept()), default=0) + 1
            path = self.folder / f"{number:06d}-{digest[:SHOWN]}"
            if signature is not None:
                with atomic(signature_path(path)) as file:
                    file.write(signature)
            with atomic(path) as file:
                file.write(data)
            return path

    def discard(self, path: Path | None) -> None:
        """A model that does not run any more, nor will."""
        for gone in (path, signature_path(path)) if path else ():
            with contextlib.suppress(OSError):
                gone.unlink()

    def retire(self, path: Path | None) -> None:
        """The model that ran before, and is needed no more."""
        if path and self.folder:
            previous = self.folder / "previous"
            self.discard(previous)
            for old, new in ((path, previous), (signature_path(path), signature_path(previous))):
                with contextlib.suppress(OSError):
                    old.replace(new)

    def has_seen(self, source: str, offer: str) -> bool:
        """Whether this source has offered that before, and it was done with."""
        return self._seen.get(source) == offer

    def see(self, source: str, offer: str) -> None:
        """It is done with. A disk that does not take it is offered it again after a restart."""
        with self._lock, contextlib.suppress(OSError):
            self._seen |= {"file": str(self._model), source: offer}
            if self.folder:
                self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
                with atomic(self.folder / "seen.json") as file:
                    file.write(json.dumps(self._seen).encode())

    def _kept(self) -> list[Path]:
        """The models that were admitted, the oldest first."""
        with contextlib.suppress(OSError):
            found = self.folder.iterdir() if self.folder else ()
            return sorted(path for path in found if path.name[:6].isdecimal() and not path.suffix)
        return []


def offer_of(data: bytes, signature: bytes | None) -> str:
    """What tells one offer from another: a signature that was mended makes another one."""
    return sha256(data, signature or b"")


def _whose(state: Path) -> str:
    """The digest, as names show it, of the model whose state this is; empty where it tells none."""
    with contextlib.suppress(OSError):
        try:
            StateFile(state, "").load()
        except StateUnusable as error:
            return error.kept_as
    return "none"
