"""What a step minimises: a sum of terms, each in a file of its own."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, Self

import torch
from torch import Tensor, nn

from yoloq.models.to_input import scaled
from yoloq.train.loop import Parts
from yoloq.train.parallel import Processes
from yoloq.train.samples import TrainBatch


@dataclass(frozen=True)
class Seen:
    """One pass of the student: what a term may look at.

    `x` (N, 3, H, W) are the images as the network takes them, `raws` its raw maps, `targets` (M, 6)
    the labels as a loss takes them.
    """

    x: Tensor
    raws: list[Tensor]
    targets: Tensor


class Term(Protocol):
    """A part of the objective."""

    def __call__(self, seen: Seen) -> tuple[Tensor, Parts]:
        """Its value summed over the images, with a gradient, and its detached parts (means)."""

    def close(self) -> None:
        """Leave the networks as they were before it."""


class TermSum:
    """Sum of terms on a batch, with their named parts.

    As a context manager it closes its terms at the end, whatever happened.

    Args:
        net: the student.
        processes: among which a batch is split.
        terms: one at least.
        after_pass: called behind each forward pass, before the terms.
    """

    def __init__(
        self,
        net: nn.Module,
        processes: Processes,
        terms: Sequence[Term],
        after_pass: Callable[[], object] = lambda: None,
    ) -> None:
        self.net, self.processes, self.terms = net, processes, terms
        self.after_pass = after_pass
        self._called = processes.replicate(net)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for term in self.terms:
            term.close()

    def __call__(self, batch: TrainBatch) -> tuple[Tensor, Parts]:
        mine, device = self.processes.share(batch), self.processes.device
        x = scaled(mine.images, device)
        raws = self._called(x)
        self.after_pass()
        seen = Seen(x, raws, mine.targets.to(device))
        values: list[Tensor] = []
        parts: Parts = {}
        for term in self.terms:
            value, found = term(seen)
            values, parts = [*values, value], parts | found
        # gradients are averaged over the processes, the loss is a sum over images
        return torch.stack(values).sum() * self.processes.world, parts
