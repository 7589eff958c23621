"""A step module in the form that litert-torch converts rightly: exact rewrites on torch's side, each with its reason.

They compute what the module computes, up to rounding; the module itself is left as it is.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from edgekd.blocks.step import StepModule
from edgekd.methods.lta.network import ConvLSTM

NAMES = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")  # of a torch cell's parameters
LARGEST = torch.finfo(torch.float32).max


class StepByName(nn.Module):
    """The step with its tensors by name: positional arguments and tuples lose their names in the file."""

    def __init__(self, step: StepModule) -> None:
        super().__init__()
        self.step = copy.deepcopy(step).eval()
        self.states = list(step.state_shapes())
        for name, module in list(self.step.named_modules()):
            if isinstance(module, nn.ConvTranspose2d) and module.stride != (1, 1):
                self.step.set_submodule(name, CroppedTranspose(module))
            elif isinstance(module, nn.RNNBase):
                self.step.set_submodule(name, Unrolled(module))
            elif isinstance(module, ConvLSTM) and isinstance(module.gates, nn.Conv2d):
                self.step.set_submodule(name, SplitConvLSTM(module.gates))

    def forward(self, samples: Tensor, valid: Tensor, **state: Tensor) -> dict[str, Tensor]:
        """The step's inputs and outputs under the names that the manifest implies."""
        with ReplacedFunctions():
            found = self.step(samples, valid, *(state[name] for name in self.states))
        return dict(zip([*self.step.outputs, *(f"next_{name}" for name in self.states)], found))


class CroppedTranspose(nn.Module):
    """A strided transposed convolution without padding, cropped to what the padded one gives.

    With kernel 3, stride 2 and padding 1 it does not convert at all; with output padding, some kernels convert
    without a word into a file that has zeros where the output padding belongs.
    """

    def __init__(self, conv: nn.ConvTranspose2d) -> None:
        super().__init__()
        assert conv.groups == 1 and conv.dilation == (1, 1) and not isinstance(conv.padding, str)
        self.weight, self.bias, self.stride = conv.weight, conv.bias, conv.stride
        self.before, self.missing, self.kernel = conv.padding, conv.output_padding, conv.kernel_size

    def forward(self, x: Tensor) -> Tensor:
        """x (batch, channels, rows, columns) -> as `nn.ConvTranspose2d`."""
        short = [max(0, self.missing[i] - self.before[i]) for i in range(2)]  # where output padding passes the kernel
        whole = F.conv_transpose2d(x, self.weight, None if any(short) else self.bias, self.stride)
        if any(short):  # rows that no weight reaches hold the bias
            whole = F.pad(whole, (0, short[1], 0, short[0]))
            whole = whole if self.bias is None else whole + self.bias.reshape(1, -1, 1, 1)
        rows, columns = (
            (x.shape[2 + i] - 1) * self.stride[i] - 2 * self.before[i] + self.kernel[i] + self.missing[i]
            for i in range(2)
        )
        return whole[:, :, self.before[0] : self.before[0] + rows, self.before[1] : self.before[1] + columns]


