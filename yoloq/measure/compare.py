"""Layer by layer, one network against its reference on the same images."""

import contextlib
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from yoloq.models.layered import IMAGE, LayeredNet

LOW_COSINE = 0.99
LOW_SNR = 20.0  # dB: the error has a tenth of the signal's amplitude
SNR_LIMIT = 150.0  # dB; float32 holds 24 bits, 144 dB: beyond that two tensors are the same
PART = 1 << 16  # elements that are summed in float32 without loss worth mentioning
SAMPLED = 4096  # elements of one call whose relative errors are kept
NEGLIGIBLE = 0.01  # of the reference's RMS: relative errors of smaller elements say nothing


@dataclass(frozen=True)
class LayerError:
    """How far one tensor is from its reference, over all images.

    `layer` is a convolution (its output before the activation) or a block. `cosine` and `snr`
    (signal to noise, dB, within +-150) are over the elements that are finite in both; `relative` is
    the median of |error| / |reference| over a sample, without elements whose reference is below a
    hundredth of its RMS. `nan` and `inf` count elements of the tensor itself, `reference_bad` those
    of the reference that are NaN or infinite.
    """

    layer: str
    cosine: float
    snr: float
    relative: float
    nan: int = 0
    inf: int = 0
    reference_bad: int = 0

    @property
    def bad(self) -> int:
        """Elements that are NaN or infinite on either side."""
        return self.nan + self.inf + self.reference_bad


