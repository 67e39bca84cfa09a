"""Oscillation dampening: a pull towards the middle of a weight's bin (2203.11086, section 3.1)."""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from yoloq.train.loop import Parts
from yoloq.train.qat.batch_norm import weight_of
from yoloq.train.qat.oscillation import beside, quantized_weights, scale_of
from yoloq.train.terms.objective import Seen


def dampening(net: nn.Module) -> Tensor:
    """Squared distance of the weights to the values they are rounded to (equation 7), summed.

    Clipped weights do not count; the gradient pulls each weight to the middle of its bin.
    """
    terms = []
    for _, conv in quantized_weights(net):
        weight = weight_of(conv)
        with torch.no_grad():
            centre = conv.weight_quantizer(weight)
            scale, spec = scale_of(conv, weight)
            scale = beside(scale, weight)
        inside = torch.clamp(weight, scale * spec.qmin, scale * spec.qmax)
        terms.append((inside - centre).square().sum())
    return torch.stack(terms).sum() if terms else torch.zeros(())


def growth(step: int, steps: int) -> float:
    """Share of the dampening's weight that applies: from 0 to 1 by a cosine, as in the paper."""
    return (1 - math.cos(math.pi * min(step / max(steps, 1), 1.0))) / 2


class Dampening:
    """The term: the pull on all weights, for each image.

    Args:
        net: the student.
        weight: factor on it.
        share: 0 to 1, how much of it applies now (`growth`).
    """

    def __init__(self, net: nn.Module, weight: float, share: Callable[[], float]) -> None:
        self.net, self.weight, self.share = net, weight, share

    def __call__(self, seen: Seen) -> tuple[Tensor, Parts]:
        penalty = self.weight * self.share() * dampening(self.net)
        return penalty * len(seen.x), {"dampening": penalty.detach()}

    def close(self) -> None:
        """It changed nothing."""
