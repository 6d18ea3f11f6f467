"""The layers of the Descript Audio Codec for a CPU: each works through time in blocks that stay in its cache.

A convolution is a sum of matrix products, one per tap of its kernel, of shifted views of the input, which is neither
unfolded nor brought into another layout. A residual unit is computed block by block from its first activation's output
on, so that nothing between its layers is written to memory. The sums are the published layers' in another order.
Weights keep their names and shapes; in memory they are ordered by tap.

Shape suffixes: B rows, T samples or frames of the input, N of the output, K taps, I and O channels in and out, D
channels, S steps of a stride.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

_BLOCK = 2**16
"""Values of a block: three of them, and a convolution's weights, fit the second-level cache."""
_SHORTEST = 256
"""Frames of a block at least, so that reading the weights again for each costs little."""


class CachedSnake(nn.Module):
    """x + sin(alpha x)^2 / alpha."""

    def __init__(self, snake: Any) -> None:
        """`snake`: transformers' `Snake1d`, whose `alpha` (1, D, 1) is taken over."""
        super().__init__()
        self.alpha: nn.Parameter = snake.alpha

    def forward(self, x_BDT: Tensor) -> Tensor:
        """(B, D, T) -> (B, D, T)."""
        if not _in_blocks(x_BDT):
            reciprocal = (self.alpha + 1e-9).reciprocal()
            return x_BDT + reciprocal * torch.sin(self.alpha * x_BDT).square()
        out_BDT = torch.empty_like(x_BDT, memory_format=torch.contiguous_format)
        for x_DT, out_DT in zip(x_BDT, out_BDT, strict=True):
            self.write(x_DT, out_DT)
        return out_BDT

    def write(self, x_DT: Tensor, out_DT: Tensor) -> None:
        """Write the activation of one row to `out_DT`, which may be the row itself."""
        alpha_D1 = self.alpha[0]
        reciprocal_D1 = (alpha_D1 + 1e-9).reciprocal()
        for part in _blocks(*x_DT.shape):
            sine_DT = (x_DT[:, part] * alpha_D1).sin_()
            torch.mul(sine_DT, sine_DT, out=sine_DT)
            torch.addcmul(x_DT[:, part], sine_DT, reciprocal_D1, out=out_DT[:, part])


class CachedConvolution(nn.Module):
    """A convolution with more than one channel on either side."""

    def __init__(self, layer: nn.Conv1d) -> None:
        super().__init__()
        # In memory (K, O, I), so that each tap is a matrix.
        taps_KOI = layer.weight.detach().permute(2, 0, 1).contiguous()
        self.weight = nn.Parameter(taps_KOI.permute(1, 2, 0), requires_grad=False)
        self.bias: Any = layer.bias
        self.stride, self.dilation = layer.stride[0], layer.dilation[0]
        self.padding = int(layer.padding[0])

    def forward(self, x_BIT: Tensor) -> Tensor:
        """(B, I, T) -> (B, O, N)."""
        if not _in_blocks(x_BIT):
            return functional.conv1d(x_BIT, self.weight, self.bias, self.stride, self.padding, self.dilation)
        samples = x_BIT.shape[2] + 2 * self.padding - self.dilation * (self.weight.shape[2] - 1)
        size = (samples - 1) // self.stride + 1
        out_BON = x_BIT.new_empty(len(x_BIT), len(self.weight), size)
        for x_IT, out_ON in zip(x_BIT, out_BON, strict=True):
            shifted_SIT = self._phases(x_IT, size)
            for part in _blocks(max(self.weight.shape[:2]), size):
                self.write(shifted_SIT, part, out_ON[:, part])
        return out_BON

    def write(self, phases_SIT: Tensor, part: slice, out_ON: Tensor) -> None:
        """Write outputs `part` of a padded row, every S-th value of which is in each of its phases."""
        for tap, weight_OI in enumerate(self.weight.permute(2, 0, 1)):
            shift, phase = divmod(tap * self.dilation, self.stride)
            values_IN = phases_SIT[phase, :, part.start + shift : part.stop + shift]
            _add_product(out_ON, weight_OI, values_IN, None if tap else self.bias)

    def _phases(self, x_IT: Tensor, size: int) -> Tensor:
        columns = size + (self.weight.shape[2] - 1) * self.dilation // self.stride
        padded_IT = _padded(x_IT, self.padding, columns * self.stride)
        return padded_IT.view(len(x_IT), columns, self.stride).permute(2, 0, 1).contiguous()


