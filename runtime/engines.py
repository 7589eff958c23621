"""The engine that runs the step graph. ONNX Runtime today; anything with `run` can stand beside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from edgekd.runtime.container import container_of
from edgekd.runtime.errors import MissingExtra, ModelRefused, UsageError
from edgekd.runtime.manifest import Manifest, shown

Feeds = Mapping[str, np.ndarray]

_ONNX_DTYPES = {"tensor(float)": "float32", "tensor(int32)": "int32", "tensor(int64)": "int64"}
_REINSTALL = "pip install --force-reinstall 'edgekd[onnx]' mends it"


class Engine(Protocol):
    """One loaded step graph. It holds no state, so many streams can share it."""

    name: str
    """Engine and version, for people."""

    def run(self, feeds: Feeds) -> Sequence[np.ndarray]:
        """One step.

        feeds: `samples` float32 (hop, n) raw units, `valid` float32 (n,), and each state tensor by its name.
        Returns score float32 (), contributions float32 (n,), then the next state in the manifest's order; fresh arrays.
        """


def load_engine(model: bytes, manifest: Manifest) -> Engine:
    """The engine for a model file's bytes, chosen by content; raises ModelRefused where graph and manifest disagree."""
    kinds = {"onnx": OnnxEngine}
    return kinds[container_of(model).name](model, manifest)


def graph_inputs(manifest: Manifest) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Name -> (dtype, shape) of every graph input that the manifest implies."""
    n = len(manifest.sensors)
    state = {s.name: (s.dtype, s.shape) for s in manifest.state}
    return {"samples": ("float32", (manifest.hop, n)), "valid": ("float32", (n,)), **state}


def graph_outputs(manifest: Manifest) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Name -> (dtype, shape) of every graph output, in the order in which `Engine.run` returns them."""
    state = {f"next_{s.name}": (s.dtype, s.shape) for s in manifest.state}
    return {"score": ("float32", ()), "contributions": ("float32", (len(manifest.sensors),)), **state}


class OnnxEngine:
    """ONNX Runtime on one thread, one session for life."""

    def __init__(self, model: bytes, manifest: Manifest) -> None:
        ort = _import_onnxruntime()
        options = ort.SessionOptions()
        # One thread each and no spinning: a gateway has other work, and a step is too small to share out.
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.add_session_config_entry("session.inter_op.allow_spinning", "0")
        options.log_severity_level = 4  # what goes wrong is raised; it need not also be printed
        try:
            self._session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # the engine's own exception types differ from version to version
            raise ModelRefused(
                f"onnxruntime {ort.__version__} cannot load the graph ({shown(str(error), 200)}); update onnxruntime"
                " (pip install -U 'edgekd[onnx]') or export again with a lower opset"
            ) from None
        self.name = f"onnxruntime {ort.__version__}"
        _compare("input", graph_inputs(manifest), self._session.get_inputs())
        wanted = graph_outputs(manifest)
        _compare("output", wanted, self._session.get_outputs())
        self._outputs = list(wanted)
        self._run = self._session.run

    def run(self, feeds: Feeds) -> Sequence[np.ndarray]:
        """See `Engine.run`."""
        return self._run(self._outputs, feeds)


def _import_onnxruntime() -> Any:
    try:
        import onnxruntime
    except ModuleNotFoundError as error:
        if error.name == "onnxruntime":
            raise MissingExtra("onnxruntime", "onnx") from None
        raise UsageError(f"onnxruntime is installed without {error.name}; {_REINSTALL}") from None
    except Exception as error:  # a broken wheel fails in many ways: ImportError, OSError, AttributeError …
        reason = shown(str(error), 200)
        raise UsageError(f"onnxruntime is installed but does not start ({reason}); {_REINSTALL}") from None
    if not hasattr(onnxruntime, "InferenceSession"):  # a half-removed package leaves an empty namespace behind
        raise UsageError(f"onnxruntime is installed but empty; {_REINSTALL}")
    return onnxruntime


def _compare(side: str, wanted: dict[str, tuple[str, tuple[int, ...]]], found: Sequence[Any]) -> None:
    """Refuse a graph whose inputs or outputs are not those of the manifest."""
    given = {node.name: (_ONNX_DTYPES.get(node.type, node.type), tuple(node.shape)) for node in found}
    for name in sorted({*wanted, *given}):
        if name not in given:
            raise ModelRefused(f"the graph has no {side} '{shown(name)}', which the manifest needs; export it again")
        if name not in wanted:
            raise ModelRefused(f"the graph's {side} '{shown(name)}' is not in the manifest; export it again")
        if given[name] != wanted[name]:
            raise ModelRefused(
                f"{side} '{shown(name)}' is {_signature(given[name])} in the graph and {_signature(wanted[name])} in"
                " the manifest; export it again"
            )


def _signature(spec: tuple[str, tuple[int, ...]]) -> str:
    dtype, shape = spec
    return shown(f"{dtype} ({', '.join(map(str, shape))})")
