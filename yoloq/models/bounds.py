"""What a network of a file may take: no more memory than its tensors, maps of a usual size.

A file says how many channels a layer has, by how much it pads and enlarges, and how often a block
stands in a row. All of it is believed, but only after these checks.
"""

import contextlib
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from yoloq.base.errors import CheckpointError

LARGEST_STRIDE = 256  # pixels; P6 models have 64
SPARE = 2  # times the numbers that the file has: a folded network is built with its batch norms
ROOM = 1 << 20  # numbers besides
MOST_CELLS = 1 << 28  # numbers in all maps of the trial; YOLOv5x has 23 million at 128 px
MOST_PRODUCTS = 1 << 37  # of its convolutions; YOLOv5x has 4 * 10^9 at 128 px
MOST_REPEATS, MOST_TIMES = 100, 16  # of a block in a row; of a map made larger
MAKERS = (torch.empty, torch.zeros, torch.ones, torch.full, torch.rand, torch.randn)


class _Counted(TorchFunctionMode):
    """Counts the numbers of new tensors before they are made."""

    def __init__(self, left: int) -> None:
        super().__init__()
        self.left = left

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func in MAKERS:
            self.left -= _count(kwargs.get("size", args))
            if self.left < 0:
                raise CheckpointError(
                    "its own description needs more numbers than it has tensors: the file is "
                    "damaged or comes from changed model code"
                )
        return func(*args, **kwargs)


def _count(size: Any) -> int:
    while isinstance(size, Sequence) and size and isinstance(size[0], Sequence):
        size = size[0]
    return math.prod(side for side in size if isinstance(side, int)) if size else 1


@contextlib.contextmanager
def no_larger_than(tensors: Iterable[Tensor]) -> Iterator[None]:
    """Build a network inside the block; what it needs is held against the tensors of its file.

    Raises:
        CheckpointError: it needs many more numbers than those. The text names no file.
    """
    numbers = sum(tensor.numel() for tensor in tensors if tensor.is_floating_point())
    with _Counted(SPARE * numbers + ROOM):
        yield


def check_stride(strides: Sequence[int]) -> None:
    """Raise a CheckpointError where a stride is beyond any detector's. The text names no file."""
    if max(strides) > LARGEST_STRIDE:
        raise CheckpointError(
            f"its head has a stride of {max(strides)} pixels, and yoloq handles {LARGEST_STRIDE}: "
            "the file is damaged; fetch it again"
        )


def check_yaml(spec: Mapping[str, Any]) -> None:
    """Raise a CheckpointError where a model yaml repeats or enlarges without measure.

    The text names no file.
    """
    for _, repeats, name, arguments in [*spec["backbone"], *spec["head"]]:
        times = repeats * max(1, spec.get("depth_multiple", 1))
        factors = [each for each in arguments if isinstance(each, int | float)]
        if times > MOST_REPEATS or ("Upsample" in name and max(factors, default=0) > MOST_TIMES):
            raise CheckpointError(
                f"a layer {name!r} of its model yaml repeats or enlarges beyond what a detector "
                "does: the file is damaged; fetch it again"
            )


@contextlib.contextmanager
def usual_work(net: nn.Module) -> Iterator[None]:
    """Run a network inside the block; each module says before it runs what it is about to make.

    Raises:
        CheckpointError: the maps, or the products of the convolutions, are too many for any
            detector. The text names no file.
    """
    work = _Work()
    hooks = [module.register_forward_pre_hook(work.add) for module in net.modules()]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


class _Work:
    """Cells of all maps and products of all convolutions so far."""

    def __init__(self) -> None:
        self.cells = self.products = 0

    def add(self, module: nn.Module, inputs: Any) -> None:
        """Count a module that is about to run.

        Raises:
            CheckpointError: it is too much.
        """
        maps = inputs[0] if inputs and isinstance(inputs[0], list) else inputs
        read = [each for each in maps if isinstance(each, Tensor)]
        made = sum(each.numel() for each in read)
        if len(read) == 1 and read[0].ndim == 4 and type(module) in SIDES:
            with contextlib.suppress(TypeError, ValueError, IndexError, OverflowError):
                made = _made(module, read[0].shape)  # torch itself will say what is wrong
        self.cells += made
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            self.products += made * (module.weight.numel() // max(1, len(module.weight)))
        if self.cells > MOST_CELLS or self.products > MOST_PRODUCTS:
            raise CheckpointError(
                "its layers enlarge or repeat an image beyond what a detector does: the file is "
                "damaged or comes from changed model code"
            )


def _made(module: Any, shape: torch.Size) -> int:
    """Numbers in the map that a module makes of one of a shape (N, C, H, W)."""
    images, channels, *sides = shape
    found = [SIDES[type(module)](module, axis, side) for axis, side in enumerate(sides)]
    return math.prod(
        [images, getattr(module, "out_channels", channels), *(max(0, s) for s in found)]
    )


def _of_axis(value: Any, axis: int) -> Any:
    """What an attribute says of height (0) or width (1)."""
    return value[axis] if isinstance(value, tuple | list) else value


def _convolved(module: nn.Conv2d, axis: int, side: int) -> int:
    if isinstance(module.padding, str):
        return side
    padding, stride = _of_axis(module.padding, axis), _of_axis(module.stride, axis)
    covered = _of_axis(module.dilation, axis) * (_of_axis(module.kernel_size, axis) - 1) + 1
    return (side + 2 * padding - covered) // max(1, stride) + 1


def _spread(module: nn.ConvTranspose2d, axis: int, side: int) -> int:
    kernel = _of_axis(module.dilation, axis) * (_of_axis(module.kernel_size, axis) - 1) + 1
    return (
        (side - 1) * _of_axis(module.stride, axis) + kernel + _of_axis(module.output_padding, axis)
    )


def _enlarged(module: nn.Upsample, axis: int, side: int) -> int:
    if module.size is not None:
        return int(_of_axis(module.size, axis))
    return math.ceil(side * float(_of_axis(module.scale_factor, axis)))


def _padded(module: nn.ZeroPad2d, axis: int, side: int) -> int:
    around = module.padding
    both = around[2 - 2 * axis : 4 - 2 * axis] if isinstance(around, tuple | list) else [around] * 2
    return side + sum(both)


SIDES: dict[type[nn.Module], Callable[[Any, int, int], int]] = {
    nn.Conv2d: _convolved,
    nn.ConvTranspose2d: _spread,
    nn.Upsample: _enlarged,
    nn.UpsamplingNearest2d: _enlarged,
    nn.ZeroPad2d: _padded,
    nn.AdaptiveAvgPool2d: lambda module, axis, side: _of_axis(module.output_size, axis) or side,
}
