"""Observers: they collect what calibration needs of each tensor, and decide nothing.

Collection needs no quantizer in the model: it hooks the convolutions of the float network, so one
pass serves every policy, calibrator, granularity and scale sharing that is tried later.
"""

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from yoloq.quant.statistics import Statistics

T = TypeVar("T")

BINS = 8192  # 32 bins an int8 step over the whole range, 4 when calibration clips to an eighth
SAMPLE = 2**18  # elements kept of one tensor over all images; the extremes are exact


class _Extremes:
    """Lowest and highest value of each image."""

    def __init__(self) -> None:
        self.edges: list[Tensor] = []  # (images, 2) a batch

    def add(self, rows: Tensor) -> None:
        # a batch at once: threads would meet for each image; aminmax(dim=1) is ten times slower
        self.edges.append(torch.stack((rows.amin(1), rows.amax(1)), 1).cpu())

    @property
    def finite(self) -> bool:
        """Whether no value was NaN or infinite."""
        return all(bool(edge.isfinite().all()) for edge in self.edges)

    def pair(self, images: int | None = None) -> tuple[float, float]:
        """Both, over the first images; None: over all.

        Raises:
            ValueError: a value was NaN or infinite.
        """
        edges = torch.cat(self.edges)[:images]
        if not bool(edges.isfinite().all()):
            raise ValueError("the tensor holds NaN or infinite values")
        return float(edges[:, 0].min()), float(edges[:, 1].max())


class Observer:
    """Collects one tensor; decides nothing.

    Args:
        per_image: elements sampled of each image, with replacement.
        seed: of the sample.
    """

    def __init__(self, per_image: int, seed: int) -> None:
        self.per_image = per_image
        self.random = torch.Generator().manual_seed(seed)
        self.extremes = _Extremes()
        self.samples: list[Tensor] = []

    def __call__(self, x: Tensor) -> None:
        """Add a batch (N, ...)."""
        rows = _rows(x)
        self.extremes.add(rows)
        self.samples.append(_draw(rows, self.per_image, self.random).cpu())

    def skip(self, batches: int) -> None:
        """Leave out batches that another process sees: the places that would be drawn of them."""
        _draw_none(self.per_image, batches, self.random)

    @property
    def images(self) -> int:
        """How many were seen."""
        return sum(map(len, self.samples))

    def statistics(self, images: int | None = None) -> Statistics:
        """Of the first images, as if no other had come; None: of everything seen so far.

        Raises:
            ValueError: nothing was seen, or a value was NaN or infinite.
        """
        if not self.samples:
            raise ValueError("no batch was observed")
        low, high = self.extremes.pair(images)
        sample = torch.cat(self.samples)[:images]
        # in float64: float32 has no room for the bins of a nearly constant tensor
        counts, _ = np.histogram(sample.double().numpy(), bins=BINS, range=(low, high))
        return Statistics(
            low=low,
            high=high,
            counts=counts.astype(np.int64),
            means=sample.mean(1).numpy(),
            deviations=sample.std(1, correction=0).numpy(),
        )


@dataclass(frozen=True)
class Collected:
    """One calibration pass, by module: statistics of inputs, and sampled extremes of outputs."""

    inputs: dict[str, Statistics]
    outputs: dict[str, tuple[float, float]]


class _OutputObserver:
    """Extremes of a seeded sample: enough for ranges that are clipped anyway, and nearly free."""

    def __init__(self, per_image: int, seed: int) -> None:
        self.per_image = per_image
        self.random = torch.Generator().manual_seed(seed)
        self.extremes = _Extremes()

    def __call__(self, x: Tensor) -> None:
        self.extremes.add(_draw(_rows(x), self.per_image, self.random))

    def skip(self, batches: int) -> None:
        _draw_none(self.per_image, batches, self.random)


def _rows(x: Tensor) -> Tensor:
    """(N, ...) -> (N, elements) without a copy."""
    x = x.detach()
    if x.ndim == 4 and x.is_contiguous(memory_format=torch.channels_last):
        x = x.permute(0, 2, 3, 1)
    return x.flatten(1)


def _draw(rows: Tensor, count: int, random: torch.Generator) -> Tensor:
    """(N, count) of each row's elements, at places that are the same for all rows."""
    index = torch.randint(rows.shape[1], (count,), generator=random)
    # rows[:, index] takes three times as long
    return rows.index_select(1, index.to(rows.device)).float()


