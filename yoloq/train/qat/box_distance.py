"""Distance between two raw heads where it counts: at the boxes of which the teacher is sure.

Nearly all cells of a map are background, whose logits outweigh those of the objects in any mean
over the map. Here a place counts by the teacher's own score, and a box by its overlap.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from yoloq.models.heads import AnchorHead, DflHead, Head

LEAST = 1e-9  # area of a union, in cells
BACKGROUND = 1e-3  # objectness; below it nothing is compared: on photographs 19 places of 20


def detection_distance(head: Head, level: int, ours: Tensor, theirs: Tensor) -> Tensor:
    """1 - IoU of the boxes plus the divergence of the scores, summed over images (N, ...).

    In each image both are sums over the places, the boxes' weighted by the teacher's scores, over
    the sum of those scores (1 at least); 0 when the maps are equal.

    Args:
        head: of both maps.
        level: index of the map.
        ours, theirs: raw maps (N, C, H, W); the gradient goes into the first alone.
    """
    ours, theirs = ours.float(), theirs.detach().float()
    if isinstance(head, AnchorHead):
        return _at_anchors(head, level, ours, theirs).sum()
    assert isinstance(head, DflHead)
    return _in_cells(head, ours, theirs).sum()


def _at_anchors(head: AnchorHead, level: int, ours: Tensor, theirs: Tensor) -> Tensor:
    """The distance of each image (N,).

    Where there is no object neither box nor class matter: both count by objectness.
    """
    maps = [raw.unflatten(1, (-1, 5 + head.nc)) for raw in (ours, theirs)]
    objectness = maps[1][:, :, 4].sigmoid()
    found = objectness > BACKGROUND
    image, anchor = found.nonzero()[:, :2].T
    a, b = (raw.movedim(2, -1)[found] for raw in maps)  # (places, 5 + nc)
    sizes = torch.tensor(head.anchors[level], device=ours.device)[anchor] / head.strides[level]
    weights = objectness[found] * b[:, 5:].amax(1).sigmoid()
    moved = weights * (1 - _overlap(_anchor_corners(a, sizes), _anchor_corners(b, sizes)))
    classes = objectness[found] * _divergence(a[:, 5:], b[:, 5:]).sum(1)
    none = ours.new_zeros(len(ours))
    certain = none.index_add(0, image, weights).clamp(min=1)
    sure = none.index_add(0, image, moved + classes)
    return (sure + _divergence(*(raw[:, :, 4] for raw in maps)).flatten(1).sum(1)) / certain


def _in_cells(head: DflHead, ours: Tensor, theirs: Tensor) -> Tensor:
    """The distance of each image (N,)."""
    a, b = (raw[:, 4 * head.reg_max :] for raw in (ours, theirs))
    boxes = [_cell_corners(raw, head) for raw in (ours, theirs)]
    # distances below 0 make no box
    weights = b.amax(1).sigmoid() * (_area(*boxes[1]) > 0)
    moved = (weights * (1 - _overlap(*boxes))).flatten(1).sum(1)
    certain = weights.flatten(1).sum(1).clamp(min=1)
    return (moved + _divergence(a, b).flatten(1).sum(1)) / certain


def _divergence(ours: Tensor, theirs: Tensor) -> Tensor:
    """Kullback-Leibler divergence of each probability, from logits."""
    wanted = theirs.sigmoid()
    own = F.binary_cross_entropy_with_logits(theirs, wanted, reduction="none")
    return F.binary_cross_entropy_with_logits(ours, wanted, reduction="none") - own


def _anchor_corners(rows: Tensor, sizes: Tensor) -> tuple[Tensor, Tensor]:
    """Corners (2, places) in cells from the cell's own (`AnchorHead.decode`)."""
    doubled = 2 * rows[:, :4].sigmoid()
    centre, half = doubled[:, :2] - 0.5, doubled[:, 2:] ** 2 * sizes / 2
    return (centre - half).T, (centre + half).T


def _cell_corners(raw: Tensor, head: DflHead) -> tuple[Tensor, Tensor]:
    """Corners (2, N, H, W) in cells from the cell's centre (`DflHead.decode`)."""
    sides = raw[:, : 4 * head.reg_max].unflatten(1, (4, head.reg_max))
    bins = torch.arange(head.reg_max, dtype=raw.dtype, device=raw.device).view(-1, 1, 1)
    distances = (sides.softmax(2) * bins).sum(2) if head.reg_max > 1 else sides[:, :, 0]
    return -distances[:, :2].movedim(1, 0), distances[:, 2:].movedim(1, 0)


def _overlap(a: tuple[Tensor, Tensor], b: tuple[Tensor, Tensor]) -> Tensor:
    """IoU (...) of boxes by their corners (2, ...)."""
    shared = (torch.minimum(a[1], b[1]) - torch.maximum(a[0], b[0])).clamp(min=0).prod(0)
    return shared / (_area(*a) + _area(*b) - shared).clamp(min=LEAST)


def _area(low: Tensor, high: Tensor) -> Tensor:
    return (high - low).clamp(min=0).prod(0)