class ErrorSum:
    """Adds up the difference of one tensor from its reference, part by part."""

    def __init__(self, layer: str, seed: int = 0) -> None:
        self.layer = layer
        self.random = torch.Generator().manual_seed(seed)
        self.signal = self.other = self.noise = 0.0  # sums of squares
        self.nan = self.inf = self.reference_bad = self.finite = 0
        self.relative: list[Tensor] = []

    def add(self, reference: Tensor, other: Tensor) -> None:
        """Add a part; both of one shape, floats."""
        reference, other = _flat(reference.detach(), other.detach())
        if not bool(torch.isfinite(reference.sum() + other.sum())):
            reference, other = self._finite(reference, other)
        difference = other - reference
        self.finite += len(difference)
        self.signal += squares(reference)
        self.other += squares(other)
        self.noise += squares(difference)
        self._sample(reference, difference)

    def include(self, other: "ErrorSum") -> None:
        """Add the parts of another sum, which come behind those of this one."""
        for name in ("signal", "other", "noise", "nan", "inf", "reference_bad", "finite"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.relative += other.relative

    def _finite(self, reference: Tensor, other: Tensor) -> tuple[Tensor, Tensor]:
        """Count what is not finite, and leave it out."""
        self.nan += int(other.isnan().sum())
        self.inf += int(other.isinf().sum())
        self.reference_bad += int((~reference.isfinite()).sum())
        good = reference.isfinite() & other.isfinite()
        return reference[good], other[good]

    def _sample(self, reference: Tensor, difference: Tensor) -> None:
        if not len(reference):
            return
        index = torch.randint(len(reference), (SAMPLED,), generator=self.random)
        index = index.to(reference.device)
        size = reference[index].abs()
        kept = size > NEGLIGIBLE * (squares(reference) / len(reference)) ** 0.5
        self.relative.append((difference[index].abs()[kept] / size[kept]).cpu())

    def error(self) -> LayerError:
        """The figures of all parts; two zero tensors are alike, where nothing is finite none is."""
        ratios = torch.cat(self.relative) if self.relative else torch.zeros(0)
        alike = cosine(self.signal, self.other, self.noise) if self.finite else 0.0
        return LayerError(
            self.layer,
            alike,
            decibels(self.signal, self.noise) if self.finite else -SNR_LIMIT,
            float(ratios.median()) if len(ratios) else 0.0,
            self.nan,
            self.inf,
            self.reference_bad,
        )


def squares(x: Tensor) -> float:
    """Sum of squares: parts in float32, their sum in float64."""
    return sum(float(torch.dot(part, part)) for part in _flat(x)[0].split(PART))


def _flat(*tensors: Tensor) -> list[Tensor]:
    """Each as one row, all in one order; without a copy where all have their channels last."""
    last = torch.channels_last
    if all(x.ndim == 4 and x.is_contiguous(memory_format=last) for x in tensors):
        tensors = tuple(x.permute(0, 2, 3, 1) for x in tensors)
    return [x.reshape(-1) for x in tensors]


def cosine(first: float, second: float, difference: float) -> float:
    """Cosine similarity of two vectors from the squared lengths of both and of their difference.

    1 for two zero vectors, 0 where only one is zero.
    """
    if not first or not second:
        return float(first == second)
    product = (first + second - difference) / 2
    return float(product / (first**0.5 * second**0.5))


def decibels(signal: float, noise: float) -> float:
    """Signal-to-noise ratio in dB of two sums of squares, within +-150.

    150 without noise, -150 where one is NaN or infinite.
    """
    if not (math.isfinite(signal) and math.isfinite(noise)):
        return -SNR_LIMIT
    if not noise:
        return SNR_LIMIT
    if not signal:
        return -SNR_LIMIT
    ratio = 10 * (math.log10(signal) - math.log10(noise))
    return max(-SNR_LIMIT, min(SNR_LIMIT, ratio))


def compare(
    reference: LayeredNet, other: LayeredNet, batches: Iterable[Tensor], seed: int = 0
) -> list[LayerError]:
    """Errors of every convolution's and every block's output, in forward order.

    Both networks run block by block in step, so that no more than the outputs of one block are
    kept of a batch.

    Args:
        reference: the float network.
        other: the quantized network, of the same blocks.
        batches: (N, 3, H, W) floats as the networks take them.
        seed: of the samples for the relative errors.

    Raises:
        ValueError: no batch came.
    """
    sums: dict[str, ErrorSum] = {}
    kept: dict[str, list[Tensor]] = {}

    def keep(name: str, maps: list[Tensor]) -> None:
        kept[name] = [x.clone() for x in maps]  # an activation in place would write into them

    def hold(name: str, maps: list[Tensor]) -> None:
        total = sums.setdefault(name, ErrorSum(name, seed + len(sums)))
        for expected, found in zip(kept.pop(name), maps, strict=True):
            total.add(expected, found)

    with torch.inference_mode(), _watched(reference, keep), _watched(other, hold):
        for batch in batches:
            states = [{IMAGE: batch}, {IMAGE: batch}]
            for block in range(len(reference.model)):
                for index, net in enumerate((reference, other)):
                    states[index] = net.advance(states[index], block, block + 1)
    if not sums:
        raise ValueError("no batch was compared")
    return [total.error() for total in sums.values()]


@contextlib.contextmanager
def _watched(net: LayeredNet, see: Callable[[str, list[Tensor]], None]) -> Iterator[None]:
    """Show the outputs of convolutions and blocks to `see` until the block ends."""
    handles = [
        module.register_forward_hook(lambda _, args, y, name=name: see(name, _maps(y)))
        for name, module in watched_modules(net).items()
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def watched_modules(net: LayeredNet) -> Mapping[str, nn.Module]:
    """Convolutions and blocks by name; a block that is nothing but a convolution once."""
    blocks = {f"model.{index}": block for index, block in enumerate(net.model)}
    convs = {name: m for name, m in net.named_modules() if isinstance(m, nn.Conv2d)}
    return blocks | convs


def _maps(output: Any) -> list[Tensor]:
    return [output] if isinstance(output, Tensor) else list(output)


def first_below(
    errors: Sequence[LayerError], cosine: float = LOW_COSINE, snr: float = LOW_SNR
) -> dict[str, str | None]:
    """First layer in forward order below each threshold: errors of the later ones build on it."""
    return {
        "cosine": next((e.layer for e in errors if e.cosine < cosine), None),
        "snr": next((e.layer for e in errors if e.snr < snr), None),
        "finite": next((e.layer for e in errors if e.bad), None),
    }
