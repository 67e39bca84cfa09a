"""COCO's average precision of detections, and the label-free fidelity.

The figures equal those of pycocotools within 1e-12; the tests compare the two. Only area range
`all` and 100 detections an image and class are evaluated, which is what COCO's AP and AP50 use.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from yoloq.geometry.detections import Detections, GroundTruth
from yoloq.measure.match import IOU_THRESHOLDS, Matches, match

RECALLS = np.linspace(0, 1, 101)  # COCO's recall levels


@dataclass(frozen=True)
class Score:
    """Average precision as fractions.

    `map50_95` and `map50` are means over the classes that have ground truth, 0.0 where no class
    has any. `per_class` is the AP50-95 of each class, None for a class without ground truth.
    `matches` is what the bootstrap needs.
    """

    map50_95: float
    map50: float
    per_class: tuple[float | None, ...]
    matches: Matches


def score(truth: GroundTruth, detections: Detections, nc: int) -> Score:
    """COCO's AP of detections.

    Args:
        truth: labelled boxes; crowd regions neither match nor punish.
        detections: of the same images.
        nc: number of classes; indices are 0 .. nc - 1.

    Raises:
        ValueError: the two are not about the same number of images.
    """
    matches = match(truth, detections, nc)
    precision = coco_precision(matches)
    defined = precision[0, 0] > -1
    if not defined.any():
        return Score(0.0, 0.0, (None,) * nc, matches)
    valid = precision[:, :, defined]
    each = precision.mean((0, 1))
    per_class = tuple(float(ap) if has else None for ap, has in zip(each, defined, strict=True))
    return Score(float(valid.mean()), float(valid[0].mean()), per_class, matches)


def fidelity(reference: Detections, detections: Detections, nc: int, score: float = 0.25) -> float:
    """AP50-95 of detections when those of a reference model are the ground truth.

    It needs no labels and measures how much a quantized model changed. Reference detections below
    `score` are left out; if none remains the figure is 1.0 when `detections` has none above it
    either, else 0.0.
    """
    truth = as_truth(reference, score)
    if not len(truth.classes):
        return float(not (detections.scores >= score).any())
    precision = coco_precision(match(truth, detections, nc))
    return float(precision[:, :, precision[0, 0] > -1].mean())


def as_truth(detections: Detections, score: float) -> GroundTruth:
    """The detections with at least `score` as ground truth.

    A box that clipping left without area is no truth: nothing overlaps it, not even itself.
    """
    sides = detections.boxes[:, 2:] - detections.boxes[:, :2]
    chosen = (detections.scores >= score) & (sides > 0).all(1)
    boxes = detections.boxes[chosen]
    return GroundTruth(
        images=detections.images,
        image=detections.image[chosen],
        boxes=boxes,
        classes=detections.classes[chosen],
        areas=sides[chosen].prod(1),
        crowd=np.zeros(len(boxes), dtype=bool),
    )


def coco_precision(matches: Matches) -> NDArray[np.float64]:
    """(10, 101, nc) precision at each IoU threshold, recall and class; -1 without ground truth.

    COCO's `accumulate`: at each level of recall the best precision at or beyond it.
    """
    result = np.full((len(IOU_THRESHOLDS), len(RECALLS), matches.nc), -1.0)
    for index, truths in enumerate(matches.truths.sum(0)):
        if truths:
            here = slice(matches.starts[index], matches.starts[index + 1])
            matched, counted = matches.matched[:, here], ~matches.ignored[:, here]
            for level, hits, counts in zip(result[..., index], matched, counted, strict=True):
                level[:] = _precision(hits[counts], truths)
    return result


def _precision(hits: NDArray[np.bool_], truths: int) -> NDArray[np.float64]:
    """(101,) precision at each recall; `hits` (n,) are true positives by falling score."""
    found = hits.cumsum()
    precision = found / (np.arange(1, len(hits) + 1) + np.spacing(1))
    best = np.append(np.maximum.accumulate(precision[::-1])[::-1], 0.0)
    return best[np.searchsorted(found / truths, RECALLS)]
