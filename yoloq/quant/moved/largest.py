"""The largest weight of each pair of channels, and the largest number of each channel read."""

from collections.abc import Iterable, Mapping
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from yoloq.quant.moved.channels import Channels, Ints
from yoloq.quant.observer import observed

Floats = NDArray[np.float64]


class Sizes:
    """The largest |weight| between each output and input channel of a convolution."""

    def __init__(self, conv: nn.Conv2d) -> None:
        largest = conv.weight.detach().abs().amax((2, 3)).cpu().double().numpy()
        self.by_group: Floats = largest.reshape(conv.groups, -1, largest.shape[1])

    def rows(self) -> Floats:
        """The largest (out,) of each output channel."""
        return self.by_group.max(2).ravel()

    def columns(self) -> Floats:
        """The largest (in,) of each input channel."""
        return self.by_group.max(1).ravel()

    def scale(self, made: Floats, read: Floats) -> None:
        """Multiply by the factors (out,) of what is made, divide by those (in,) of what is read."""
        groups = len(self.by_group)
        self.by_group *= made.reshape(groups, -1, 1) / read.reshape(groups, 1, -1)


def sizes_of(net: nn.Module, channels: Channels) -> dict[str, Sizes]:
    """Of every convolution."""
    found = {}
    for name in channels.made:
        conv = net.get_submodule(name)
        assert isinstance(conv, nn.Conv2d)
        found[name] = Sizes(conv)
    return found


def largest_by_group(
    groups: Mapping[str, Ints], values: Mapping[str, Floats], count: int
) -> Floats:
    """The largest value (count,) of each group of channels, 0 of one without any.

    Args:
        groups: of the channels that convolutions make, or read.
        values: of the same channels.
    """
    most = np.zeros(count)
    for name, of in groups.items():
        np.maximum.at(most, of, values[name])
    return most


def largest_reads(
    net: nn.Module, channels: Channels, batches: Iterable[Tensor]
) -> dict[str, Floats]:
    """The largest |x| (in,) of each channel that a convolution reads.

    Args:
        net: in eval mode.
        batches: (N, 3, H, W) floats as it takes them.
    """
    most: dict[str, list[Tensor]] = {name: [] for name in channels.read}
    seen = {name: partial(_keep_largest, found) for name, found in most.items()}
    with torch.inference_mode(), observed(dict(net.named_modules()), seen, {}):
        for batch in batches:
            net(batch)
    return {name: torch.stack(found).amax(0).cpu().double().numpy() for name, found in most.items()}


def _keep_largest(found: list[Tensor], x: Tensor) -> None:
    """Of each channel (in,)."""
    found.append(x.detach().abs().amax((0, 2, 3)))
