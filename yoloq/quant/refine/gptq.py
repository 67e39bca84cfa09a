"""Weights rounded column by column, what is left of each error carried by the columns that follow.

Frantar et al., GPTQ: Accurate Post-Training Quantization for Generative Pre-trained Transformers,
2022, of a convolution written as a product with patches. Before the rounding the weights are
fitted to give the float network's output from the quantized network's input, which a least-squares
step does in closed form.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from yoloq.quant.affine import fake_quantize
from yoloq.quant.modules import QuantConv2d, is_on
from yoloq.quant.refine.walk import Block

DAMP = 0.01  # of the mean of the diagonal, as in the paper
PATCHES = 8192  # columns of one batch that count
PART = 128  # columns that are rounded before the rest is updated


@dataclass
class Moments:
    """Sums over patches (K,) of a convolution's group: `own` is X X', `cross` (X_float - X) X'."""

    own: Tensor
    cross: Tensor


def repair(block: Block, steps: int) -> None:
    """Round the weights of a block's convolutions, each after those before it."""
    for name in block.layers:
        conv = block.conv(name)
        moments = _moments(block, name, conv)
        parts = [_rounded(conv, index, moment) for index, moment in enumerate(moments)]
        with torch.no_grad():
            conv.weight.copy_(torch.cat(parts).view_as(conv.weight))


def _moments(block: Block, name: str, conv: QuantConv2d) -> list[Moments]:
    """One for each group of channels."""
    size = conv.weight[0].numel()
    device = conv.weight.device
    found = [
        Moments(torch.zeros(size, size, device=device), torch.zeros(size, size, device=device))
        for _ in range(conv.groups)
    ]
    for call in block.calls(name):
        with torch.no_grad():
            read = _patches(conv, conv.input_quantizer(call.read))
            wanted = _patches(conv, call.reference)
        places = torch.randperm(read.shape[-1], generator=block.random)[:PATCHES].to(device)
        read, wanted = read[..., places], wanted[..., places]
        for moment, x, y in zip(found, read, wanted, strict=True):
            moment.own += x @ x.T
            moment.cross += (y - x) @ x.T
    return found


def _patches(conv: QuantConv2d, x: Tensor) -> Tensor:
    """What each output place reads, (groups, channels a group * kernel, N * places)."""
    height, width = conv.kernel_size
    columns = functional.unfold(
        _padded(conv, x), (height, width), dilation=conv.dilation, stride=conv.stride
    )
    count, rows, places = columns.shape
    grouped = columns.view(count, conv.groups, rows // conv.groups, places)
    return grouped.permute(1, 2, 0, 3).flatten(2)


def _padded(conv: QuantConv2d, x: Tensor) -> Tensor:
    pads = conv._reversed_padding_repeated_twice
    mode = "constant" if conv.padding_mode == "zeros" else conv.padding_mode
    return functional.pad(x, list(pads), mode=mode)


def _rounded(conv: QuantConv2d, group: int, moments: Moments) -> Tensor:
    """Weights (channels, K) of a group on the grid of their quantizer."""
    count = conv.out_channels // conv.groups
    rows = slice(group * count, (group + 1) * count)
    weight = conv.weight.detach()[rows].flatten(1).double()
    own, cross = moments.own.double(), moments.cross.double()
    damp = DAMP * float(own.diagonal().mean()) or 1.0
    own.diagonal().add_(damp)
    weight += torch.linalg.solve(own, (weight @ cross).T).T
    order = own.diagonal().argsort(descending=True)
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(own[order][:, order]))
    upper = torch.linalg.cholesky(inverse, upper=True)
    rounded = _in_order(conv, rows, weight[:, order], upper)
    return rounded[:, order.argsort()].to(conv.weight.dtype)


def _in_order(conv: QuantConv2d, rows: slice, weight: Tensor, upper: Tensor) -> Tensor:
    """Column by column; `upper` is the Cholesky factor of the inverse of the moments."""
    quantizer = conv.weight_quantizer
    assert is_on(quantizer) and quantizer.scale is not None and quantizer.zero_point is not None
    scale, zero = quantizer.scale, quantizer.zero_point
    if scale.ndim:
        scale, zero = scale[rows], zero[rows]
    weight = weight.clone()
    for start in range(0, weight.shape[1], PART):
        stop = min(start + PART, weight.shape[1])
        errors = torch.zeros_like(weight[:, start:stop])
        for column in range(start, stop):
            before = weight[:, column].clone()
            values = before.float()[:, None]
            weight[:, column] = fake_quantize(values, scale, zero, quantizer.spec)[:, 0].double()
            error = (before - weight[:, column]) / upper[column, column]
            weight[:, column + 1 : stop] -= error[:, None] * upper[column, column + 1 : stop]
            errors[:, column - start] = error
        weight[:, stop:] -= errors @ upper[start:stop, stop:]
    return weight
