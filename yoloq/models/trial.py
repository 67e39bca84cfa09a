"""A rebuilt network is run once: what it cannot compute shows here, and not in some stage."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from traceback import walk_tb
from typing import Any

import torch
from torch import Tensor, nn

from yoloq.base.errors import CheckpointError
from yoloq.base.machine import raise_memory
from yoloq.base.own_files import MAKE
from yoloq.base.say import warn
from yoloq.models.bounds import check_stride, usual_work
from yoloq.models.heads import Head
from yoloq.models.layered import LayeredNet
from yoloq.models.tree import AS_SAVED, one_line

CELLS = 2  # a side of the smallest map


@torch.no_grad()
def check_runs(net: LayeredNet, head: Head, in_place: Iterable[str] = ()) -> None:
    """Run a network on a random image, and with the modules that its file lets work in place.

    Raises:
        CheckpointError: it takes other images than RGB, a module cannot compute what its file says,
            it gives NaN or Inf, or working in place changes what other layers read; or that would
            take far more memory or time than a detector does. The text names no file.
    """
    _check_channels(net)
    check_stride(head.strides)
    side = CELLS * max(head.strides)
    image = torch.rand(1, 3, side, side, generator=torch.Generator().manual_seed(0))
    with usual_work(net):
        maps = _run(net, image)
    if not all(bool(y.isfinite().all()) for y in maps):
        raise CheckpointError("its network gives NaN or Inf on an image; give another checkpoint")
    found = tuple(side // y.shape[-1] for y in maps)
    if found != head.strides:
        warn(
            f"the checkpoint says strides {head.strides} and its layers have {found}: boxes are "
            f"decoded with those of the checkpoint, as YOLOv5 does; check the AP that "
            f"{MAKE} baseline measures"
        )
    names = {name for name, _ in net.named_modules(remove_duplicate=False)}.intersection(in_place)
    if _differs(net, image, maps, names) and not _differs(net, image, maps, set()):
        first = next((n for n in sorted(names) if _differs(net, image, maps, {n})), "a module")
        raise CheckpointError(
            f"{first!r} works in place on a map that other layers read too, which is not supported"
        )


def _run(net: LayeredNet, image: Tensor) -> list[Tensor]:
    """The raw maps; what fails on the way is named."""
    try:
        return net(image)  # type: ignore[no-any-return]
    except CheckpointError:
        raise
    except Exception as error:  # torch's modules raise what they like
        raise_memory(error)
        names = {id(module): name for name, module in net.named_modules()}
        running = (frame.f_locals.get("self") for frame, _ in walk_tb(error.__traceback__))
        *_, inner = (module for module in running if names.get(id(module)) is not None)
        where = f"{names[id(inner)]!r}, a {type(inner).__name__}," if names[id(inner)] else "it"
        raise CheckpointError(
            f"{where} cannot compute on an image ({one_line(error)}): it was changed after its "
            f"training or by other code; {AS_SAVED}"
        ) from error


def _check_channels(net: LayeredNet) -> None:
    first = next(module for module in net.modules() if isinstance(module, nn.Conv2d))
    channels = first.in_channels // (4 if type(net.model[0]).__name__ == "Focus" else 1)
    if channels != 3:
        raise CheckpointError(f"takes images of {channels} channels; yoloq handles 3 (RGB)")


def _differs(net: LayeredNet, image: Tensor, maps: list[Tensor], names: set[str]) -> bool:
    """Whether the network gives other maps where these modules work in place.

    Compared bit by bit: working in place rounds alike, and a network of random weights damps what
    happens deep inside it to nearly nothing.
    """
    with _in_place([net.get_submodule(name) for name in names]):
        again = net(image.clone())
    return not all(torch.equal(a, b) for a, b in zip(again, maps, strict=True))


@contextmanager
def _in_place(modules: list[nn.Module]) -> Iterator[None]:
    chosen: list[Any] = [module for module in modules if hasattr(module, "inplace")]
    for module in chosen:
        module.inplace = True
    try:
        yield
    finally:
        for module in chosen:
            module.inplace = False
