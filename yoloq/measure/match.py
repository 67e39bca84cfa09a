"""COCO's matching of detections to ground truth at ten IoU thresholds, as flat arrays.

The rule is that of COCO's `evaluateImg`: by falling score, each detection takes the free box of its
image and class with the highest IoU at or above the threshold; one that finds none but lies in a
crowd region is ignored. The tests compare the flags with those of pycocotools.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from yoloq.geometry.boxes import area, overlap, ratio
from yoloq.geometry.detections import Detections, Floats, GroundTruth, Ints

IOU_THRESHOLDS = np.linspace(0.5, 0.95, 10)
MAX_DETS = 100  # best detections of an image and class that COCO counts

Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class Matches:
    """Detections sorted by class, then by falling score, and what each of them matched.

    `image` (n,) is the image of a detection, `matched` (10, n) whether it is a true positive at
    each IoU threshold, `ignored` (10, n) whether it does not count. Class c has the detections
    `starts[c]` to `starts[c + 1]`. `truths` (images, nc) counts the boxes to be found.
    """

    images: int
    nc: int
    image: Ints
    matched: Bools
    ignored: Bools
    starts: Ints
    truths: Ints


def match(truth: GroundTruth, detections: Detections, nc: int) -> Matches:
    """Match detections to ground truth of the same images.

    Raises:
        ValueError: the two are not about the same number of images.
    """
    if truth.images != detections.images:
        raise ValueError(f"truth of {truth.images} images, detections of {detections.images}")
    order, matched, ignored = _match_groups(truth, detections, nc)
    # COCO merges an image's sorted detections in the order of the images, and sorts them stably
    rank = np.lexsort((-detections.scores[order], detections.classes[order]))
    order = order[rank]
    real = ~truth.crowd
    truths = np.bincount(truth.image[real] * nc + truth.classes[real], minlength=truth.images * nc)
    return Matches(
        images=truth.images,
        nc=nc,
        image=detections.image[order],
        matched=matched[:, rank],
        ignored=ignored[:, rank],
        starts=np.searchsorted(detections.classes[order], np.arange(nc + 1)),
        truths=truths.reshape(truth.images, nc),
    )


def _match_groups(truth: GroundTruth, detections: Detections, nc: int) -> tuple[Ints, Bools, Bools]:
    """Detections that count, by image, class and falling score, and their two kinds of flags."""
    keys = detections.image * nc + detections.classes
    order = np.lexsort((-detections.scores, keys))
    order = order[_rank_in_group(keys[order]) < MAX_DETS]
    keys = keys[order]
    matched = np.zeros((len(IOU_THRESHOLDS), len(order)), dtype=bool)
    ignored = np.zeros_like(matched)
    for key, boxes in _groups(truth.image * nc + truth.classes):
        here = slice(*np.searchsorted(keys, (key, key + 1)))
        if here.start < here.stop:
            iou = _iou(detections.boxes[order[here]], truth.boxes[boxes], truth.crowd[boxes])
            matched[:, here], ignored[:, here] = _match_one(iou, truth.crowd[boxes])
    return order, matched, ignored


def _match_one(iou: NDArray[np.float64], crowd: Bools) -> tuple[Bools, Bools]:
    """Flags (10, n) of the n detections of one image and class; `iou` is (n, boxes)."""
    levels = np.arange(len(IOU_THRESHOLDS))
    real, regions = iou[:, ~crowd], iou[:, crowd]
    matched = np.zeros((len(levels), len(iou)), dtype=bool)
    taken = np.zeros((len(levels), real.shape[1]), dtype=bool)
    for index in np.flatnonzero(real.max(1, initial=0) >= IOU_THRESHOLDS[0]):
        free = np.where(taken, -1.0, real[index])
        best = real.shape[1] - 1 - free[:, ::-1].argmax(1)  # of equal boxes COCO takes the last
        hit = free[levels, best] >= IOU_THRESHOLDS
        matched[:, index] = hit
        taken[levels[hit], best[hit]] = True
    in_crowd = regions.max(1, initial=0) >= IOU_THRESHOLDS[:, None]
    return matched, in_crowd & ~matched


def _iou(boxes: Floats, truth: Floats, crowd: Bools) -> NDArray[np.float64]:
    """(n, m) IoU in float64 as COCO computes it; in a crowd, the share of the detection inside."""
    a, b = boxes.astype(np.float64)[:, None], truth.astype(np.float64)[None]
    shared, union = overlap(a, b)
    return ratio(shared, np.where(crowd, area(a), union))


def _rank_in_group(keys: Ints) -> Ints:
    """Position of each element in its run of equal keys; `keys` is sorted."""
    return np.arange(len(keys)) - np.searchsorted(keys, keys)


def _groups(keys: Ints) -> Iterator[tuple[int, Ints]]:
    """Each key and the positions that hold it, in their order."""
    order = np.argsort(keys, kind="stable")
    values, starts = np.unique(keys[order], return_index=True)
    yield from zip(values.tolist(), np.split(order, starts[1:]), strict=False)
