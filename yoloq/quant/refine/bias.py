"""Bias correction: each channel's mean error is taken off its bias.

Nagel et al., Data-Free Quantization Through Weight Equalization and Bias Correction, 2019, in its
empirical form: with what calibration images give, layer by layer in the order of the pass.
"""

import torch
from torch import nn

from yoloq.quant.refine.walk import Block


def repair(block: Block, steps: int) -> None:
    """Move the biases of a block's convolutions, each after those before it."""
    for name in block.layers:
        errors = [
            ((call.made - call.target) * weights[:, None]).mean((2, 3))
            for call, weights in zip(block.calls(name), block.weights.of(name), strict=True)
        ]
        error = torch.cat(errors).mean(0)
        conv = block.conv(name)
        if conv.bias is None:
            conv.bias = nn.Parameter(torch.zeros_like(error))
        with torch.no_grad():
            conv.bias -= error
