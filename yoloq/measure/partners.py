"""Which boxes of two models on one image are the same object."""

import numpy as np

from yoloq.geometry.boxes import iou
from yoloq.geometry.detections import Ints
from yoloq.models.heads.decode import Candidates, Floats

SAME = 0.5  # least IoU of two boxes that are the same object


def partners(first: Candidates, second: Candidates) -> Ints:
    """Positions (n, 2) of the boxes of one image that are the same in both.

    They have one class and an IoU of `SAME` or more; the pairs that overlap most are made first,
    and no box is in two.
    """
    alike = iou(first.boxes[:, None], second.boxes[None])
    alike *= first.classes[:, None] == second.classes[None]
    return np.array(paired(alike), dtype=np.int64).reshape(-1, 2)


def paired(alike: Floats) -> list[tuple[int, int]]:
    """Row and column of each pair, the most alike first, every row and column once at most."""
    left, pairs = alike.copy(), []
    while left.size and left.max() >= SAME:
        row, column = divmod(int(left.argmax()), left.shape[1])
        pairs.append((row, column))
        left[row, :], left[:, column] = 0, 0
    return pairs
