"""How much an error in the values of a tensor moves the boxes that are found.

Most of an image is background: a range with the least mean error over a tensor is one that suits
the background, and clips the large values by which objects stand out. So an error is weighted by
its influence: the squared gradient of boxes and scores at the places where a box is found, with
respect to the value. With signs drawn at random for each of those, one backward pass an image
estimates the diagonal of J'J (Hutchinson, 1990; J of all boxes and scores by the tensor).
"""

import contextlib
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from yoloq.models.heads import Head

CONF = 0.25  # of the boxes that count
COUNTED, SHARE = 1024, 0.125  # places of a map that count at least, and their share of a large one


class _Weighted:
    """Histogram of a tensor's values, each counted by its squared gradient.

    Of large maps the places with most of it count: nearly all is where objects are, and to bin the
    rest takes longer than the passes.
    """

    def __init__(self, low: float, high: float, bins: int) -> None:
        self.low, self.bins = low, bins
        self.width = (high - low) / bins or 1.0
        self.counts = np.zeros(bins)

    def watch(self, x: Tensor) -> None:
        """Count `x` when its gradient comes."""
        if x.requires_grad:
            x.register_hook(lambda gradient: self._add(x.detach(), gradient.detach()))

    def _add(self, x: Tensor, gradient: Tensor) -> None:
        weights = gradient.square().flatten(2)
        count = weights.shape[2]
        most = min(count, max(COUNTED, int(SHARE * count)))
        at = weights.sum(1, keepdim=True).topk(most).indices
        at = at.expand(-1, x.shape[1], -1)
        values, weights = x.flatten(2).gather(2, at), weights.gather(2, at).double()
        places = ((values - self.low) / self.width).long().clamp_(0, self.bins - 1)
        found = torch.bincount(places.flatten().cpu(), weights.flatten().cpu(), self.bins)
        self.counts += found.numpy()


def influence(
    net: nn.Module,
    head: Head,
    edges: Mapping[str, tuple[float, float]],
    batches: Iterable[Tensor],
    bins: int,
    seed: int = 0,
) -> dict[str, NDArray[np.float64]]:
    """Histograms (bins,) of the inputs of convolutions, each value counted by its influence.

    Args:
        net: the float network, in eval mode.
        head: of its raw maps.
        edges: (low, high) of the tensor that each convolution reads: the ends of its histogram.
        batches: (N, 3, H, W) floats as the network takes them.
        seed: of the signs.
    """
    seen = {name: _Weighted(low, high, bins) for name, (low, high) in edges.items()}
    random = torch.Generator().manual_seed(seed)
    with _watched(net, seen), torch.inference_mode(False), torch.enable_grad():
        for batch in batches:
            values = found(head, net(batch.clone().requires_grad_()))
            if len(values):
                signed(values, random).backward()
    return {name: weighted.counts for name, weighted in seen.items()}


def signed(values: Tensor, random: torch.Generator) -> Tensor:
    """Their sum, each with a sign drawn at random: what one backward pass starts from."""
    signs = torch.randint(0, 2, values.shape, generator=random) * 2 - 1
    return (values * signs.to(values)).sum()


@contextlib.contextmanager
def _watched(net: nn.Module, seen: Mapping[str, _Weighted]) -> Iterator[None]:
    """Watch inputs; parameters want no gradient meanwhile."""
    handles = [
        net.get_submodule(name).register_forward_pre_hook(lambda _, args, to=to: to.watch(args[0]))
        for name, to in seen.items()
    ]
    try:
        with at_rest(net):
            yield
    finally:
        for handle in handles:
            handle.remove()


@contextlib.contextmanager
def at_rest(net: nn.Module) -> Iterator[None]:
    """Parameters want no gradient until the block ends."""
    before = [(parameter, parameter.requires_grad) for parameter in net.parameters()]
    net.requires_grad_(False)
    try:
        yield
    finally:
        for parameter, wanted in before:
            parameter.requires_grad_(wanted)


def found(head: Head, raws: Sequence[Tensor]) -> Tensor:
    """Boxes and scores (n, 5) wherever a score is `CONF` or more, with their gradient.

    A corner is in parts of the box's own size, so that the sum of the squares of their errors is
    about that of 1 - IoU, as `measure/places.py` adds it to that of the scores.
    """
    parts = [_found(head, level, raw) for level, raw in enumerate(raws)]
    return torch.cat(parts)


def _found(head: Head, level: int, raw: Tensor) -> Tensor:
    (low, high), classes = head.places(level, raw)
    low, high = low.reshape(2, -1), high.reshape(2, -1)
    scores = classes.movedim(1, -1).reshape(-1, classes.shape[1]).sigmoid().amax(1)
    objectness = head.objectness(raw)
    if objectness is not None:
        scores = scores * objectness.flatten().sigmoid()
    at = scores >= CONF
    corners = torch.cat((low, high))[:, at]
    size = (high - low)[:, at].detach().clamp(min=1e-3)
    return torch.cat((corners / torch.cat((size, size)), scores[None, at])).T
