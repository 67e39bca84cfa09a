"""pycocotools' own evaluation of the same arrays: the reference of the metrics' tests."""

import contextlib
import io

import numpy as np

from yoloq.geometry.detections import Detections, GroundTruth


def evaluator(truth, detections, nc):
    """A pycocotools evaluator after `evaluate` and `accumulate`, with COCO's own parameters."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    with contextlib.redirect_stdout(io.StringIO()):
        result = COCOeval(_coco(COCO(), truth, nc), _coco(COCO(), detections, nc), "bbox")
        result.evaluate()
        result.accumulate()
    return result


def average_precision(truth, detections, nc):
    """(AP50-95, AP50) that pycocotools gives; -1 where nothing is defined."""
    with contextlib.redirect_stdout(io.StringIO()):
        result = evaluator(truth, detections, nc)
        result.summarize()
    return result.stats[0], result.stats[1]


def repeat_images(boxes, counts):
    """The arrays with image i there counts[i] times, copies next to one another."""
    starts = np.concatenate(([0], np.cumsum(counts)))
    rows, image = [], []
    for old, count in enumerate(counts):
        for copy in range(count):
            here = np.flatnonzero(boxes.image == old)
            rows.append(here)
            image.append(np.full(len(here), starts[old] + copy))
    order = np.concatenate(rows)
    columns = {
        name: value[order] for name, value in vars(boxes).items() if name not in ("images", "image")
    }
    kind = GroundTruth if isinstance(boxes, GroundTruth) else Detections
    return kind(images=int(starts[-1]), image=np.concatenate(image), **columns)


def _coco(coco, boxes, nc):
    truth = isinstance(boxes, GroundTruth)
    coco.dataset = {
        "images": [{"id": image} for image in range(boxes.images)],
        "categories": [{"id": index} for index in range(nc)],
        "annotations": [
            {
                "id": row + 1,
                "image_id": int(boxes.image[row]),
                "category_id": int(boxes.classes[row]),
                "bbox": _xywh(boxes.boxes[row]),
                "area": _area(boxes.boxes[row]),
                "iscrowd": int(boxes.crowd[row]) if truth else 0,
            }
            | ({} if truth else {"score": float(boxes.scores[row])})
            for row in range(len(boxes.image))
        ],
    }
    coco.createIndex()
    return coco


def _xywh(box):
    left, top, right, bottom = (float(value) for value in box)
    return [left, top, right - left, bottom - top]


def _area(box):
    _, _, width, height = _xywh(box)
    return width * height
