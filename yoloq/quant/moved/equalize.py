"""Cross-layer equalization: what makes a channel and what reads it get weights of one size.

Nagel et al., Data-Free Quantization Through Weight Equalization and Bias Correction, 2019, section
4.1: with r1 and r2 the largest weights of both, the factor is sqrt(r2 / r1); tensor by tensor until
it settles. Where several layers make or read a channel the largest of each side counts.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from torch import Tensor, nn

from yoloq.quant.moved.channels import FIXED, Channels
from yoloq.quant.moved.largest import Floats, Sizes, largest_by_group, sizes_of

SWEEPS = 100
SETTLED = 0.01  # a sweep that changes no factor by more than a hundredth is the last


def factors(net: nn.Module, channels: Channels, batches: Sequence[Tensor]) -> Floats:
    """The factor of each group of channels; the batches are not looked at."""
    sizes, total = sizes_of(net, channels), np.ones(channels.count)
    around = {name: _around(name, channels) for name in channels.movable}
    for _ in range(SWEEPS):
        before = total.copy()
        for name, others in around.items():
            total *= _step(name, others, channels, sizes)
        if np.abs(np.log(total / before)).max() < SETTLED:
            break
    return total


def _around(name: str, channels: Channels) -> list[str]:
    """The convolutions that make or read a channel of those that one makes, itself among them."""
    mine = channels.made[name][channels.made[name] != FIXED]
    sides = {n: np.concatenate([channels.made[n], channels.read[n]]) for n in channels.made}
    return [other for other, groups in sides.items() if bool(np.isin(groups, mine).any())]


def _step(
    name: str, others: Sequence[str], channels: Channels, sizes: Mapping[str, Sizes]
) -> Floats:
    """Equalize the channels that a convolution makes; their factors, 1 for all others."""
    mine = np.zeros(channels.count, bool)
    mine[channels.made[name]] = True
    mine[FIXED] = False
    made, read = (
        largest_by_group(
            {n: side[n] for n in others}, {n: of(sizes[n]) for n in others}, channels.count
        )
        for side, of in ((channels.made, Sizes.rows), (channels.read, Sizes.columns))
    )
    alive = mine & (made > 0) & (read > 0)
    step = np.ones(channels.count)
    step[alive] = np.sqrt(read[alive] / made[alive])
    for other in others:
        sizes[other].scale(step[channels.made[other]], step[channels.read[other]])
    return step
