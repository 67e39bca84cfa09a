"""What a convolution reads, as sums over patches, and the weights that serve it best.

A convolution is a product of its weights with patches, so its squared error is a quadratic form
in the weights, whose matrix is a sum over patches: a few megabytes, however many images there are.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from yoloq.quant.modules import QuantConv2d
from yoloq.quant.refine.walk import Block

RIDGES = (0.01, 0.1, 1.0, 10.0)  # of the mean of the diagonal; without a fit is tried as well
PATCHES = 4096  # columns of one batch that count
MOST = 2304  # columns that are fitted together: memory grows with their square, time with the cube


@dataclass(frozen=True)
class Moments:
    """Sums over patches (K,): `own` is X X', `cross` is (X_float - X) X', both (K, K)."""

    own: Tensor
    cross: Tensor

    def __add__(self, other: "Moments") -> "Moments":
        return Moments(self.own + other.own, self.cross + other.cross)

    def double(self) -> "Moments":
        """In float64, in which they can be inverted."""
        return Moments(self.own.double(), self.cross.double())

    def ridged(self, ridge: float) -> Tensor:
        """`own` with a part of its mean diagonal added to the diagonal."""
        added = ridge * float(self.own.diagonal().mean()) or 1.0
        return self.own + added * torch.eye(len(self.own)).to(self.own)

    def fit(self, weight: Tensor, ridge: float) -> Tensor:
        """What to add to weights (channels, K), so that they make up for what is read."""
        return torch.linalg.solve(self.ridged(ridge), weight @ self.cross, left=False)

    def gain(self, weight: Tensor, added: Tensor) -> float:
        """By how much adding to the weights lowers the squared error on these patches."""
        return float(2 * (added * (weight @ self.cross)).sum() - (added @ self.own * added).sum())


def grouped(conv: nn.Conv2d) -> Tensor:
    """A copy of the weights as (groups, channels a group, K)."""
    return conv.weight.detach().flatten(1).unflatten(0, (conv.groups, -1)).double()


def parts_of(conv: nn.Conv2d) -> list[tuple[int, slice]]:
    """A convolution's groups of channels, and runs of columns that are fitted together."""
    size = conv.weight[0].numel()
    runs = [slice(start, min(start + MOST, size)) for start in range(0, size, MOST)]
    return [(group, run) for group in range(conv.groups) for run in runs]


def moments_of(
    block: Block, name: str, conv: nn.Conv2d, with_bias: bool = False
) -> list[tuple[Moments, Moments]]:
    """Of each part: one for every other image, one for those between.

    With the bias a patch has a one behind its columns.
    """
    parts = parts_of(conv)
    found = [(nothing := _nothing(conv, run, with_bias), nothing) for _, run in parts]
    for call, weights in zip(block.calls(name), block.weights.of(name), strict=True):
        with torch.no_grad():
            read = conv.input_quantizer(call.read) if isinstance(conv, QuantConv2d) else call.read
            halves = [
                _sampled(
                    block, conv, with_bias, *(x[half::2] for x in (call.reference, read, weights))
                )
                for half in (0, 1)
            ]
        found = [(a + x, b + y) for (a, b), x, y in zip(found, *halves, strict=True)]
    return found


def _nothing(conv: nn.Conv2d, run: slice, with_bias: bool) -> Moments:
    size = run.stop - run.start + with_bias
    zero = torch.zeros(size, size, device=conv.weight.device)
    return Moments(zero, zero)


def _sampled(
    block: Block,
    conv: nn.Conv2d,
    with_bias: bool,
    reference: Tensor,
    read: Tensor,
    weights: Tensor,
) -> list[Moments]:
    """Moments of some images' patches at places drawn by their weights, of each part."""
    if not len(read):
        return [_nothing(conv, run, with_bias) for _, run in parts_of(conv)]
    ours, theirs = _patches(conv, read), _patches(conv, reference)
    places = drawn(weights, min(PATCHES // 2, weights.numel()), block.random).to(ours.device)
    ours, theirs = ours[..., places], theirs[..., places]
    found = []
    for group, run in parts_of(conv):
        x, y = (patches[group, run] for patches in (ours, theirs))
        if with_bias:
            x, y = (functional.pad(part, (0, 0, 0, 1), value=1.0) for part in (x, y))
        found.append(Moments(x @ x.T, (y - x) @ x.T))
    return found


def drawn(weights: Tensor, count: int, random: torch.Generator) -> Tensor:
    """Places (count,) drawn by their weights, any of them again and again.

    torch.multinomial stops at 2^24 places, which four images of 8,192 pixels have.
    """
    sums = weights.flatten().double().cpu().cumsum(0)
    at = torch.rand(count, generator=random, dtype=torch.float64) * sums[-1]
    return torch.searchsorted(sums, at, right=True).clamp_(max=len(sums) - 1)


def _patches(conv: nn.Conv2d, x: Tensor) -> Tensor:
    """What each output place reads, (groups, channels a group * kernel, N * places)."""
    height, width = conv.kernel_size
    columns = functional.unfold(
        _padded(conv, x), (height, width), dilation=conv.dilation, stride=conv.stride
    )
    count, rows, places = columns.shape
    by_group = columns.view(count, conv.groups, rows // conv.groups, places)
    return by_group.permute(1, 2, 0, 3).flatten(2)


def _padded(conv: nn.Conv2d, x: Tensor) -> Tensor:
    pads = conv._reversed_padding_repeated_twice
    mode = "constant" if conv.padding_mode == "zeros" else conv.padding_mode
    return functional.pad(x, list(pads), mode=mode)


def fitted(
    weight: Tensor, first: Moments, second: Moments, ridges: Sequence[float] = RIDGES
) -> Tensor:
    """Weights (channels, K) that make up for errors of what they read, as far as that is sure.

    Least squares with a ridge, of which half of the images choose the one that serves the other
    half best: with few images, or where there is nothing to make up for, the weights stay.

    Args:
        first, second: of two halves of the images; each judges what the other fits.
        ridges: of the mean of the diagonal.
    """
    gains = {
        ridge: second.gain(weight, first.fit(weight, ridge))
        + first.gain(weight, second.fit(weight, ridge))
        for ridge in ridges
    }
    best = max(gains, key=lambda ridge: gains[ridge])
    if gains[best] <= 0:
        return weight
    return weight + (first + second).fit(weight, best)
