"""ONNX Runtime."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from edgekd.runtime.engines import Feeds, Signature, check_signature
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
        self._run = session.run

    def run(self, feeds: Feeds) -> Sequence[np.ndarray]:
        """See `Engine.run`."""
        return self._run(self._outputs, feeds)


def _signature(nodes: Sequence[Any]) -> Signature:
    return {node.name: (_DTYPES.get(node.type, node.type), tuple(node.shape)) for node in nodes}
