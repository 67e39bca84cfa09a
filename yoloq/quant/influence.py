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

from yoloq.base.ranks import WHOLE, Share, in_turn
from yoloq.models.heads import Head

CONF = 0.25  # of the boxes that count
COUNTED, SHARE = 1024, 0.125  # places of a map that count at least, and their share of a large one
SIGNED = 5  # numbers that a value is: four corners, and the score


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

    def take(self) -> NDArray[np.float64]:
        """What was counted since the last time."""
        taken, self.counts = self.counts, np.zeros(self.bins)
        return taken


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
    return added([weigh(WHOLE, net, head, edges, batches, bins, seed)])


Counts = dict[str, NDArray[np.float64]]


def weigh(
    share: Share,
    net: nn.Module,
    head: Head,
    edges: Mapping[str, tuple[float, float]],
    batches: Iterable[Tensor | None],
    bins: int,
    seed: int = 0,
) -> list[Counts]:
    """The same of each of a process's share of the batches; None: another has the last of a round.

    The processes tell each other how many signs their batches need: each value has the one that it
    has in one process.
    """
    seen = {name: _Weighted(low, high, bins) for name, (low, high) in edges.items()}
    random, parts = torch.Generator().manual_seed(seed), []
    with _watched(net, seen), torch.inference_mode(False), torch.enable_grad():
        for batch in batches:
            values = torch.zeros(0, SIGNED)
            if batch is not None:
                values = found(head, net(batch.clone().requires_grad_()))
            counts = share.tell(len(values))
            _draw(sum(counts[: share.rank]), random)
            if len(values):
                signed(values, random).backward()
            _draw(sum(counts[share.rank + 1 :]), random)
            parts.append({name: weighted.take() for name, weighted in seen.items()})
    return parts


def added(shares: Sequence[Sequence[Counts]]) -> Counts:
    """The sum of what `weigh` gave in each process, in the order of the batches."""
    first, *others = in_turn(shares)
    for part in others:
        for name, counts in part.items():
            first[name] += counts
    return first


def _draw(values: int, random: torch.Generator) -> None:
    """Bring a generator behind the signs of values that another process has."""
    torch.randint(0, 2, (values, SIGNED), generator=random)


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
