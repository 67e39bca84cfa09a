"""Ground truth and detections, random and real, that the tests of the metrics share."""

import json

import numpy as np

from yoloq.data.formats.coco import read as read_coco_labels
from yoloq.geometry.detections import Detections, GroundTruth


def truth_of(rows, images, crowd=()):
    """Ground truth of (image, class, x1, y1, x2, y2) rows; `crowd` lists the crowd rows."""
    table = np.array(rows, dtype=np.float64).reshape(-1, 6)
    boxes = table[:, 2:].astype(np.float32)
    return GroundTruth(
        images=images,
        image=table[:, 0].astype(np.int64),
        boxes=boxes,
        classes=table[:, 1].astype(np.int64),
        areas=(boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1]),
        crowd=np.isin(np.arange(len(table)), crowd),
    )


def detections_of(rows, images):
    """Detections of (image, class, x1, y1, x2, y2, score) rows."""
    table = np.array(rows, dtype=np.float64).reshape(-1, 7)
    return Detections(
        images=images,
        image=table[:, 0].astype(np.int64),
        boxes=table[:, 2:6].astype(np.float32),
        scores=table[:, 6].astype(np.float32),
        classes=table[:, 1].astype(np.int64),
    )


def random_scene(images=12, nc=4, seed=0, jitter=0.08, levels=None, crowds=True):
    """Truth and imperfect detections: shifted, doubled, missed, of a wrong class, and noise.

    Class nc - 1 has detections but no ground truth, the last image has neither, and the one before
    it no ground truth. With `levels` the scores have many ties.
    """
    layout = np.random.default_rng(1000 + images)
    count = 8 * images
    image = layout.integers(0, images - 2, count)
    low = layout.uniform(0, 300, (count, 2))
    boxes = np.concatenate((low, low + layout.uniform(20, 120, (count, 2))), 1)
    classes = layout.integers(0, nc - 1, count)
    crowd = np.flatnonzero(layout.random(count) < 0.1) if crowds else ()
    truth = truth_of(np.column_stack((image, classes, boxes)), images, crowd)

    generator = np.random.default_rng(seed)
    source = generator.integers(0, count, 3 * count)
    shifted = boxes[source] + generator.normal(0, jitter, (len(source), 4)) * 60
    shifted[:, 2:] = np.maximum(shifted[:, 2:], shifted[:, :2] + 1)
    labels = np.where(generator.random(len(source)) < 0.15, nc - 1, classes[source])
    where = np.where(generator.random(len(source)) < 0.05, images - 2, image[source])
    scores = generator.random(len(source))
    if levels:
        scores = np.ceil(scores * levels) / levels
    rows = np.column_stack((where, labels, shifted, scores))
    return truth, detections_of(rows, images)


def published(folder):
    """The dev images' ground truth and the original code's detections."""
    annotations = folder / "annotations" / "dev.json"
    document = json.loads(annotations.read_text())
    files = sorted((folder / "images" / "dev").glob("*.jpg"))
    names = [category["name"] for category in document["categories"]]
    truth, _ = read_coco_labels(annotations, names, files)
    image = {int(file.stem): index for index, file in enumerate(files)}
    category = {row["id"]: index for index, row in enumerate(document["categories"])}
    reference = folder / "reference" / "yolov5n_fp32_dev_detections.json"
    rows = []
    for row in json.loads(reference.read_text()):
        left, top, width, height = row["bbox"]
        box = (left, top, left + width, top + height)
        rows.append((image[row["image_id"]], category[row["category_id"]], *box, row["score"]))
    return truth, detections_of(rows, len(files))
