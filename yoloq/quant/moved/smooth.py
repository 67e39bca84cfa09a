"""SmoothQuant: channels that are read large are divided, and the weights that read them take it.

Xiao et al., SmoothQuant: Accurate and Efficient Post-Training Quantization for Large Language
Models, 2023: with a the largest number of a channel and w the largest weight that reads it, the
channel is divided by a^strength / w^(1 - strength). What is read in one tensor then gets one more
factor, with which its largest number stays: beside channels that are fixed its size counts.
"""

from collections.abc import Sequence

import numpy as np
from torch import Tensor, nn

from yoloq.quant.moved.channels import FIXED, Channels, Ints
from yoloq.quant.moved.largest import Floats, largest_by_group, largest_reads, sizes_of

STRENGTH = 0.5  # the paper's: both sides get one range


def factors(net: nn.Module, channels: Channels, batches: Sequence[Tensor]) -> Floats:
    """The factor of each group of channels, from the batches (N, 3, H, W)."""
    weights = {name: sizes.columns() for name, sizes in sizes_of(net, channels).items()}
    weight = largest_by_group(channels.read, weights, channels.count)
    reads = largest_reads(net, channels, batches)
    read = largest_by_group(channels.read, reads, channels.count)
    alive = (weight > 0) & (read > 0)
    alive[FIXED] = False
    found = np.ones(channels.count)
    found[alive] = weight[alive] ** (1 - STRENGTH) / read[alive] ** STRENGTH
    return np.where(alive, found * _restored(channels.together, read, read * found), 1.0)


def _restored(together: Ints, before: Floats, after: Floats) -> Floats:
    """What gives the groups that are read together the largest number that they had."""
    most, now = np.zeros((2, len(before)))
    np.maximum.at(most, together, before)
    np.maximum.at(now, together, after)
    return most[together] / np.where(now > 0, now, 1.0)[together]
