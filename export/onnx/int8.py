"""Static int8 of a float step graph: QDQ around convolutions and, where a step names them, dense layers.

Everything that remembers or subtracts stays float.

Per-channel weights with `reduce_range`: onnxruntime's U8S8 products saturate on x86 without VNNI, and seven-bit weights
give the same scores on every processor at the same speed.
"""

from __future__ import annotations

import contextlib
import io
import logging
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.calibrate import create_calibrator
from onnxruntime.quantization.shape_inference import quant_pre_process

from edgekd.blocks.step import StepModule
from edgekd.data.recording import Recording
from edgekd.export.calibration import STEPS, Feeds, closed_loop, spread
from edgekd.export.onnx.graph import strip

HISTOGRAM_STEPS = 64  # a histogram calibrator keeps every activation that it is shown ...
HISTOGRAM_CHUNK = 16  # ... until this many steps are counted: some hundred MB at 55 sensors
CONVOLUTIONS = ("Conv", "ConvTranspose")
DENSE = "Gemm"
FOLLOWERS = ("Split", "Relu")
QUANTIZED = (*CONVOLUTIONS, DENSE, *FOLLOWERS)


@dataclass(frozen=True)
class Recipe:
    """How ranges are found, and what stays float."""

    words: str
    """What the manifest says of it."""
    method: CalibrationMethod = CalibrationMethod.MinMax
    options: dict[str, Any] = field(default_factory=dict)
    """Of the calibrator."""
    float_recurrence: bool = False
    """Leave the convolutions of the recurrence float: their error is fed back."""

    @property
    def calibration(self) -> str:
        """What the manifest says of the data."""
        steps = STEPS if self.method is CalibrationMethod.MinMax else HISTOGRAM_STEPS
        return f"{steps} closed-loop steps of the replay stretch"


WEIGHTS = "7-bit weights per channel"
RECIPES = {
    "static": Recipe("int8 static QDQ, per-channel weights of 7 bits, float32 state and residual"),
    "static-float-recurrence": Recipe(f"int8 static QDQ, {WEIGHTS}, recurrence float32", float_recurrence=True),
    # one value in ten thousand may be clipped, half of them at either end
    "percentile": Recipe(
        f"int8 static QDQ, {WEIGHTS}, ranges of 99.99 %",
        CalibrationMethod.Percentile,
        {"percentile": 99.99, "symmetric": False},
    ),
    # onnxruntime's default of 128 bins for 128 levels leaves nothing to choose
    "entropy": Recipe(
        f"int8 static QDQ, {WEIGHTS}, ranges of least entropy", CalibrationMethod.Entropy, {"num_bins": 512}
    ),
}


def quantize(model: onnx.ModelProto, step: StepModule, replay: Recording, recipe: Recipe) -> onnx.ModelProto:
    """The int8 graph of a float one, calibrated closed loop on the replay stretch.

    Layers that `step.float_weights` and `step.float_activations` name stay float. A graph that has no others has
    nothing to quantize and comes back as it is.
    """
    spared = step.float_weights + step.float_activations
    layers = quantizable(model, spared + (step.recurrent_weights if recipe.float_recurrence else ()), step)
    if not layers:
        return model
    # gates are split as bytes, before they become floats: a quarter of the memory to move; a rectified layer needs no
    # codes for what is below zero, and no node of its own
    outputs = {node.output[0] for node in layers}
    followers = [node for node in model.graph.node if node.op_type in FOLLOWERS and node.input[0] in outputs]
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    feeds = list(closed_loop(lambda feeds: session.run(None, feeds)[len(step.outputs) :], step, replay))
    with tempfile.TemporaryDirectory() as folder, _quiet():
        source, prepared, target = (Path(folder) / name for name in ("float.onnx", "prepared.onnx", "int8.onnx"))
        onnx.save(model, source)
        quant_pre_process(source, prepared, skip_symbolic_shape=True)
        ranges = {} if recipe.method is CalibrationMethod.MinMax else histogram_ranges(prepared, feeds, recipe)
        quantize_static(
            prepared,
            target,
            _Reader(feeds),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=list(QUANTIZED),
            per_channel=True,
            reduce_range=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            nodes_to_quantize=[node.name for node in [*layers, *followers]],
            extra_options={"TensorQuantOverrides": ranges},
        )
        quantized = onnx.load(target)
    strip(quantized)
    return quantized


def quantizable(model: onnx.ModelProto, spared: tuple[str, ...], step: StepModule) -> list[onnx.NodeProto]:
    """Convolutions, and the dense layers that the step names, whose weights are not among the `spared`."""
    return [
        node
        for node in model.graph.node
        if (node.op_type in CONVOLUTIONS or (node.op_type == DENSE and node.input[1].startswith(step.dense_weights)))
        and not node.input[1].startswith(spared)
    ]


def matrices(model: onnx.ModelProto, step: StepModule) -> list[onnx.NodeProto]:
    """Products with the constant matrices that the step names."""
    products = (node for node in model.graph.node if node.op_type in (DENSE, "MatMul"))
    return [node for node in products if node.input[1].startswith(step.matrix_weights)]


def histogram_ranges(prepared: Path, feeds: Sequence[Feeds], recipe: Recipe) -> dict[str, list[dict[str, Any]]]:
    """Range of every activation from one of onnxruntime's histogram calibrators, as `TensorQuantOverrides` wants it.

    `quantize_static` would run the calibrator itself, but not let its bins be chosen.
    """
    calibrator = create_calibrator(
        prepared,
        list(QUANTIZED),
        prepared.with_name("augmented.onnx").as_posix(),
        recipe.method,
        extra_options=recipe.options,
    )
    few = [feeds[i] for i in spread(len(feeds), HISTOGRAM_STEPS)]
    for at in range(0, len(few), HISTOGRAM_CHUNK):
        calibrator.collect_data(_Reader(few[at : at + HISTOGRAM_CHUNK]))
    found = {name: data.range_value for name, data in calibrator.compute_data().items()}
    return {name: [{"rmin": np.float32(low), "rmax": np.float32(high)}] for name, (low, high) in found.items()}


class _Reader(CalibrationDataReader):
    """The feeds, one after the other."""

    def __init__(self, feeds: Sequence[Feeds]) -> None:
        self._rest = iter(feeds)

    def get_next(self) -> Feeds | None:
        return next(self._rest, None)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The quantizer warns of what is meant, and its calibrators print."""
    level = logging.root.level
    logging.root.setLevel(logging.ERROR)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logging.root.setLevel(level)