class CachedTransposedConvolution(nn.Module):
    """A transposed convolution: each of its stride's steps is a convolution of its own, of the taps that reach it."""

    def __init__(self, layer: nn.ConvTranspose1d) -> None:
        super().__init__()
        taps_KOI = layer.weight.detach().permute(2, 1, 0).contiguous()
        self.weight = nn.Parameter(taps_KOI.permute(2, 1, 0), requires_grad=False)
        self.bias: Any = layer.bias
        self.stride, self.padding = layer.stride[0], int(layer.padding[0])
        self.output_padding = layer.output_padding[0]

    def forward(self, x_BIT: Tensor) -> Tensor:
        """(B, I, T) -> (B, O, N)."""
        if not _in_blocks(x_BIT):
            return functional.conv_transpose1d(
                x_BIT, self.weight, self.bias, self.stride, self.padding, self.output_padding
            )
        inputs, outputs, taps = self.weight.shape
        size = (x_BIT.shape[2] - 1) * self.stride + taps - 2 * self.padding + self.output_padding
        columns = -(-(size + self.padding) // self.stride)
        out_BOTS = x_BIT.new_empty(len(x_BIT), outputs, columns, self.stride)
        reach = (taps - 1) // self.stride
        for x_IT, out_OTS in zip(x_BIT, out_BOTS, strict=True):
            padded_IT = _padded(x_IT, reach, columns + reach)
            for part in _blocks(max(inputs, outputs), columns):
                self._write(padded_IT, part, out_OTS[:, part])
        return out_BOTS.flatten(2)[..., self.padding : self.padding + size]

    def _write(self, padded_IT: Tensor, part: slice, out_OTS: Tensor) -> None:
        taps_KOI = self.weight.permute(2, 1, 0)
        reach = (len(taps_KOI) - 1) // self.stride
        for phase in range(self.stride):
            step_OT = padded_IT.new_empty(out_OTS.shape[:2])
            for back, weight_OI in enumerate(taps_KOI[phase :: self.stride]):
                values_IT = padded_IT[:, part.start + reach - back : part.stop + reach - back]
                _add_product(step_OT, weight_OI, values_IT, None if back else self.bias)
            out_OTS[..., phase] = step_OT


class CachedUnit(nn.Module):
    """A residual unit: activation, dilated convolution, activation, convolution of single frames."""

    def __init__(self, unit: Any) -> None:
        """`unit`: transformers' `DacResidualUnit`, whose layers are taken over."""
        super().__init__()
        self.snake1, self.snake2 = CachedSnake(unit.snake1), CachedSnake(unit.snake2)
        self.conv1, self.conv2 = CachedConvolution(unit.conv1), CachedConvolution(unit.conv2)

    def forward(self, x_BDT: Tensor) -> Tensor:
        """(B, D, T) -> (B, D, T)."""
        if not _in_blocks(x_BDT):
            made_BDT: Tensor = self.conv2(self.snake2(self.conv1(self.snake1(x_BDT))))
            return x_BDT + made_BDT
        out_BDT = torch.empty_like(x_BDT, memory_format=torch.contiguous_format)
        for x_DT, out_DT in zip(x_BDT, out_BDT, strict=True):
            self._write(x_DT, out_DT)
        return out_BDT

    def _write(self, x_DT: Tensor, out_DT: Tensor) -> None:
        (channels, size), padding = x_DT.shape, self.conv1.padding
        padded_DT = x_DT.new_empty(channels, size + 2 * padding)
        padded_DT[:, :padding] = 0
        padded_DT[:, size + padding :] = 0
        self.snake1.write(x_DT, padded_DT[:, padding : size + padding])
        for part in _blocks(channels, size):
            inner_DT = x_DT.new_empty(channels, part.stop - part.start)
            self.conv1.write(padded_DT[None], part, inner_DT)
            self.snake2.write(inner_DT, inner_DT)
            torch.add(x_DT[:, part], self.conv2.bias[:, None], out=out_DT[:, part])
            out_DT[:, part].addmm_(self.conv2.weight[..., 0], inner_DT)


def keep_to_cache(network: nn.Module) -> None:
    """Put these layers in the place of transformers' DAC layers in `network`, whose weights stay its own."""
    from transformers.models.dac.modeling_dac import DacDecoder, DacDecoderBlock, DacEncoder, DacEncoderBlock

    stacks = (DacEncoder, DacEncoderBlock, DacDecoder, DacDecoderBlock)
    for stack in [module for module in network.modules() if isinstance(module, stacks)]:
        for name, layer in stack.named_children():
            setattr(stack, name, _cached(layer))


def _cached(layer: nn.Module) -> nn.Module:
    kind = type(layer).__name__
    if kind == "Snake1d":
        return CachedSnake(layer)
    if kind == "DacResidualUnit":
        return CachedUnit(layer)
    if isinstance(layer, nn.ConvTranspose1d):
        return CachedTransposedConvolution(layer)
    # Of one channel on either side there is no matrix product.
    if isinstance(layer, nn.Conv1d) and min(layer.in_channels, layer.out_channels) > 1:
        return CachedConvolution(layer)
    return layer


def _in_blocks(x: Tensor) -> bool:
    return x.device.type == "cpu" and x.dtype == torch.float32 and not torch.is_grad_enabled()


def _blocks(channels: int, size: int) -> Iterator[slice]:
    step = max(_SHORTEST, _BLOCK // channels)
    for start in range(0, size, step):
        yield slice(start, min(size, start + step))


def _padded(x_IT: Tensor, before: int, size: int) -> Tensor:
    """`size` values of each channel, `before` zeros first and zeros behind."""
    padded_IT = x_IT.new_empty(len(x_IT), size)
    stop = min(size, before + x_IT.shape[1])
    padded_IT[:, :before] = 0
    padded_IT[:, before:stop] = x_IT[:, : stop - before]
    padded_IT[:, stop:] = 0
    return padded_IT


def _add_product(out_ON: Tensor, weight_OI: Tensor, values_IN: Tensor, bias_O: Tensor | None) -> None:
    """Add a product to `out_ON`, or with biases replace it by them and the product."""
    if bias_O is None:
        out_ON.addmm_(weight_OI, values_IN)
    else:
        torch.addmm(bias_O[:, None], weight_OI, values_IN, out=out_ON)
