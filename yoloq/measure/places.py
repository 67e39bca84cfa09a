"""Raw maps of two networks compared box by box, at the same place of the same map.

A map is mostly background, and its largest numbers say nothing there: what counts are the places
at which a box is found. No NMS is needed, so that the figure moves smoothly with an error.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from yoloq.geometry.boxes import iou
from yoloq.models.heads import Head

CONF = 0.25  # of the boxes that are compared

Raws = Sequence[NDArray[np.float32]]
Floats = NDArray[Any]


def level_differences(
    head: Head, level: int, reference: Raws, other: Raws
) -> tuple[Floats, Floats]:
    """IoU of the boxes that score `CONF` or more in the reference, and differences of scores.

    A box is compared with the one at the same anchor and cell, whatever its score: the reference's
    score channels are put in place of the other's before it is decoded.

    Args:
        reference, other: raw maps (N, C, H, W) of the same images.

    Returns:
        (boxes,) and, of the scores that are `CONF` or more in either, (scores,).
    """
    swapped = other[level].copy()
    swapped[:, ~head.box_channels(level)] = reference[level][:, ~head.box_channels(level)]
    boxes = _boxes(head, level, reference, reference[level])
    ious = iou(boxes, _boxes(head, level, reference, swapped))
    ours, theirs = (np.nan_to_num(head.scores(raws[level])) for raws in (reference, other))
    return ious, np.abs(ours - theirs)[np.maximum(ours, theirs) >= CONF]


def _boxes(head: Head, level: int, like: Raws, raw: NDArray[np.float32]) -> Floats:
    """Boxes (n, 4) of one level's map alone, in the order of its cells."""
    maps = [np.full_like(each, -1e4) for each in like]
    maps[level] = raw
    return np.concatenate([item.boxes for item in head.decode(maps, CONF)])


class PlaceError:
    """Adds up how far boxes and scores are off, batch by batch."""

    def __init__(self, head: Head) -> None:
        self.head = head
        self.moved: list[Floats] = []
        self.scores: list[Floats] = []

    def add(self, reference: Raws, other: Raws) -> None:
        """Add a batch of raw maps."""
        for level in range(len(self.head.strides)):
            ious, apart = level_differences(self.head, level, reference, other)
            self.moved.append(1 - ious)
            self.scores.append(apart)

    def include(self, other: "PlaceError") -> None:
        """Add the batches of another sum, which come behind those of this one."""
        self.moved += other.moved
        self.scores += other.scores

    @property
    def power(self) -> float:
        """Mean square of 1 - IoU plus that of the differences of scores; 0 where no box is.

        Independent errors add up in it.
        """
        parts = (np.concatenate(part) for part in (self.moved, self.scores) if part)
        return float(sum(np.mean(np.square(part)) for part in parts if len(part)))
