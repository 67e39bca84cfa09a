"""YOLO txt labels and COCO json as ground truth in pixels; bad rows are reported and skipped."""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..boxes import area, xywh_to_xyxy
from ..detections import Floats, GroundTruth
from ..errors import DataError
from .dataset import Dataset, label_file
from .images import image_size
from .sources import read_text

TOLERANCE = 1e-3
"""How far a coordinate may lie outside 0..1: one pixel in a thousand, for rounding by tools."""


@dataclass(frozen=True)
class Problem:
    """A label that was skipped: where, and why."""

    file: Path
    where: str
    reason: str


@dataclass(frozen=True)
class LabelReport:
    """What reading the labels of `images` images met.

    `background` counts images without any label, `repeated` the rows that said the same as
    another, `problems` are the rows that were skipped, `unreadable` the images whose size is not
    to be had (their labels are left out), `unlisted` counts images that a COCO json leaves out.
    """

    images: int
    boxes: int
    background: int
    repeated: int = 0
    problems: tuple[Problem, ...] = ()
    unreadable: tuple[Path, ...] = ()
    unlisted: int = 0

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
            lines.append(f"no label found for any of {self.images} images: mAP means nothing")
        return lines


@dataclass(frozen=True)
class Label:
    """One box of image `image`: class, x1 y1 x2 y2 and area in pixels of the original image."""

    image: int
    category: int
    box: tuple[float, float, float, float]
    area: float
    crowd: bool = False


@dataclass(frozen=True)
class Row:
    """One row of a label file: class and the box as centre x, centre y, width, height in 0..1."""

    category: int
    xywh: tuple[float, float, float, float]


def read_ground_truth(
    dataset: Dataset, split: str, images: Sequence[Path]
) -> tuple[GroundTruth, LabelReport]:
    """Labels of `images` (of that split), numbered as they stand in the sequence.

    Txt labels: area is the box's area, none are crowds. COCO json: areas and crowds as written.

    Raises:
        DataError: a label's class has no name, or the COCO json does not fit the images.
    """
    if split in dataset.annotations:
        from .coco import read_coco_labels

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
    return collect(labels, images, repeated, problems, unreadable)


def read_rows(file: Path, classes: int) -> tuple[tuple[Row, ...], tuple[Problem, ...]]:
    """Rows of a label file and the problems of those that were skipped; none where no file is.

    Five columns are a box; a class and three or more points (seven columns, nine, ...) an outline,
    whose enclosing box is taken.

    Raises:
        DataError: a class is `classes` or more: the yaml has fewer names than the labels use.
    """
    if not file.exists():
        return (), ()
    rows: list[Row] = []
    problems: list[Problem] = []
    try:
        lines = read_text(file).splitlines()
    except DataError as error:
        return (), (Problem(file, "file", str(error).removeprefix(f"{file}: ")),)
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            row = parse_row(line)
        except ValueError as error:
            problems.append(Problem(file, f"row {number}", str(error)))
            continue
        check_class(file, f"row {number}", row.category, classes)
        rows.append(row)
    return tuple(rows), tuple(problems)


def parse_row(line: str) -> Row:
    """Parse one row; see `read_rows`.

    Raises:
        ValueError: it is not a label; the text says why.
    """
    columns = line.split()
    if len(columns) != 5 and (len(columns) < 7 or len(columns) % 2 == 0):
        raise ValueError(f"{len(columns)} columns, want 5")
    try:
        values = [float(column) for column in columns]
    except ValueError:
        raise ValueError("not a number") from None
    if not all(math.isfinite(value) for value in values):
        raise ValueError("NaN or infinite")
    if values[0] < 0 or values[0] != int(values[0]):
        raise ValueError(f"class {columns[0]} is not a whole number from 0")
    if min(values[1:]) < -TOLERANCE or max(values[1:]) > 1 + TOLERANCE:
        raise ValueError("coordinates outside 0..1")
    coordinates = [min(max(value, 0.0), 1.0) for value in values[1:]]
    x, y, width, height = coordinates if len(columns) == 5 else _enclosing(coordinates)
    if width <= 0 or height <= 0:
        raise ValueError("no width or no height")
    return Row(int(values[0]), (x, y, width, height))


def _enclosing(points: Sequence[float]) -> tuple[float, float, float, float]:
    xs, ys = points[0::2], points[1::2]
    left, right, top, bottom = min(xs), max(xs), min(ys), max(ys)
    return (left + right) / 2, (top + bottom) / 2, right - left, bottom - top


def check_class(file: Path, where: str, category: int, classes: int) -> None:
    """Raise a DataError where a label's class has no name."""
    if category >= classes:
        raise DataError(
            f"{file}: {where} is of class {category} but the data yaml has {classes} names "
            f"(0 to {classes - 1}); add the missing names"
        )


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
    )
    return truth, report
