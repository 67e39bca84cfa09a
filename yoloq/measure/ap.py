"""COCO's average precision of detections, and the label-free fidelity.

The figures come from faster-coco-eval, whose results equal those of pycocotools; the tests compare
the two. Only area range `all` and 100 detections an image and class are evaluated, which is what
COCO's AP and AP50 use.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from yoloq.geometry.detections import Detections, GroundTruth
from yoloq.measure.match import IOU_THRESHOLDS, MAX_DETS, Matches, match

LARGEST_AREA = 1e10  # upper end of COCO's area range "all", in square pixels


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
    precision = coco_precision(truth, detections, nc)
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
    precision = coco_precision(truth, detections, nc)
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


def coco_precision(truth: GroundTruth, detections: Detections, nc: int) -> NDArray[np.float64]:
    """(10, 101, nc) precision at each IoU threshold, recall and class; -1 without ground truth."""
    from faster_coco_eval import COCO, COCOeval_faster

    dataset = COCO(coco_dataset(truth, nc))
    found = COCO(coco_dataset(detections, nc))
    evaluator = COCOeval_faster(dataset, found, "bbox", print_function=_silent)
    restrict(evaluator.params)
    evaluator.evaluate()
    evaluator.accumulate()
    return np.asarray(evaluator.eval["precision"])[..., 0, 0]


def restrict(params: Any) -> None:
    """Set an evaluator's parameters to what AP and AP50 need."""
    params.iouThrs = IOU_THRESHOLDS
    params.areaRng, params.areaRngLbl = [[0, LARGEST_AREA]], ["all"]
    params.maxDets = [MAX_DETS]


def coco_dataset(boxes: Detections | GroundTruth, nc: int) -> dict[str, Any]:
    """COCO's dictionary of detections or ground truth; image ids and annotation ids start at 1."""
    corners = boxes.boxes.astype(np.float64)
    sides = corners[:, 2:] - corners[:, :2]
    columns: dict[str, list[Any]] = {
        "id": list(range(1, len(corners) + 1)),
        "image_id": (boxes.image + 1).tolist(),
        "category_id": boxes.classes.tolist(),
        "bbox": np.concatenate((corners[:, :2], sides), 1).tolist(),
        "area": sides.prod(1).tolist(),
        "iscrowd": [0] * len(corners),
    }
    if isinstance(boxes, GroundTruth):
        columns |= {"area": boxes.areas.tolist(), "iscrowd": boxes.crowd.astype(int).tolist()}
    else:
        columns["score"] = boxes.scores.tolist()
    rows = zip(*columns.values(), strict=True)
    return {
        "images": [{"id": image + 1} for image in range(boxes.images)],
        "annotations": [dict(zip(columns, row, strict=True)) for row in rows],
        "categories": [{"id": index, "name": str(index)} for index in range(nc)],
    }


def _silent(*_: object) -> None:
    """Take the place of the evaluator's print."""
