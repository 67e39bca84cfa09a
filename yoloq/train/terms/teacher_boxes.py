"""The teacher's detections as labels, for a loss on labels where there are none."""

import numpy as np
import torch
from torch import Tensor

from yoloq.geometry.nms import nms
from yoloq.models.heads import Head
from yoloq.models.heads.decode import Candidates, Floats
from yoloq.train.terms.objective import Seen
from yoloq.train.terms.teacher import Teacher


class TeacherBoxes:
    """What a float teacher finds on the very pictures that the student sees.

    It looks at them as they are augmented: boxes that belong to another crop would be no labels of
    this one (Beyer et al. 2022, arXiv 2106.05237: a teacher has to be consistent).

    Args:
        teacher: of the same head.
        head: of its raw maps.
        score: least score of a label, 0..1.
    """

    def __init__(self, teacher: Teacher, head: Head, score: float) -> None:
        self.teacher, self.head, self.score = teacher, head, score

    def __call__(self, seen: Seen) -> Tensor:
        """Labels (M, 6): image, class, centre x, y, width, height in 0..1; M may be 0."""
        raws = [raw.float().cpu().numpy() for raw in self.teacher(seen.x)]
        height, width = seen.x.shape[2:]
        size = np.array((width, height) * 2, np.float32)
        found = self.head.decode(raws, self.score)
        rows = [_labels(image, item, size) for image, item in enumerate(found)]
        return torch.from_numpy(np.concatenate(rows)).to(seen.x.device)


def _labels(image: int, found: Candidates, size: Floats) -> Floats:
    """Rows of one image: what NMS keeps, cut at the edges."""
    kept = nms(found.boxes, found.scores, found.classes)
    corners = (found.boxes[kept] / size).clip(0, 1)
    centres, sides = (corners[:, :2] + corners[:, 2:]) / 2, corners[:, 2:] - corners[:, :2]
    first = np.full((len(kept), 1), image)
    rows = np.concatenate((first, found.classes[kept, None], centres, sides), 1)
    inside: Floats = rows[(sides > 0).all(1)].astype(np.float32)
    return inside
