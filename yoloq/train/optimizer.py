"""Optimizers with weight decay where it belongs, and the course of the learning rate."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

MOMENTUM = 0.937  # YOLOv5's for SGD, and the first beta of AdamW
SMALLEST = 1e-3  # least size for a relative rate: weights of zero move as well (Adafactor's)


@dataclass(frozen=True)
class Schedule:
    """Learning rate factor over training: linear warm-up, then decay to `floor`.

    `warmup` and `epochs` are in epochs, `decay` is cosine or linear.
    """

    epochs: float
    warmup: float = 1.0
    floor: float = 0.01
    decay: str = "cosine"

    def factor(self, position: float) -> float:
        """Factor on the base learning rate, in 0..1, at a position in epochs (a fraction)."""
        if position < self.warmup:
            return max(position / self.warmup, 1e-3)
        rest = max(self.epochs - self.warmup, 1e-9)
        done = min((position - self.warmup) / rest, 1.0)
        share = (1 + math.cos(math.pi * done)) / 2 if self.decay == "cosine" else 1 - done
        return self.floor + (1 - self.floor) * share


def make_optimizer(
    net: nn.Module,
    kind: str,
    learning_rate: float,
    weight_decay: float,
    scales: Sequence[nn.Parameter] = (),
    scale_rate: float = 1.0,
    relative: bool = False,
) -> torch.optim.Optimizer:
    """`sgd` (Nesterov) or `adamw`; biases, norm weights and scales are not decayed.

    AdamW moves every number by about the learning rate, whatever its size and its gradient's: each
    of the `scales` gets a rate of `scale_rate` times its own size. SGD needs none: the gradient of
    LSQ is scaled already.

    Args:
        relative: AdamW's rate is a share of the size of a layer's weights, their root mean square
            (Shazeer and Stern 2018, arXiv 1804.04235, section 8); the bias goes with them. With
            batch norm folded one layer's weights are many times another's, and one rate for both
            leaves the first as it is or ruins the second.

    Raises:
        ValueError: the kind is neither.
    """
    if kind not in ("sgd", "adamw"):
        raise ValueError(f"optimizer {kind!r} is neither sgd nor adamw")
    adaptive = kind == "adamw"
    groups = _groups(net, {id(scale) for scale in scales}, weight_decay, relative and adaptive)
    for scale in scales:
        factor = scale_rate * _size(scale) if adaptive else 1.0
        groups.append({"params": [scale], "weight_decay": 0.0, "factor": factor})
    if adaptive:
        return torch.optim.AdamW(groups, lr=learning_rate, betas=(MOMENTUM, 0.999))
    return torch.optim.SGD(groups, lr=learning_rate, momentum=MOMENTUM, nesterov=True)


def _groups(
    net: nn.Module, apart: set[int], weight_decay: float, relative: bool
) -> list[dict[str, Any]]:
    """Parameters with and without decay, of the whole network or layer by layer."""
    groups = []
    for layer in net.modules() if relative else (net,):
        own = list(layer.parameters(recurse=not relative))
        factor = max(_size(own[0]), SMALLEST) if relative and own else 1.0  # the weight is first
        trained = [p for p in own if p.requires_grad and id(p) not in apart]
        for decay, decayed in ((weight_decay, True), (0.0, False)):
            chosen = [p for p in trained if (p.ndim > 1) is decayed]
            if chosen:
                groups.append({"params": chosen, "weight_decay": decay, "factor": factor})
    return groups


def _size(tensor: Tensor) -> float:
    """Root mean square."""
    return float(tensor.detach().square().mean().sqrt())


def set_learning_rate(optimizer: torch.optim.Optimizer, value: float) -> None:
    """Give all parameter groups one learning rate, times the group's `factor`."""
    for group in optimizer.param_groups:
        group["lr"] = value * group["factor"]
