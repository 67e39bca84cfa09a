"""From image files to detections in pixels of the original images."""

import itertools
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from yoloq.base.files import LFS_ADVICE, is_lfs_pointer
from yoloq.base.ranks import Share, by_all
from yoloq.base.say import progress as show_progress
from yoloq.base.say import warn
from yoloq.data.dataset import Dataset
from yoloq.data.loader import check_read, share_of_batches
from yoloq.engines.predictor import Predictor
from yoloq.geometry.boxes import Letterbox, to_original
from yoloq.geometry.detections import Detections
from yoloq.geometry.nms import nms
from yoloq.measure.ap import score
from yoloq.models.heads import Head
from yoloq.models.heads.decode import Candidates

CONF, IOU, MAX_DET = 0.001, 0.6, 300  # thresholds of YOLOv5's val.py
LISTED = 3  # unreadable files that a message names


def detect(
    predictor: Predictor,
    images: Sequence[Path],
    *,
    imgsz: int,
    batch_size: int = 16,
    workers: int = 2,
    conf: float = CONF,
    iou: float = IOU,
    max_det: int = MAX_DET,
    progress: bool = True,
    title: str = "detect",
    skipped: list[Path] | None = None,
    one_class: bool = False,
) -> Detections:
    """Run a predictor over image files; the thresholds are those of YOLOv5's val.py.

    `progress` shows a bar called `title` on stderr, or one line at the end where that is a file.
    An image that cannot be read has no detections, is named on stderr and added to `skipped`.
    `one_class` takes all boxes for class 0 before NMS. The processes that serve this one take their
    share of the batches.

    Raises:
        DataError: no image can be read.
    """
    thresholds = (conf, iou, max_det, one_class)
    how = (imgsz, batch_size, workers, thresholds)
    with show_progress(title, len(images), shown=progress) as advance:
        [shares] = by_all(_boxes_of_share, predictor, images, *how, done=advance)
    batches = sorted(itertools.chain(*shares), key=lambda batch: batch.positions[0])
    positions = [position for batch in batches for position in batch.positions]
    check_read(images, len(positions))
    unread = sorted(set(range(len(images))) - set(positions))
    _report([images[position] for position in unread], len(images))
    if skipped is not None:
        skipped += [images[position] for position in unread]
    return join([item for batch in batches for item in batch.boxes], positions, len(images))


@dataclass(frozen=True)
class _BatchBoxes:
    """Boxes of the images at some positions."""

    positions: list[int]
    boxes: list[Candidates]


def _boxes_of_share(
    share: Share,
    predictor: Predictor,
    images: Sequence[Path],
    imgsz: int,
    batch_size: int,
    workers: int,
    thresholds: tuple[float, float, int, bool],
) -> Iterator[list[_BatchBoxes]]:
    """The boxes of a process's share of the batches, once."""
    head, positions = predictor.model.head, []
    waiting: list[Future[list[Candidates]]] = []
    with ThreadPoolExecutor(1) as beside:  # boxes of a batch while the next one runs
        for batch in share_of_batches(images, imgsz, batch_size, workers, share=share):
            raws = predictor(batch.images)
            if waiting:
                waiting[-1].result()  # no more than one batch of raw maps waits
            waiting.append(beside.submit(find_boxes, raws, head, batch.boxes, *thresholds))
            positions.append(batch.index.tolist())
            share.done(len(batch.index))
    found = [each.result() for each in waiting]
    yield [_BatchBoxes(*pair) for pair in zip(positions, found, strict=True)]


@dataclass(frozen=True)
class Figures:
    """COCO's AP50-95 and AP50 as fractions, on so many images."""

    map50_95: float
    map50: float
    images: int


def figures(predictor: Predictor, dataset: Dataset, limit: int = 0) -> Figures:
    """Accuracy on the first `limit` images of `val`; 0: on all.

    Raises:
        DataError: no image can be read, the labels cannot be used, or the set has another number
            of classes.
    """
    images, info = dataset.images("val")[: limit or None], predictor.model
    dataset = dataset.ordered_as(info.names)
    truth, report = dataset.truth("val", images)
    for line in replace(report, unreadable=()).lines():  # `detect` names those
        warn(line)
    found = detect(predictor, images, imgsz=info.imgsz, one_class=dataset.one_class)
    result = score(truth, found, len(dataset.names))
    return Figures(result.map50_95, result.map50, len(images))


def find_boxes(
    raws: Sequence[NDArray[Any]],
    head: Head,
    geometries: Sequence[Letterbox],
    conf: float,
    iou: float,
    max_det: int,
    one_class: bool = False,
) -> list[Candidates]:
    """Decode a batch's raw maps; for each image the boxes NMS keeps, in its original pixels.

    `one_class` is YOLOv5's `val.py --single-cls`: (box, class) pairs are made as ever, then any may
    beat any, and what is left is of class 0.
    """
    found = []
    for geometry, item in zip(geometries, head.decode(raws, conf), strict=True):
        classes = np.zeros_like(item.classes) if one_class else item.classes
        kept = nms(item.boxes, item.scores, classes, iou, max_det)
        boxes = to_original(item.boxes[kept], geometry)
        found.append(Candidates(boxes, item.scores[kept], classes[kept]))
    return found


def join(found: Sequence[Candidates], positions: Sequence[int], images: int) -> Detections:
    """Flat arrays of the boxes found at each position; at least one image."""
    counts = [len(item.scores) for item in found]
    return Detections(
        images=images,
        image=np.repeat(np.asarray(positions, dtype=np.int64), counts),
        boxes=np.concatenate([item.boxes for item in found]),
        scores=np.concatenate([item.scores for item in found]),
        classes=np.concatenate([item.classes for item in found]),
    )


def _report(skipped: Sequence[Path], total: int) -> None:
    if skipped:
        names = ", ".join(str(file) for file in skipped[:LISTED])
        more = ", ..." if len(skipped) > LISTED else ""
        advice = f"the first {LFS_ADVICE}" if is_lfs_pointer(skipped[0]) else "mend or remove them"
        warn(f"{len(skipped)} of {total} images cannot be read; skipped: {names}{more}; {advice}")
