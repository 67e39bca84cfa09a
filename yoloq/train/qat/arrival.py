"""Layers that join one after another: which quantizers of a student are on at which step."""

import math
from collections.abc import Sequence

from torch import nn

from yoloq.quant.modules import QuantConv2d
from yoloq.quant.quantizer import TensorQuantizer

ALL_BY = 2 / 3  # of the steps; the last third trains the network as it will be


class Arrivals:
    """Switches on the quantizers of a student, group by group.

    A quantizer that convolutions share is on with the first of them; that of a residual addition is
    one of these. The groups join at even distances, the first at once, all by the last third.

    Args:
        net: the student.
        groups: names of convolutions, those that join together; others are on from the start.
        steps: of the whole run.
    """

    def __init__(self, net: nn.Module, groups: Sequence[Sequence[str]], steps: int) -> None:
        between = ALL_BY * steps / max(len(groups), 1)
        joins = {n: math.ceil(i * between) for i, names in enumerate(groups) for n in names}
        self.due: dict[TensorQuantizer, int] = {}
        for name, conv in net.named_modules():
            if not isinstance(conv, QuantConv2d):
                continue
            for side in (conv.input_quantizer, conv.weight_quantizer):
                if isinstance(side, TensorQuantizer):
                    step = joins.get(name, 0)
                    self.due[side] = min(step, self.due.get(side, step))

    def at(self, step: int) -> None:
        """Switch on what is due before a step, counted from 0, and off what is not yet."""
        for quantizer, due in self.due.items():
            quantizer.enabled = step >= due

    def share(self) -> float:
        """Part of the quantizers that are on."""
        on = sum(quantizer.enabled for quantizer in self.due)
        return on / len(self.due) if self.due else 1.0
