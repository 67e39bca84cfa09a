"""What a step of QAT minimises: distance to the teacher, the task's loss, or both."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Self

import torch
from torch import Tensor, nn

from yoloq.models.to_input import scaled
from yoloq.train.loop import Loss, Parts
from yoloq.train.parallel import Processes
from yoloq.train.qat.distill import Distillation, Taps
from yoloq.train.qat.ranges import forget
from yoloq.train.samples import TrainBatch


@dataclass(frozen=True)
class Imitation:
    """A frozen float teacher, the blocks to compare with it, and how."""

    teacher: nn.Module
    blocks: list[str]
    distance: Distillation


@dataclass
class QatObjective:
    """Loss of a batch, summed over its images, with named parts (means).

    As a context manager it takes its hooks off both networks at the end, whatever happened.

    Args:
        net: the student.
        processes: among which a batch is split.
        imitation: teacher and distance, or None.
        task: the published loss on labels, or None.
        task_weight: factor on it.
        penalty: of the weights alone, an image; or None.
    """

    net: nn.Module
    processes: Processes
    imitation: Imitation | None
    task: Loss | None
    task_weight: float = 1.0
    penalty: Callable[[], Tensor] | None = None
    _called: nn.Module = field(init=False)
    _taps: tuple[Taps, Taps] | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        self._called = self.processes.replicate(self.net)
        if self.imitation is not None:
            blocks = self.imitation.blocks
            self._taps = Taps(self.net, blocks), Taps(self.imitation.teacher, blocks)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for taps in self._taps or ():
            taps.close()

    def __call__(self, batch: TrainBatch) -> tuple[Tensor, Parts]:
        mine, device = self.processes.share(batch), self.processes.device
        x = scaled(mine.images, device)
        raws = self._called(x)
        forget(self.net)
        values: list[Tensor] = []
        parts: Parts = {}
        if self.imitation is not None:
            value, found = self._imitate(x, raws, self.imitation)
            values, parts = [*values, value], parts | found
        if self.task is not None:
            value, found = self.task(raws, mine.targets.to(device))
            values, parts = [*values, value * self.task_weight], parts | found
        if self.penalty is not None:
            penalty = self.penalty()
            values, parts = [*values, penalty * len(x)], parts | {"dampening": penalty.detach()}
        # gradients are averaged over the processes, the loss is a sum over images
        return torch.stack(values).sum() * self.processes.world, parts

    def _imitate(self, x: Tensor, raws: list[Tensor], how: Imitation) -> tuple[Tensor, Parts]:
        assert self._taps is not None
        with torch.no_grad():
            teacher_raws = how.teacher(x)
        ours, theirs = (tap.take() for tap in self._taps)
        return how.distance(ours, theirs, raws, teacher_raws)
