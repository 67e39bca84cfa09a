"""Bias correction: each channel's mean error is taken off its bias.

Nagel et al., Data-Free Quantization Through Weight Equalization and Bias Correction, 2019, in its
empirical form: with what calibration images give, layer by layer in the order of the pass. A mean
that a few images could have by chance is shrunk (James and Stein, 1961): at 8 bits most are.
"""

import torch
from torch import Tensor, nn

from yoloq.quant.refine.walk import Block


def repair(block: Block, steps: int) -> None:
    """Move the biases of a block's convolutions, each after those before it."""
    for name in block.layers:
        found = [
            (((call.made - call.target) * weights[:, None]).mean((2, 3)), weights.mean((1, 2)))
            for call, weights in zip(block.calls(name), block.weights.of(name), strict=True)
        ]
        errors, shares = (torch.cat(parts) for parts in zip(*found, strict=True))
        error = shrunk_mean(errors, shares)
        conv = block.conv(name)
        if conv.bias is None:
            conv.bias = nn.Parameter(torch.zeros_like(error))
        with torch.no_grad():
            conv.bias -= error


def shrunk_mean(errors: Tensor, shares: Tensor) -> Tensor:
    """Mean error of each channel (C,), less what chance alone would make of it.

    Mean m with standard error s becomes m (1 - s^2 / m^2), and 0 where s is larger than m; of one
    image s is not known and the mean stays.

    Args:
        errors: (N, C) of each image, times its share.
        shares: (N,) how much each image counts.
    """
    mean, count = errors.sum(0) / shares.sum(), len(errors)
    apart = errors - mean * shares[:, None]
    chance = apart.square().sum(0) / shares.sum().square() * count / max(count - 1, 1)
    kept = mean.square() > chance
    return torch.where(kept, mean - chance / torch.where(kept, mean, 1), 0)
