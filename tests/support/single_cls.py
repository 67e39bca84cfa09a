"""YOLOv5's `val.py --single-cls`, restated from raw maps on: its decoding, its NMS, COCO's AP."""

import contextlib
import io

import numpy as np
import torch

from yoloq.data.images import read_image
from yoloq.geometry.boxes import letterbox, to_original


def rows_of_anchors(raws, head):
    """(n, 5 + nc) a image: centre, size, objectness, scores, as `Detect.forward` concatenates."""
    levels = []
    for raw, stride, anchors in zip(raws, head.strides, head.anchors, strict=True):
        x = torch.as_tensor(raw).double()
        bs, _, ny, nx = x.shape
        x = x.view(bs, len(anchors), -1, ny, nx).permute(0, 1, 3, 4, 2).sigmoid()
        yv, xv = torch.meshgrid(torch.arange(ny), torch.arange(nx), indexing="ij")
        xy = (x[..., :2] * 2 - 0.5 + torch.stack((xv, yv), -1)) * stride
        sizes = torch.tensor(anchors, dtype=torch.float64).view(1, -1, 1, 1, 2)
        wh = (x[..., 2:4] * 2) ** 2 * sizes
        levels.append(torch.cat((xy, wh, x[..., 4:]), -1).flatten(1, 3))
    return torch.cat(levels, 1)


def agnostic_nms(rows, conf=0.001, iou=0.6, max_det=300, max_nms=30_000):
    """(k, 5) left, top, right, bottom, score of an image: multi-label, any class beats any."""
    rows = rows[rows[:, 4] > conf]
    scores = rows[:, 5:] * rows[:, 4:5]
    box, label = (scores > conf).nonzero().T
    half = rows[:, 2:4] / 2
    corners = torch.cat((rows[:, :2] - half, rows[:, :2] + half), 1)[box]
    scores = scores[box, label]
    order = scores.argsort(descending=True, stable=True)[:max_nms]
    left, kept = torch.cat((corners, scores[:, None]), 1)[order], []
    while len(left) and len(kept) < max_det:
        best, left = left[0], left[1:]
        kept.append(best)
        low, high = left[:, :2].maximum(best[:2]), left[:, 2:4].minimum(best[2:4])
        shared = (high - low).clamp(min=0).prod(1)
        areas = (left[:, 2:4] - left[:, :2]).prod(1) + (best[2:4] - best[:2]).prod()
        left = left[shared / (areas - shared) <= iou]
    return torch.stack(kept) if kept else torch.zeros(0, 5, dtype=torch.float64)


def boxes_of(predictor, images, imgsz):
    """For each image file (k, 5) in its own pixels."""
    found = []
    for file in images:
        square, geometry = letterbox(read_image(file), imgsz)
        rows = rows_of_anchors(predictor(square[None]), predictor.model.head)
        kept = agnostic_nms(rows[0]).numpy()
        found.append(np.concatenate((to_original(kept[:, :4], geometry), kept[:, 4:]), 1))
    return found


def txt_truth(images):
    """COCO's dictionary of txt labels, with all their classes."""
    entries, annotations = [], []
    for image, file in enumerate(images, 1):
        height, width = read_image(file).shape[:2]
        entries.append({"id": image})
        label = str(file).replace("/images/", "/labels/").removesuffix(file.suffix) + ".txt"
        for c, x, y, w, h in np.loadtxt(label, ndmin=2).reshape(-1, 5):
            box = [(x - w / 2) * width, (y - h / 2) * height, w * width, h * height]
            more = {"id": len(annotations) + 1, "category_id": int(c) + 1, "iscrowd": 0}
            annotations.append({"image_id": image, "bbox": box, "area": box[2] * box[3], **more})
    categories = [{"id": number} for number in {each["category_id"] for each in annotations}]
    return {"images": entries, "annotations": annotations, "categories": categories}


def average_precision(truth, ids, found):
    """(AP50-95, AP50) by pycocotools where categories do not count.

    Args:
        truth: COCO's dictionary.
        ids: of the images there, in the order of `found`.
        found: as `boxes_of` gives them.
    """
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    anything = truth["categories"][0]["id"]
    rows = [
        {
            "image_id": image,
            "category_id": anything,
            "bbox": [x1, y1, x2 - x1, y2 - y1],
            "score": score,
        }
        for image, boxes in zip(ids, found, strict=True)
        for x1, y1, x2, y2, score in boxes.tolist()
    ]
    with contextlib.redirect_stdout(io.StringIO()):
        labels = COCO()
        labels.dataset = truth
        labels.createIndex()
        evaluator = COCOeval(labels, labels.loadRes(rows), "bbox")
        evaluator.params.imgIds, evaluator.params.useCats = list(ids), 0
        evaluator.evaluate()
        evaluator.accumulate()
        evaluator.summarize()
    return evaluator.stats[0], evaluator.stats[1]
