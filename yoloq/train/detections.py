"""Distance between two raw heads where it counts: at the boxes of which the teacher is sure.

Nearly all cells of a map are background, whose logits outweigh those of the objects in any mean
over the map. Here a place counts by the teacher's own score, and a box by its overlap.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from ..models.heads import AnchorHead, DflHead, Head

LEAST = 1e-9  # area of a union, in cells


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
        divergence, weights = _anchor_scores(ours, theirs, head)
        boxes = [_anchor_corners(raw, head, level) for raw in (ours, theirs)]
    else:
        assert isinstance(head, DflHead)
        divergence, weights = _cell_scores(ours, theirs, head)
        boxes = [_cell_corners(raw, head) for raw in (ours, theirs)]
    weights = weights * (_area(*boxes[1]) > 0)  # distances below 0 make no box
    moved = (weights * (1 - _overlap(*boxes))).flatten(1).sum(1)
    certain = weights.flatten(1).sum(1).clamp(min=1)
    return ((moved + divergence) / certain).sum()


def _anchor_scores(ours: Tensor, theirs: Tensor, head: AnchorHead) -> tuple[Tensor, Tensor]:
    """Divergence (N,) and the teacher's scores (N, anchors, H, W).

    Where there is no object the class does not matter: its divergence counts by objectness.
    """
    a, b = (raw.unflatten(1, (-1, 5 + head.nc)) for raw in (ours, theirs))
    objectness = b[:, :, 4].sigmoid()
    classes = _divergence(a[:, :, 5:], b[:, :, 5:]).sum(2) * objectness
    found = _divergence(a[:, :, 4], b[:, :, 4]) + classes
    return found.flatten(1).sum(1), objectness * b[:, :, 5:].amax(2).sigmoid()


def _cell_scores(ours: Tensor, theirs: Tensor, head: DflHead) -> tuple[Tensor, Tensor]:
    """Divergence (N,) and the teacher's scores (N, H, W)."""
    a, b = (raw[:, 4 * head.reg_max :] for raw in (ours, theirs))
    return _divergence(a, b).flatten(1).sum(1), b.amax(1).sigmoid()


def _divergence(ours: Tensor, theirs: Tensor) -> Tensor:
    """Kullback-Leibler divergence of each probability, from logits."""
    wanted = theirs.sigmoid()
    own = F.binary_cross_entropy_with_logits(theirs, wanted, reduction="none")
    return F.binary_cross_entropy_with_logits(ours, wanted, reduction="none") - own


def _anchor_corners(raw: Tensor, head: AnchorHead, level: int) -> tuple[Tensor, Tensor]:
    """Corners (N, anchors, 2, H, W) in cells from the cell's own (`AnchorHead.decode`)."""
    doubled = 2 * raw.unflatten(1, (-1, 5 + head.nc))[:, :, :4].sigmoid()
    anchors = torch.tensor(head.anchors[level], device=raw.device) / head.strides[level]
    centre = doubled[:, :, :2] - 0.5
    half = doubled[:, :, 2:] ** 2 * anchors[..., None, None] / 2
    return centre - half, centre + half


def _cell_corners(raw: Tensor, head: DflHead) -> tuple[Tensor, Tensor]:
    """Corners (N, 2, H, W) in cells from the cell's centre (`DflHead.decode`)."""
    sides = raw[:, : 4 * head.reg_max].unflatten(1, (4, head.reg_max))
    bins = torch.arange(head.reg_max, dtype=raw.dtype, device=raw.device).view(-1, 1, 1)
    distances = (sides.softmax(2) * bins).sum(2) if head.reg_max > 1 else sides[:, :, 0]
    return -distances[:, :2], distances[:, 2:]


def _overlap(a: tuple[Tensor, Tensor], b: tuple[Tensor, Tensor]) -> Tensor:
    """IoU (...) of boxes by their corners (..., 2, H, W)."""
    shared = (torch.minimum(a[1], b[1]) - torch.maximum(a[0], b[0])).clamp(min=0).prod(-3)
    return shared / (_area(*a) + _area(*b) - shared).clamp(min=LEAST)


def _area(low: Tensor, high: Tensor) -> Tensor:
    return (high - low).clamp(min=0).prod(-3)