class Unrolled(nn.Module):
    """A recurrent cell written out sample by sample, its input products taken for all samples at once.

    The converter writes it out as well, with half as many operators again: gates are split one by one, and every
    sample is reshaped. Fifty samples of that are most of a small student's file and of the time that conversion takes.
    """

    x: Tensor
    x_bias: Tensor
    h: Tensor
    h_new: Tensor
    h_new_bias: Tensor

    def __init__(self, cell: nn.RNNBase) -> None:
        super().__init__()
        assert cell.num_layers == 1 and not cell.bidirectional and cell.bias and cell.batch_first
        self.kind = cell.mode
        x, h, x_bias, h_bias = (getattr(cell, f"{name}_l0").detach() for name in NAMES)
        if self.kind == "LSTM":  # i, f, g, o as i, f, o, g: one sigmoid for the three that have one
            x, h, x_bias, h_bias = (
                torch.cat([t[0], t[1], t[3], t[2]]) for t in (w.chunk(4) for w in (x, h, x_bias, h_bias))
            )
        self.size = h.shape[1]
        gated = 2 * self.size if self.kind == "GRU" else len(h)  # of a GRU, r also scales the bias of the third part
        self.register_buffer("x", x)
        self.register_buffer("x_bias", torch.cat([x_bias[:gated] + h_bias[:gated], x_bias[gated:]]))
        self.register_buffer("h", h[:gated])
        self.register_buffer("h_new", h[gated:])
        self.register_buffer("h_new_bias", h_bias[gated:])

    def forward(self, rows: Tensor, initial: Any) -> tuple[Tensor, Any]:
        """rows (batch, T, inputs), initial state as the cell takes it -> every hidden vector, last state."""
        h, c = initial if self.kind == "LSTM" else (initial, None)  # (1, batch, size)
        inputs = F.linear(rows, self.x, self.x_bias).transpose(0, 1)  # (T, batch, gates)
        outputs = []
        for x in inputs.split(1):
            h, c = self.advance(x, h, c)
            outputs.append(h)
        return torch.cat(outputs).transpose(0, 1), ((h, c) if self.kind == "LSTM" else h)

    def advance(self, x: Tensor, h: Tensor, c: Any) -> tuple[Tensor, Any]:
        """One sample: its part of the gates x (1, batch, gates) and the state (an LSTM's has c) -> the next state."""
        gates = F.linear(h, self.h)
        if self.kind == "RNN_TANH":
            return torch.tanh(x + gates), None
        if self.kind == "GRU":
            r, z = torch.sigmoid(x[..., : 2 * self.size] + gates).chunk(2, -1)
            new = torch.tanh(x[..., 2 * self.size :] + r * F.linear(h, self.h_new, self.h_new_bias))
            return new + z * (h - new), None
        gates = x + gates
        i, f, o = torch.sigmoid(gates[..., : 3 * self.size]).chunk(3, -1)
        c = f * c + i * torch.tanh(gates[..., 3 * self.size :])
        return o * torch.tanh(c), c


class SplitConvLSTM(nn.Module):
    """A ConvLSTM that convolves its input and its hidden map apart and adds.

    In int8 the two would share one range, and that of the input is the wider one. A zero state, which `unroll` hands
    over as one tensor for both, is not convolved at all.
    """

    def __init__(self, gates: nn.Conv2d) -> None:
        super().__init__()
        self.padding, self.bias = gates.padding, gates.bias
        self.input, self.hidden = (nn.Parameter(half.detach().clone()) for half in gates.weight.chunk(2, 1))

    def forward(self, x: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        """x, h, c (batch, channels, s, s) -> h, c, as `ConvLSTM`."""
        fresh = h is c
        gates = F.conv2d(x, self.input, self.bias, padding=self.padding)
        if not fresh:
            gates = gates + F.conv2d(h, self.hidden, padding=self.padding)
        i, f, o, g = gates.chunk(4, dim=1)
        new = torch.sigmoid(i) * torch.tanh(g)
        c = new if fresh else torch.sigmoid(f) * c + new
        return torch.sigmoid(o) * torch.tanh(c), c


def finite(x: Tensor) -> Tensor:
    """`torch.isfinite` as one comparison: the converter turns infinity into the largest float, which is finite."""
    return x.abs() <= LARGEST


def selu(x: Tensor, inplace: bool = False) -> Tensor:
    """SELU without a selection: the converter keeps its layout through these operations, and XNNPACK runs them all."""
    scale, alpha = 1.0507009873554805, 1.6732632423543772  # Klambauer et al., 2017
    return F.relu(x) * scale + (x.clamp(max=0.0).exp() - 1.0) * (scale * alpha)


def times(x: Tensor, other: Any) -> Tensor:
    """A product, but zeros made by one are written so that they stay a computation.

    The converter would put them into the file as a constant, and the zero state from which a window starts is as large
    as all of its feature maps.
    """
    return x.clamp(0.0, 0.0) if isinstance(other, float) and other == 0.0 else torch.mul(x, other)


REPLACED: dict[Callable[..., Any], Callable[..., Any]] = {torch.isfinite: finite, F.selu: selu, Tensor.mul: times}


class ReplacedFunctions(TorchFunctionMode):
    """Calls of the functions in `REPLACED` go to their replacements."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        return REPLACED.get(func, func)(*args, **(kwargs or {}))
