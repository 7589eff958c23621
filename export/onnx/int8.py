"""Static int8 of a float step graph: QDQ around the convolutions, everything that remembers or subtracts stays float.

Per-channel weights with `reduce_range`: onnxruntime's U8S8 products saturate on x86 without VNNI, and seven-bit weights
give the same scores on every processor at the same speed.
"""

from __future__ import annotations

import logging
import tempfile
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

from edgekd.data.recording import Recording
from edgekd.export.onnx.graph import strip
from edgekd.step import StepModule

SCHEME = "int8 static QDQ, per-channel weights of 7 bits, float32 state and residual"
CALIBRATION_STEPS = 256


class _ClosedLoop(CalibrationDataReader):
    """Steps of the replay stretch with their state fed back, as the device meets them."""

    def __init__(self, model: onnx.ModelProto, step: StepModule, replay: Recording) -> None:
        session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
        names = list(step.state_shapes())
        stops = [
            (start, stop) for start, end in step.entities(replay) for stop in range(start + step.hop, end + 1, step.hop)
        ]
        warm = [i for i, (start, stop) in enumerate(stops) if stop - start >= step.warmup_samples] or [len(stops) - 1]
        kept = set(np.linspace(0, len(warm) - 1, min(CALIBRATION_STEPS, len(warm))).astype(int))
        chosen = {warm[i] for i in kept}
        self.feeds: list[dict[str, np.ndarray]] = []
        state: list[np.ndarray] = []
        for i, (start, stop) in enumerate(stops):
            if stop - start == step.hop:
                state = [tensor.numpy() for tensor in step.initial_state()]
            feeds = {
                "samples": replay.values[stop - step.hop : stop],
                "valid": np.ones(step.n_sensors, np.float32),
                **dict(zip(names, state)),
            }
            state = session.run(None, feeds)[2:]
            if i in chosen:
                self.feeds.append(feeds)
        self.position = 0

    def get_next(self) -> dict[str, np.ndarray] | None:
        self.position += 1
        return self.feeds[self.position - 1] if self.position <= len(self.feeds) else None


def quantize(model: onnx.ModelProto, step: StepModule, replay: Recording) -> onnx.ModelProto:
    """The int8 graph of a float one, calibrated closed loop on the replay stretch.

    Convolutions whose weights `step.float_weights` names stay float. A graph without convolutions has nothing to
    quantize and comes back as it is.
    """
    convolutions = [
        node
        for node in model.graph.node
        if node.op_type in ("Conv", "ConvTranspose") and not node.input[1].startswith(step.float_weights)
    ]
    if not convolutions:
        return model
    # gates are split as bytes, before they become floats: a quarter of the memory to move
    outputs = {node.output[0] for node in convolutions}
    splits = [node for node in model.graph.node if node.op_type == "Split" and node.input[0] in outputs]
    chosen = [node.name for node in [*convolutions, *splits]]
    with tempfile.TemporaryDirectory() as folder:
        source, prepared, target = (Path(folder) / name for name in ("float.onnx", "prepared.onnx", "int8.onnx"))
        onnx.save(model, source)
        level = logging.root.level
        logging.root.setLevel(logging.ERROR)
        try:
            quant_pre_process(source, prepared, skip_symbolic_shape=True)
            quantize_static(
                prepared,
                target,
                _ClosedLoop(model, step, replay),
                quant_format=QuantFormat.QDQ,
                per_channel=True,
                reduce_range=True,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
                nodes_to_quantize=chosen,
            )
        finally:
            logging.root.setLevel(level)
        quantized = onnx.load(target)
    strip(quantized)
    return quantized
