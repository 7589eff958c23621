"""Looks for new models in a thread of its own, and admits them: detection waits for neither disk nor engine.

A new file at `model`, one beside it in MODEL.next, and bytes that came over MQTT are copied, checked, tried in a child
process and loaded as any model is at the start. The files of others are only read.
"""

from __future__ import annotations

import contextlib
import os
import stat
import tempfile
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from edgekd.runtime import assembly
from edgekd.runtime.detector import Detector
from edgekd.runtime.errors import EdgeKDError, ModelRefused
from edgekd.runtime.files import sha256
from edgekd.runtime.gateway.models.engines import Engines
from edgekd.runtime.gateway.models.store import Store, offer_of
from edgekd.runtime.gateway.options import StreamOptions
from edgekd.runtime.gateway.watchers.site_threshold import SiteThreshold
from edgekd.runtime.guard import admit
from edgekd.runtime.guard.signature import SIGNATURE_BYTES, signature_path
from edgekd.runtime.json_fields import shown
from edgekd.runtime.manifest import Manifest

LOOK_S = 2.0  # a file counts once it has stood still from one look to the next: it may be just being copied
MAX_BYTES = 8 * 2**20  # beside a model that runs, and one that is on its way; the largest published student has 1 MiB
MQTT = "mqtt"
RUNNING, BEFORE = "running", "before"  # sources that offer nothing new: what the folder held at the start


@dataclass(eq=False)
class Offer:
    """A model from somewhere, and what became of it in the thread."""

    source: str
    """For the store: "model", "next" or "mqtt"."""
    shown: str
    """Where it came from, for people."""
    digest: str
    """SHA-256 of the file, as events name a model."""
    name: str = ""
    """What it is remembered by; see `offer_of`."""
    refused: str = ""
    """Why it is not taken."""
    detector: Detector | None = None
    site: SiteThreshold | None = None
    kept: Path | None = None
    """Where the store has it."""


