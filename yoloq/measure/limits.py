"""What a machine can do at most, measured, and the least time that a network takes on it."""

import functools
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from yoloq.base.machine import has_fast_bfloat16
from yoloq.quant.observer import observed

SIDE = 512  # of the matrices: three of them fit into a core's own cache, in int8 and in bfloat16
COPIED = 1 << 20  # bytes that are copied, so that they stay in the cache
SECONDS = 0.3  # for each measurement
BYTES = {"int8": 1, "bf16": 2, "fp16": 2, "fp32": 4}


@dataclass(frozen=True)
class Limits:
    """The most that one core was seen to do.

    Attributes:
        operations: a second by type, in matrix products; a multiply-add counts two.
        bandwidth: bytes a second, read and written, of a copy within the cache.
    """

    operations: Mapping[str, float]
    bandwidth: float


@functools.cache
def machine_limits() -> Limits:
    """Measured once a process on one thread: other programs then disturb least.

    The best of many runs counts: a limit is what was possible, not what was usual.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        work = 2 * SIDE**3
        operations = {name: work / _best(product) for name, product in _products().items()}
        source = torch.zeros(COPIED, dtype=torch.uint8)
        target = torch.empty_like(source)
        return Limits(operations, 2 * COPIED / _best(lambda: target.copy_(source)))
    finally:
        torch.set_num_threads(threads)


def _products() -> dict[str, Callable[[], object]]:
    """A product of two matrices in each type that the machine computes in."""
    floats = torch.rand(SIDE, SIDE)
    halves = floats.bfloat16()
    integers = torch.ones(SIDE, SIDE, dtype=torch.int8)
    products: dict[str, Callable[[], object]] = {"fp32": lambda: torch.mm(floats, floats)}
    if has_fast_bfloat16():
        products["bf16"] = lambda: torch.mm(halves, halves)
    products["int8"] = lambda: torch._int_mm(integers, integers)
    return products


def _best(work: Callable[[], object]) -> float:
    """Seconds of the fastest of many runs."""
    work()
    best, end = float("inf"), time.perf_counter() + SECONDS
    while time.perf_counter() < end:
        start = time.perf_counter()
        work()
        best = min(best, time.perf_counter() - start)
    return best


@dataclass(frozen=True)
class Work:
    """What a convolution has to do on one image: operations, and elements that it touches."""

    operations: int
    elements: int

    def floor_ms(self, precision: str, limits: Limits, threads: int) -> float | None:
        """The least milliseconds in a type; None of a type whose limit is not known.

        Either all products are made, or all of input, weight and output moved, each at the limit
        of all threads together.
        """
        if precision not in limits.operations:
            return None
        moved = self.elements * BYTES[precision] / limits.bandwidth
        return 1000 * max(self.operations / limits.operations[precision], moved) / threads


def work_of(net: nn.Module, imgsz: int) -> dict[str, Work]:
    """The work of every convolution of a float network on one image, by name."""
    found: dict[str, Work] = {}
    convs = {name: m for name, m in net.named_modules() if isinstance(m, nn.Conv2d)}
    sizes: dict[str, int] = {}

    def see(name: str, output: Tensor) -> None:
        conv = convs[name]
        taps = conv.weight[0].numel()  # products for one value of the output
        work = Work(2 * taps * output.numel(), sizes[name] + conv.weight.numel() + output.numel())
        found[name] = work

    inputs = {name: functools.partial(_keep, sizes, name) for name in convs}
    outputs = {name: functools.partial(see, name) for name in convs}
    device = next(net.parameters()).device
    with torch.inference_mode(), observed(dict(net.named_modules()), inputs, outputs):
        net(torch.zeros(1, 3, imgsz, imgsz, device=device))
    return found


def _keep(sizes: dict[str, int], name: str, x: Tensor) -> None:
    sizes[name] = x.numel()


def floor_ms(
    work: Mapping[str, Work], types: Mapping[str, str], limits: Limits, threads: int
) -> float | None:
    """The least milliseconds of all convolutions in the types that they run in; None: not known."""
    each = [work[name].floor_ms(kind, limits, threads) for name, kind in types.items()]
    known = [ms for ms in each if ms is not None]
    return sum(known) if len(known) == len(each) else None
