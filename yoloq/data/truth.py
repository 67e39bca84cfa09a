"""YOLO txt labels and COCO json as ground truth in pixels; bad rows are reported and skipped."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from yoloq.data.dataset import Dataset, label_file
from yoloq.data.formats.txt import Problem, Row, read_rows
from yoloq.data.images import image_size
from yoloq.geometry.boxes import area, xywh_to_xyxy
from yoloq.geometry.detections import Floats, GroundTruth


@dataclass(frozen=True)
class LabelReport:
    """What reading the labels of `images` images met.

    `background` counts images without any label, `repeated` the rows that said the same as
    another, `problems` are the rows that were skipped, `unreadable` the images whose size is not
    to be had (their labels are left out), `unlisted` counts images that a COCO json leaves out,
    `source` is where the labels of the first image were looked for.
    """

    images: int
    boxes: int
    background: int
    repeated: int = 0
    problems: tuple[Problem, ...] = ()
    unreadable: tuple[Path, ...] = ()
    unlisted: int = 0
    source: Path | None = None

    def lines(self, limit: int = 10) -> list[str]:
        """Warnings to show: one line a file, at most `limit` of them and a count of the rest."""
        files = Counter(problem.file for problem in self.problems)
        first = {problem.file: problem for problem in reversed(self.problems)}
        lines = [
            f"{file}: {count} labels skipped ({first[file].where}: {first[file].reason})"
            for file, count in files.items()
        ]
        lines += [f"{file}: cannot be read as an image; skipped" for file in self.unreadable]
        if len(lines) > limit:
            rest = len(lines) - limit
            lines = [*lines[:limit], f"and {rest} more files with skipped labels or unreadable"]
        if self.repeated:
            lines.append(f"{self.repeated} repeated labels dropped")
        if self.unlisted:
            lines.append(f"{self.unlisted} images are not in the COCO json: taken as background")
        if not self.boxes:
            where = "" if self.source is None else f" (looked for {self.source} and the like)"
            lines.append(f"no label of {self.images} images can be used{where}: mAP means nothing")
        return lines


@dataclass(frozen=True)
class Label:
    """One box of image `image`: class, x1 y1 x2 y2 and area in pixels of the original image."""

    image: int
    category: int
    box: tuple[float, float, float, float]
    area: float
    crowd: bool = False


def read_ground_truth(
    dataset: Dataset, split: str, images: Sequence[Path]
) -> tuple[GroundTruth, LabelReport]:
    """Labels of `images` (of that split), numbered as they stand in the sequence.

    Txt labels: area is the box's area, none are crowds. COCO json: areas and crowds as written.

    Raises:
        DataError: a label's class has no name, or the COCO json does not fit the images.
    """
    if split in dataset.annotations:
        from yoloq.data.formats.coco import read_coco_labels

        return read_coco_labels(dataset.annotations[split], dataset.names, images)
    labels: list[Label] = []
    problems: list[Problem] = []
    unreadable: list[Path] = []
    repeated = 0
    for index, image in enumerate(images):
        rows, bad = read_rows(label_file(image), len(dataset.names))
        size = image_size(image)
        if size is None:
            unreadable.append(image)
            continue
        distinct = tuple(dict.fromkeys(rows))
        labels += [_to_pixels(index, row, *size) for row in distinct]
        repeated += len(rows) - len(distinct)
        problems += bad
    source = label_file(images[0]) if images else None
    return collect(labels, images, repeated, problems, unreadable, source=source)


def _to_pixels(image: int, row: Row, height: int, width: int) -> Label:
    """Clipped to the image, as detections are."""
    box = np.clip(xywh_to_xyxy(np.array(row.xywh)), 0, 1) * (width, height, width, height)
    left, top, right, bottom = (float(value) for value in box)
    return Label(image, row.category, (left, top, right, bottom), float(area(box)))


def collect(
    labels: Sequence[Label],
    images: Sequence[Path],
    repeated: int = 0,
    problems: Iterable[Problem] = (),
    unreadable: Sequence[Path] = (),
    unlisted: int = 0,
    source: Path | None = None,
) -> tuple[GroundTruth, LabelReport]:
    """Labels as flat arrays, and the report on them."""
    boxes: Floats = np.array([label.box for label in labels], dtype=np.float32).reshape(-1, 4)
    truth = GroundTruth(
        images=len(images),
        image=np.array([label.image for label in labels], dtype=np.int64),
        boxes=boxes,
        classes=np.array([label.category for label in labels], dtype=np.int64),
        areas=np.array([label.area for label in labels], dtype=np.float32),
        crowd=np.array([label.crowd for label in labels], dtype=np.bool_),
    )
    report = LabelReport(
        images=len(images),
        boxes=len(labels),
        background=len(images) - len(unreadable) - len({label.image for label in labels}),
        repeated=repeated,
        problems=tuple(problems),
        unreadable=tuple(unreadable),
        unlisted=unlisted,
        source=source,
    )
    return truth, report
