"""The term of the labels: the published loss of the head."""

from torch import Tensor

from yoloq.train.loop import Loss, Parts
from yoloq.train.terms.objective import Seen


class TaskLoss:
    """A loss on raw maps and labels, times a weight."""

    def __init__(self, loss: Loss, weight: float = 1.0) -> None:
        self.loss, self.weight = loss, weight

    def __call__(self, seen: Seen) -> tuple[Tensor, Parts]:
        value, parts = self.loss(seen.raws, seen.targets)
        return value * self.weight, parts

    def close(self) -> None:
        """It changed nothing."""
