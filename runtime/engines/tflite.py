"""LiteRT, and the older tflite-runtime where there is no wheel of it: the same interpreter under two names."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import numpy as np

from edgekd.runtime.engines import Feeds, Signature, check_signature
from edgekd.runtime.engines.imports import TFLITE_RUNTIME, hushed, load_engine_package, numpy_mismatch
from edgekd.runtime.errors import ModelRefused
from edgekd.runtime.json_fields import shown
from edgekd.runtime.manifest import Manifest

SIGNATURE = "step"


class TfliteEngine:
    """One interpreter for life on one thread; see `Engine`.

    Not through a signature runner, which allocates all tensors at every call (44 µs a small step against 17). The
    interpreter's tensors are shared by all streams, hence the lock; `get_tensor` copies.
    """

    def __init__(self, model: bytes, manifest: Manifest) -> None:
        package, module = load_engine_package("tflite")
        self.name = str(package)
        try:
            with hushed():
                interpreter = module.Interpreter(model_content=model, num_threads=1)
                signatures = list(interpreter.get_signature_list())
                if signatures == [SIGNATURE]:
                    runner = interpreter.get_signature_runner(SIGNATURE)
                    inputs, outputs = runner.get_input_details(), runner.get_output_details()
                    # as long as it lives, the interpreter takes it for a holder of raw memory and does not allocate
                    del runner
                    interpreter.allocate_tensors()
        except Exception as error:  # RuntimeError, ValueError and more, by version
            mend = "--target tflite-runtime" if package is TFLITE_RUNTIME else "this EdgeKD"
            found = f"{package} cannot load the graph ({shown(str(error), 200)}); export it again with {mend}"
            raise numpy_mismatch(package, error) or ModelRefused(found) from None
        if signatures != [SIGNATURE]:
            found = shown(", ".join(signatures) or "none")
            raise ModelRefused(f"the graph should have one signature, '{SIGNATURE}', it has {found}; export it again")
        main = {(details["index"], details["name"]) for details in interpreter.get_input_details()}
        if {(details["index"], details["name"]) for details in inputs.values()} != main:
            raise ModelRefused("the signature 'step' is not about the file's first graph; export it again")
        wanted = check_signature(manifest, _signature(inputs), _signature(outputs))
        self._inputs = [(name, details["index"]) for name, details in inputs.items()]
        self._outputs = [outputs[name]["index"] for name in wanted]
        self._set, self._invoke, self._get = interpreter.set_tensor, interpreter.invoke, interpreter.get_tensor
        self._lock = threading.Lock()

    def run(self, feeds: Feeds) -> Sequence[np.ndarray]:
        """See `Engine.run`."""
        with self._lock:
            for name, index in self._inputs:
                self._set(index, feeds[name])
            self._invoke()
            return [self._get(index) for index in self._outputs]


def _signature(details: dict[str, Any]) -> Signature:
    # a dimension that may change is -1 in `shape_signature`, and nothing else says so
    return {name: (np.dtype(of["dtype"]).name, tuple(map(int, of["shape_signature"]))) for name, of in details.items()}
