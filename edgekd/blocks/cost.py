"""What one step of a detector costs in arithmetic, whatever engine runs it."""

from __future__ import annotations

from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from edgekd.blocks.step import StepModule


def multiply_adds(step: StepModule) -> int:
    """Multiply-adds of one step: convolutions, matrix products and recurrences; what is elementwise is not counted."""
    samples, valid = torch.zeros(step.hop, step.n_sensors), torch.ones(step.n_sensors)
    # torch counts the products inside RNN and GRU cells, but not the LSTM that it hands to oneDNN whole
    whole_lstm = {torch.ops.aten.mkldnn_rnn_layer: _lstm_flops}
    with FlopCounterMode(display=False, custom_mapping=whole_lstm) as counter, torch.inference_mode():
        step(samples, valid, *step.initial_state())
    return counter.get_total_flops() // 2


def _lstm_flops(
    sequence: tuple[int, ...], w_input: tuple[int, ...], w_hidden: tuple[int, ...], *_: Any, **__: Any
) -> int:
    """sequence (T, batch, inputs), w_input (4 hidden, inputs), w_hidden (4 hidden, hidden) -> 2 flops a product."""
    vectors = sequence[0] * sequence[1]
    return 2 * vectors * (w_input[0] * w_input[1] + w_hidden[0] * w_hidden[1])
