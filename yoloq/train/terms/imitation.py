"""The term that holds a student to its float teacher, without labels."""

from collections.abc import Sequence

from torch import Tensor, nn

from yoloq.train.loop import Parts
from yoloq.train.terms.distill import Distillation, Taps
from yoloq.train.terms.objective import Seen
from yoloq.train.terms.teacher import Teacher


class Imitation:
    """Distance to a frozen teacher on the same images.

    Args:
        net: the student.
        teacher: the float network.
        blocks: names of the blocks whose outputs are compared.
        distance: how.
    """

    def __init__(
        self, net: nn.Module, teacher: Teacher, blocks: Sequence[str], distance: Distillation
    ) -> None:
        self.teacher, self.distance = teacher, distance
        self.taps = Taps(net, blocks), Taps(teacher.net, blocks)

    def __call__(self, seen: Seen) -> tuple[Tensor, Parts]:
        raws = self.teacher(seen.x)
        ours, theirs = (taps.take() for taps in self.taps)
        return self.distance(ours, theirs, seen.raws, raws)

    def close(self) -> None:
        """Take the hooks off both networks."""
        for taps in self.taps:
            taps.close()
