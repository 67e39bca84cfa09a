"""The float model that a student imitates."""

import torch
from torch import Tensor, nn

from yoloq.base.errors import CheckpointError
from yoloq.models.load import LoadedModel, load_model


class Teacher:
    """A frozen network that runs once on a batch, however many terms ask for its raw maps."""

    def __init__(self, net: nn.Module) -> None:
        self.net = net
        self.last: tuple[Tensor, list[Tensor]] | None = None

    def __call__(self, x: Tensor) -> list[Tensor]:
        """Raw maps of images (N, 3, H, W) as the network takes them, without gradients."""
        if self.last is None or self.last[0] is not x:
            with torch.no_grad():
                self.last = (x, self.net(x))
        return self.last[1]


def load_teacher(file: str, student: LoadedModel) -> LoadedModel:
    """A fused float model whose raw head means the same as the student's.

    Raises:
        CheckpointError: the file cannot be read, or has other classes or another head; names them.
    """
    teacher = load_model(file)
    if teacher.names != student.names:
        raise CheckpointError(
            f"--teacher {file}: has other classes ({_names(teacher)}) than --weights "
            f"({_names(student)}); give a teacher of the same data set"
        )
    if teacher.head != student.head:
        raise CheckpointError(
            f"--teacher {file}: its head differs from that of --weights ({teacher.head} and "
            f"{student.head}); give a teacher with the same strides and anchors"
        )
    return teacher


def common_blocks(student: nn.Module, teacher: nn.Module) -> list[str]:
    """Numbered layers to compare: with convolutions, from the first that differs to the head.

    A layer differs where its modules are of other classes, such as quantized convolutions. Those
    before it differ only by what training changes; the head is compared as raw maps. A teacher of
    another structure has none in common.
    """
    ours, theirs = (net.get_submodule("model") for net in (student, teacher))
    if _convolutions(ours) != _convolutions(theirs):
        return []
    pairs = zip(list(ours.named_children())[:-1], theirs.children(), strict=False)
    blocks = [(name, block, _classes(block) != _classes(other)) for (name, block), other in pairs]
    first = next((i for i, (_, _, differs) in enumerate(blocks) if differs), len(blocks))
    return [
        f"model.{name}"
        for name, block, _ in blocks[first:]
        if any(isinstance(module, nn.Conv2d) for module in block.modules())
    ]


def _classes(block: nn.Module) -> list[type[nn.Module]]:
    return [type(module) for module in block.modules()]


def _convolutions(layers: nn.Module) -> list[tuple[str, tuple[int, ...]]]:
    """Name and weight shape of each convolution."""
    return [
        (name, tuple(module.weight.shape))
        for name, module in layers.named_modules()
        if isinstance(module, nn.Conv2d)
    ]


def _names(model: LoadedModel) -> str:
    return f"{len(model.names)}: {', '.join(model.names[:3])}{', ...' * (len(model.names) > 3)}"
