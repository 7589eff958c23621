"""One engine for each model file, whatever number of streams run it: an engine holds no state, a detector does."""

from __future__ import annotations

import threading
from pathlib import Path
from weakref import WeakValueDictionary

from edgekd.runtime.detector import Detector
from edgekd.runtime.engines import Engine, load_engine
from edgekd.runtime.files import sha256
from edgekd.runtime.gateway.options import StreamOptions
from edgekd.runtime.guard import admit
from edgekd.runtime.manifest import threshold_at
from edgekd.runtime.selftest import check_self_test


class Engines:
    """The engines that streams run now, by what their files hold. `load` may be called from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._engines: WeakValueDictionary[str, Engine] = WeakValueDictionary()

    def load(self, path: Path, stream: StreamOptions) -> Detector:
        """A cold detector for this stream; raises what `Detector.load` does."""
        manifest, data = admit(path, stream.require_signed, try_first=True)
        with self._lock:  # one at a time: of many streams that start at once, the first loads what all share
            digest = sha256(data)
            engine = self._engines.get(digest)
            if engine is None:
                engine = load_engine(data, manifest)
                check_self_test(engine, manifest)
                self._engines[digest] = engine
        threshold = stream.threshold
        if stream.false_alarms_per_day is not None:
            threshold = threshold_at(manifest.threshold.points, stream.false_alarms_per_day)
        return Detector(engine, manifest, threshold)
