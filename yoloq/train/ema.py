"""Exponential moving average of a network's weights."""

import copy
import math

import torch
from torch import nn


class WeightAverage:
    """Holds `net`, a copy whose floating tensors follow the trained network's.

    The decay grows as decay * (1 - exp(-updates / ramp)), so that early weights are soon forgotten
    (YOLOv5's rule). Integer buffers are copied.
    """

    def __init__(self, net: nn.Module, decay: float = 0.999, ramp: float = 300.0) -> None:
        self.net = copy.deepcopy(net).eval().requires_grad_(False)
        self.decay = decay
        self.ramp = ramp
        self.updates = 0

    @classmethod
    def over(cls, net: nn.Module, updates: float) -> "WeightAverage":
        """An average over about the last `updates`; 1 or less: the present weights."""
        span = max(updates, 1.0)
        return cls(net, 1 - 1 / span, ramp=span / 4)

    @torch.no_grad()
    def update(self, net: nn.Module) -> None:
        """Move a step towards the network's present weights."""
        self.updates += 1
        weight = 1 - self.decay * (1 - math.exp(-self.updates / self.ramp))
        present = net.state_dict()
        for name, tensor in self.net.state_dict().items():
            if tensor.is_floating_point():
                tensor.lerp_(present[name], weight)
            else:
                tensor.copy_(present[name])
