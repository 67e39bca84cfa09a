"""Optimizers with weight decay where it belongs, and the course of the learning rate."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

MOMENTUM = 0.937  # YOLOv5's for SGD, and the first beta of AdamW


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
) -> torch.optim.Optimizer:
    """`sgd` (Nesterov) or `adamw`; biases, norm weights and scales are not decayed.

    AdamW moves every number by about the learning rate, whatever its size and its gradient's: each
    of the `scales` gets a rate of `scale_rate` times its own size. SGD needs none: the gradient of
    LSQ is scaled already.

    Raises:
        ValueError: the kind is neither.
    """
    apart = {id(scale) for scale in scales}
    trained = [p for p in net.parameters() if p.requires_grad and id(p) not in apart]
    groups: list[dict[str, Any]] = [
        {"params": [p for p in trained if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
    ]
    for scale in scales:
        factor = scale_rate * float(scale.detach().mean()) if kind == "adamw" else 1.0
        groups.append({"params": [scale], "weight_decay": 0.0, "factor": factor})
    if kind == "sgd":
        return torch.optim.SGD(groups, lr=learning_rate, momentum=MOMENTUM, nesterov=True)
    if kind == "adamw":
        return torch.optim.AdamW(groups, lr=learning_rate, betas=(MOMENTUM, 0.999))
    raise ValueError(f"optimizer {kind!r} is neither sgd nor adamw")


def set_learning_rate(optimizer: torch.optim.Optimizer, value: float) -> None:
    """Give all parameter groups one learning rate, times the group's `factor` where it has one."""
    for group in optimizer.param_groups:
        group["lr"] = value * group.get("factor", 1.0)