class Offers:
    """The thread. What it finds is in `found`, for the loop."""

    def __init__(
        self,
        stream: StreamOptions,
        store: Store,
        site_of: Callable[[Detector], SiteThreshold],
        running: Detector,
        engines: Engines,
    ) -> None:
        """running: what an offer has to fit."""
        self.found: deque[Offer] = deque()
        self.busy = False
        """Whether offers have to wait: a new model is on probation."""
        self.at_work: set[str] = set()
        """Digests of the models that run, or are on trial."""
        self._stream = stream
        self._store = store
        self._site_of = site_of
        self._engines = engines
        self._manifest = running.manifest
        self._image = running.image
        model = Path(stream.model)
        self._files = {"model": model, "next": model.with_name(f"{model.name}.next")}
        self._marks: dict[str, object] = {}
        self._looked: dict[str, object] = {}
        self._posted: tuple[str, bytes] | None = None
        self._hurry = self._ended = False
        self._woken = threading.Event()
        self._thread = threading.Thread(target=self._work, name="models", daemon=True)

    def start(self, running: Path, before: Path | None) -> None:
        """Begin to look. running, before: the files of the model that runs and of the one that it replaced."""
        self._first = running, before
        self._thread.start()

    def look(self) -> None:
        """Now; files that are there are whole. For a signal handler."""
        self._hurry = True
        self._woken.set()

    def stop(self) -> None:
        """Look for no more."""
        self._ended = True
        self._woken.set()

    def post(self, shown: str, payload: bytes) -> None:
        """A model's bytes, the signature behind them where signatures are required; the newest counts."""
        self._posted = shown, payload
        self._woken.set()

    def _work(self) -> None:
        self._begin(*self._first)
        while not self._ended:
            self._woken.wait(LOOK_S)
            self._woken.clear()
            if self.busy:
                continue
            hurry, self._hurry = self._hurry, False
            for source, path in self._files.items():
                again = source in self._looked
                if self._is_new(source, hurry):
                    self._read(source, path, again)
            posted, self._posted = self._posted, None
            if posted:
                self._take_posted(*posted)

    def _begin(self, running: Path, before: Path | None) -> None:
        """Keep the model that runs, where it is not kept yet, and load the one that it could go back to."""
        offer = Offer(RUNNING, str(running), "", kept=running)
        try:
            manifest, data = admit(running, self._stream.require_signed, try_first=True)
            if manifest.digests.file != self._manifest.digests.file:
                raise ModelRefused("it was replaced during the start")
            offer.digest = sha256(data)
            self.at_work = {offer.digest}
            if running == self._files["model"]:
                signature = _bytes_of(signature_path(running)) if self._stream.require_signed else None
                offer.kept = self._store.keep(data, signature, manifest.digests.file)
                self._store.see("model", offer_of(data, signature))
        except (OSError, EdgeKDError) as error:  # it runs; a restart takes what is at `model` then
            offer.kept, offer.refused = None, getattr(error, "strerror", None) or str(error)
        self.found.append(offer)
        if before:
            offer = Offer(BEFORE, before.name, "", kept=before)
            with contextlib.suppress(OSError, EdgeKDError):
                offer.digest = sha256(_bytes_of(before))
            self._admit(offer, before)
            self.busy = not offer.refused
            self.found.append(offer)

    def _is_new(self, source: str, hurry: bool) -> bool:
        """Whether there is a file that has not been looked at, and stands still."""
        path, was = self._files[source], self._marks.get(source)
        mark = self._marks[source] = _mark(path), _mark(signature_path(path))
        if mark == self._looked.get(source) or not (hurry or mark == was):
            return False
        self._looked[source] = mark
        return mark[0] is not None

    def _read(self, source: str, path: Path, again: bool) -> None:
        """again: whether somebody has put it there while this ran, be it the same as before."""
        offer = Offer(source, shown(str(path), 300), "")
        try:
            data = _bytes_of(path)
            signature = _bytes_of(signature_path(path)) if _mark(signature_path(path)) else None
        except (OSError, EdgeKDError) as error:
            offer.refused = getattr(error, "strerror", None) or str(error)
            self.found.append(offer)
            return
        self._examine(offer, data, signature, again)

    def _take_posted(self, shown_: str, payload: bytes) -> None:
        cut = max(0, len(payload) - SIGNATURE_BYTES) if self._stream.require_signed else None
        self._examine(Offer(MQTT, shown_, ""), payload[:cut], None if cut is None else payload[cut:])

    def _examine(self, offer: Offer, data: bytes, signature: bytes | None, again: bool = False) -> None:
        """An offer that is new, to the loop, with a detector or the reason why there is none."""
        offer.digest, offer.name = sha256(data), offer_of(data, signature)
        if not again and self._store.has_seen(offer.source, offer.name):
            return
        if offer.digest in self.at_work:
            self._store.see(offer.source, offer.name)
            return
        try:
            _require_small(data)
            with tempfile.TemporaryDirectory(prefix="edgekd-model-", ignore_cleanup_errors=True) as folder:
                copy = Path(folder, "model" if offer.source == MQTT else self._files[offer.source].name)
                copy.write_bytes(data)
                if signature is not None:
                    signature_path(copy).write_bytes(signature)
                self._admit(offer, copy)
            if offer.detector:
                offer.kept = self._store.keep(data, signature, offer.detector.manifest.digests.file)
        except OSError as error:
            offer.refused = f"it cannot be kept: {error.strerror}"
        except ModelRefused as error:
            offer.refused = str(error)
        if offer.refused and offer.source == MQTT:  # a broker sends what it retains at every connection
            self._store.see(offer.source, offer.name)
        self.found.append(offer)

    def _admit(self, offer: Offer, path: Path) -> None:
        """Load it as it is done at the start, in a child process first; it must fit what runs here."""
        stream = self._stream
        try:
            detector = self._engines.load(path, stream)
            if (detector.image is None) != (self._image is None):
                raise ModelRefused("one takes a series, the other images")
            require_fitting(detector.manifest, self._manifest, stream)
            assembly.episodes_of(stream, detector)
            offer.site = self._site_of(detector)
            offer.detector = detector
        except Exception as error:  # whatever it is: the one that runs goes on
            told = str(error) if isinstance(error, EdgeKDError) else f"{type(error).__name__}: {error}"
            offer.refused = shown(told.replace(f"{shown(str(path), 300)}: ", ""), 500)


def require_fitting(new: Manifest, old: Manifest, stream: StreamOptions) -> None:
    """Raise ModelRefused unless one can take the other's place in a stream that goes on."""
    start = "; to start anew with it, give it another name and change model in the gateway's file"
    if new.names != old.names:
        lacks, more = ([n for n in a.names if n not in b.names] for a, b in ((old, new), (new, old)))
        words = [f"lacks {_few(lacks)}"] if lacks else []
        words += [f"has {_few(more)}"] if more else []
        raise ModelRefused(f"its sensors are others: it {' and '.join(words) or 'has them in another order'}{start}")
    for what, unit, its, here in (("hop", "samples", new.hop, old.hop), ("period", "s", new.period_s, old.period_s)):
        if its != here:
            raise ModelRefused(f"it has a {what} of {its:g} {unit}, here it is {here:g}{start}")
    if assembly.layout_of(stream, new) != assembly.layout_of(stream, old):
        raise ModelRefused(f"it reads its input by another layout{start}")


def _few(names: list[str]) -> str:
    return ", ".join(f"'{shown(name, 40)}'" for name in names[:3]) + (" …" if names[3:] else "")


def _mark(path: Path) -> tuple[int, ...] | None:
    """What changes with a file."""
    try:
        about = path.stat()
    except OSError:
        return None
    return about.st_ino, about.st_size, about.st_mtime_ns


def _bytes_of(path: Path) -> bytes:
    """Raises OSError, or ModelRefused for what is no file or too large for one."""
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise ModelRefused("it is no file")
        return _require_small(file.read(MAX_BYTES + 1))


def _require_small(data: bytes) -> bytes:
    if len(data) > MAX_BYTES:
        raise ModelRefused(f"it is larger than {MAX_BYTES >> 20} MiB, no model to be tried beside another")
    return data
