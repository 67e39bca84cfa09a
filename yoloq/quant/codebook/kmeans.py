"""k-means of weighted points, for all the tables of a layer at once."""

import torch
from torch import Tensor

ROUNDS = 25  # of Lloyd's algorithm; further ones move nothing that can be measured
AT_ONCE = 2**22  # distances in memory


def kmeans(points: Tensor, weights: Tensor, entries: int, random: torch.Generator) -> Tensor:
    """Centres with the least weighted squared distance to their points, as far as it finds them.

    Lloyd's algorithm from centres drawn one after another, a point the likelier the farther it is
    from those there are (Arthur and Vassilvitskii, k-means++, 2007).

    Args:
        points: (tables, N, dim); each table has its own.
        weights: (tables, N), 0 or more.

    Returns (tables, entries, dim). Where a table has fewer points than entries, some are alike.
    """
    centres = _drawn(points, weights, entries, random)
    for _ in range(ROUNDS):
        centres = _moved(points, weights, centres, nearest(points, centres))
    return centres


def nearest(points: Tensor, centres: Tensor) -> Tensor:
    """Number of the centre (tables, entries, dim) next to each point (tables, N, dim)."""
    step = max(AT_ONCE // (centres.shape[0] * centres.shape[1]), 1)
    parts = [_distances(part, centres).argmin(2) for part in points.split(step, 1)]
    return torch.cat(parts, 1)


def _distances(points: Tensor, centres: Tensor) -> Tensor:
    """Squared, but for each point's own square, (tables, N, entries)."""
    return centres.square().sum(2)[:, None] - 2 * points @ centres.mT


def _drawn(points: Tensor, weights: Tensor, entries: int, random: torch.Generator) -> Tensor:
    tables = torch.arange(len(points), device=points.device)
    found, chance = [], weights
    least = torch.full_like(weights, torch.inf)
    for _ in range(entries):
        chance = chance + (chance.sum(1, keepdim=True) == 0)  # all points lie on centres
        places = torch.multinomial(chance.cpu(), 1, generator=random)[:, 0].to(points.device)
        found.append(points[tables, places])
        least = least.minimum((points - found[-1][:, None]).square().sum(2))
        chance = least * weights
    return torch.stack(found, 1)


def _moved(points: Tensor, weights: Tensor, centres: Tensor, own: Tensor) -> Tensor:
    """Each centre in the middle of its points; one that has none stays."""
    index = own[..., None]
    total = torch.zeros_like(centres[..., :1]).scatter_add_(1, index, weights[..., None])
    sums = torch.zeros_like(centres).scatter_add_(
        1, index.expand_as(points), points * weights[..., None]
    )
    return torch.where(total > 0, sums / total.clamp(min=torch.finfo(total.dtype).tiny), centres)
