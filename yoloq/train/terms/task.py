"""The term of the labels: the published loss of the head."""

from collections.abc import Callable

from torch import Tensor

from yoloq.train.loop import Loss, Parts
from yoloq.train.terms.objective import Seen


class TaskLoss:
    """A loss on raw maps and labels, times a weight.

    Args:
        loss: of raw maps and labels (M, 6).
        weight: factor on it.
        labels: where they come from; those of the data set.
    """

    def __init__(
        self,
        loss: Loss,
        weight: float = 1.0,
        labels: Callable[[Seen], Tensor] = lambda seen: seen.targets,
    ) -> None:
        self.loss, self.weight, self.labels = loss, weight, labels

    def __call__(self, seen: Seen) -> tuple[Tensor, Parts]:
        value, parts = self.loss(seen.raws, self.labels(seen))
        return value * self.weight, parts

    def close(self) -> None:
        """It changed nothing."""
