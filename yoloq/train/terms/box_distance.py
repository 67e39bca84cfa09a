"""Distance between two raw heads where it counts: at the boxes of which the teacher is sure.

Nearly all cells of a map are background, whose logits outweigh those of the objects in any mean
over the map. Here a place counts by the teacher's own score, and a box by its overlap.
"""

from torch import Tensor
from torch.nn import functional as F

from yoloq.models.heads import Head
from yoloq.train.overlap import Corners, shared_area

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
    objectness = head.objectness(theirs)
    if objectness is None:
        return _in_cells(head, level, ours, theirs).sum()
    return _at_objects(head, level, ours, theirs, objectness).sum()


def _at_objects(head: Head, level: int, ours: Tensor, theirs: Tensor, objectness: Tensor) -> Tensor:
    """The distance of each image (N,); `objectness` are the teacher's logits.

    Where there is no object neither box nor class matter: both count by objectness.
    """
    certainty = objectness.sigmoid()
    found = certainty > BACKGROUND
    image, at = found.nonzero()[:, 0], certainty[found]
    (boxes, classes), (wanted, labels) = (head.places(level, m, found) for m in (ours, theirs))
    weights = at * labels.amax(1).sigmoid()
    moved = weights * (1 - _overlap(boxes, wanted))
    what = at * _divergence(classes, labels).sum(1)
    none = ours.new_zeros(len(ours))
    certain = none.index_add(0, image, weights).clamp(min=1)
    sure = none.index_add(0, image, moved + what)
    own = head.objectness(ours)
    assert own is not None
    return (sure + _divergence(own, objectness).flatten(1).sum(1)) / certain


def _in_cells(head: Head, level: int, ours: Tensor, theirs: Tensor) -> Tensor:
    """The distance of each image (N,), of a head without objectness."""
    (boxes, classes), (wanted, labels) = (head.places(level, m) for m in (ours, theirs))
    # distances below 0 make no box
    weights = labels.amax(1).sigmoid() * (_area(*wanted) > 0)
    moved = (weights * (1 - _overlap(boxes, wanted))).flatten(1).sum(1)
    certain = weights.flatten(1).sum(1).clamp(min=1)
    return (moved + _divergence(classes, labels).flatten(1).sum(1)) / certain


def _divergence(ours: Tensor, theirs: Tensor) -> Tensor:
    """Kullback-Leibler divergence of each probability, from logits."""
    wanted = theirs.sigmoid()
    own = F.binary_cross_entropy_with_logits(theirs, wanted, reduction="none")
    return F.binary_cross_entropy_with_logits(ours, wanted, reduction="none") - own


def _overlap(a: Corners, b: Corners) -> Tensor:
    """IoU (...) of boxes by their corners (2, ...)."""
    shared = shared_area(a, b, 0)
    return shared / (_area(*a) + _area(*b) - shared).clamp(min=LEAST)


def _area(low: Tensor, high: Tensor) -> Tensor:
    return (high - low).clamp(min=0).prod(0)