def _draw_none(count: int, batches: int, random: torch.Generator) -> None:
    """Bring a generator behind the places of so many batches; how many there are makes no odds."""
    torch.randint(2, (batches * count,), generator=random)


@contextlib.contextmanager
def observed(
    modules: Mapping[str, nn.Module],
    inputs: Mapping[str, Callable[[Tensor], None]],
    outputs: Mapping[str, Callable[[Tensor], None]],
) -> Iterator[None]:
    """Feed inputs and outputs of the named modules to observers until the block ends."""
    handles = [
        modules[name].register_forward_pre_hook(lambda _, args, see=see: see(args[0]))
        for name, see in inputs.items()
    ]
    handles += [
        modules[name].register_forward_hook(lambda _, args, output, see=see: see(output))
        for name, see in outputs.items()
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def collect(
    net: nn.Module,
    groups: Sequence[Sequence[str]],
    batches: Iterable[Tensor],
    images: int,
    seed: int = 0,
) -> Collected:
    """Run the float network over `batches` and collect what its convolutions read and write.

    Args:
        net: the network, in eval mode.
        groups: convolutions that read one tensor; it is collected once, under the first name.
        batches: (N, 3, H, W) floats as the network takes them.
        images: how many images the batches hold together; sets the sample of each image.
        seed: of the samples.

    Raises:
        ValueError: no batch came, or a tensor holds NaN or infinite values; names the layer.
    """
    return summed([see(net, groups, enumerate(batches), images, seed)])


@dataclass(frozen=True)
class Seen:
    """What a process saw of batches, by their `numbers`, of which each list has an item a batch.

    `inputs`: extremes (images, 2) and samples (images, elements), by the first convolution that
    reads the tensor; `outputs`: extremes of a sample, by convolution.
    """

    numbers: list[int]
    inputs: dict[str, tuple[list[Tensor], list[Tensor]]]
    outputs: dict[str, list[Tensor]]


def see(
    net: nn.Module,
    groups: Sequence[Sequence[str]],
    batches: Iterable[tuple[int, Tensor]],
    images: int,
    seed: int,
) -> Seen:
    """Run the float network over batches with their numbers; the rest is as for `collect`."""
    per_image = sample_size(images)
    names = [name for group in groups for name in group]
    inputs = {group[0]: Observer(per_image, seed + i) for i, group in enumerate(groups)}
    outputs = {name: _OutputObserver(per_image, seed + i) for i, name in enumerate(names)}
    observers: list[Observer | _OutputObserver] = [*inputs.values(), *outputs.values()]
    numbers: list[int] = []
    with torch.inference_mode(), observed(dict(net.named_modules()), inputs, outputs):
        for number, batch in batches:
            for observer in observers:
                observer.skip(number - (numbers[-1] + 1 if numbers else 0))
            numbers.append(number)
            net(batch)
    return Seen(
        numbers,
        {name: (each.extremes.edges, each.samples) for name, each in inputs.items()},
        {name: each.extremes.edges for name, each in outputs.items()},
    )


def summed(shares: Sequence[Seen]) -> Collected:
    """What `collect` gives of what processes saw together: batch by batch, in their order."""
    order = sorted(
        (number, share, place)
        for share, seen in enumerate(shares)
        for place, number in enumerate(seen.numbers)
    )

    def merged(lists: Sequence[Sequence[T]]) -> list[T]:
        return [lists[share][place] for _, share, place in order]

    found = Collected({}, {})
    for name in shares[0].inputs:
        observer = Observer(0, 0)
        edges, samples = zip(*(seen.inputs[name] for seen in shares), strict=True)
        observer.extremes.edges, observer.samples = merged(edges), merged(samples)
        found.inputs[name] = _named(f"input of {name}", observer.statistics)
    for name in shares[0].outputs:
        extremes = _Extremes()
        extremes.edges = merged([seen.outputs[name] for seen in shares])
        found.outputs[name] = _named(f"output of {name}", extremes.pair)
    return found


def sample_size(images: int) -> int:
    """Elements of one tensor to sample of each of so many images."""
    return min(max(SAMPLE // max(images, 1), 128), 16384)


def _named(tensor: str, read: Callable[[], T]) -> T:
    """What `read` returns; its error names the tensor."""
    try:
        return read()
    except ValueError as error:
        raise ValueError(f"{tensor}: {error}") from None
