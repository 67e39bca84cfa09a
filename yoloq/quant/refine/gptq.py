"""Weights rounded column by column, what is left of each error carried by the columns that follow.

Frantar et al., GPTQ: Accurate Post-Training Quantization for Generative Pre-trained Transformers,
2022, of a convolution written as a product with patches. Before the rounding the weights are
fitted to give the float network's output from what the quantized network reads.
"""

import torch
from torch import Tensor

from yoloq.quant.modules import QuantConv2d, is_on
from yoloq.quant.refine.patches import Moments, fitted, grouped, moments_of, parts_of
from yoloq.quant.refine.walk import Block

DAMP = 0.01  # of the mean of the diagonal, as in the paper
PART = 128  # columns that are rounded before the rest is updated


def repair(block: Block, steps: int) -> None:
    """Round the weights of a block's convolutions, each after those before it."""
    for name in block.layers:
        conv = block.conv(name)
        weight = grouped(conv)
        for part, halves in zip(parts_of(conv), moments_of(block, name, conv), strict=True):
            group, columns = part
            weight[group, :, columns] = _rounded(conv, group, weight[group, :, columns], *halves)
        with torch.no_grad():
            conv.weight.copy_(weight.view_as(conv.weight))


def _rounded(
    conv: QuantConv2d, group: int, weight: Tensor, first: Moments, second: Moments
) -> Tensor:
    """Weights (channels, K) of a part on the grid of their quantizer."""
    rows = slice(group * len(weight), (group + 1) * len(weight))
    first, second = first.double(), second.double()
    weight = fitted(weight, first, second)
    own = (first + second).ridged(DAMP)
    order = own.diagonal().argsort(descending=True)
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(own[order][:, order]))
    upper = torch.linalg.cholesky(inverse, upper=True)
    return _in_order(conv, rows, weight[:, order], upper)[:, order.argsort()]


def _in_order(conv: QuantConv2d, rows: slice, weight: Tensor, upper: Tensor) -> Tensor:
    """Column by column; `upper` is the Cholesky factor of the inverse of the moments."""
    quantizer = conv.weight_quantizer
    assert is_on(quantizer) and quantizer.scale is not None
    scale = quantizer.scale.double()
    scale = scale[rows] if scale.ndim else scale
    low, high = quantizer.spec.qmin, quantizer.spec.qmax
    weight = weight.clone()
    for start in range(0, weight.shape[1], PART):
        stop = min(start + PART, weight.shape[1])
        part, errors = weight[:, start:stop], torch.zeros_like(weight[:, start:stop])
        factor = upper[start:stop, start:stop]
        for column in range(stop - start):
            before = part[:, column].clone()
            part[:, column] = (before / scale).round_().clamp_(low, high).mul_(scale)
            errors[:, column] = (before - part[:, column]) / factor[column, column]
            part[:, column + 1 :] -= errors[:, column, None] * factor[column, column + 1 :]
        weight[:, stop:] -= errors @ upper[start:stop, stop:]
    return weight
