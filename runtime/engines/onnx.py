"""ONNX Runtime."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from edgekd.runtime.engines import Feeds, Signature, Stream, check_signature
from edgekd.runtime.engines.imports import load_engine_package, numpy_mismatch
from edgekd.runtime.errors import ModelRefused
from edgekd.runtime.json_fields import shown
from edgekd.runtime.manifest import Manifest

_DTYPES = {"tensor(float)": "float32", "tensor(int32)": "int32", "tensor(int64)": "int64"}


class OnnxEngine:
    """One session for life on one thread; see `Engine`."""

    def __init__(self, model: bytes, manifest: Manifest) -> None:
        package, ort = load_engine_package("onnx")
        self.name = f"onnxruntime {ort.__version__}"
        options = ort.SessionOptions()
        # One thread each and no spinning: a gateway has other work, and a step is too small to share out.
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.add_session_config_entry("session.inter_op.allow_spinning", "0")
        # not by content: a file can be an ONNX model to a reader of those and another one to its own format's reader
        options.add_session_config_entry("session.load_model_format", "ONNX")
        options.log_severity_level = 4  # what goes wrong is raised; it need not also be printed
        try:
            # without the fallback it tries only once, and prints nothing between the events on standard output
            session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"], enable_fallback=False)
        except Exception as error:  # the engine's own exception types differ from version to version
            mend = "update onnxruntime (pip install -U 'edgekd[onnx]') or export again with a lower opset"
            found = f"{self.name} cannot load the graph ({shown(str(error), 200)}); {mend}"
            raise numpy_mismatch(package, error) or ModelRefused(found) from None
        self._outputs = check_signature(manifest, _signature(session.get_inputs()), _signature(session.get_outputs()))
        self._session = session
        self._told = {name: tuple(shape) for name, (_, shape) in _signature(session.get_outputs()).items()}
        for name in manifest.cold_state():
            del self._told[f"next_{name}"]

    def run(self, feeds: Feeds) -> Sequence[np.ndarray]:
        """See `Engine.run`."""
        if not isinstance(feeds, Stream):
            return self._session.run(self._outputs, feeds)
        key = tuple(map(id, feeds.values()))
        if feeds.bound_to is not self or key not in feeds.bindings:
            self._bind(feeds)
        binding, told, state, _ = feeds.bindings[key]
        self._session.run_with_iobinding(binding)
        return [*(array.copy() for array in told), *state]

    def _bind(self, feeds: Stream) -> None:
        """Two sets of state take turns, one to be read and one to be written: a fifth of a small step is spared."""
        here = dict(feeds)
        there = here | {name[5:]: np.empty_like(here[name[5:]]) for name in self._outputs if name not in self._told}
        told = {name: np.empty(shape, np.float32) for name, shape in self._told.items()}
        feeds.bound_to, feeds.bindings = self, {}
        for read, written in ((here, there), (there, here)):
            binding = self._session.io_binding()
            results = [told[name] if name in told else written[name[5:]] for name in self._outputs]
            for name, array in read.items():
                binding.bind_input(name, "cpu", 0, array.dtype.type, array.shape, array.ctypes.data)
            for name, array in zip(self._outputs, results):
                binding.bind_output(name, "cpu", 0, array.dtype.type, array.shape, array.ctypes.data)
            key = tuple(map(id, read.values()))
            feeds.bindings[key] = binding, results[: len(told)], results[len(told) :], read


def _signature(nodes: Sequence[Any]) -> Signature:
    return {node.name: (_DTYPES.get(node.type, node.type), tuple(node.shape)) for node in nodes}
