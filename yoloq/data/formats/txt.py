"""YOLO txt labels: a file an image, a row a box; bad rows become problems that name them."""

import functools
import math
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from yoloq.base.errors import DataError
from yoloq.data.image_files import read_text
from yoloq.data.images import image_size, is_image
from yoloq.data.truth import Label, LabelReport, Problem, collect
from yoloq.geometry.boxes import area, xywh_to_xyxy
from yoloq.geometry.detections import GroundTruth

LARGEST = 16 << 20
"""Bytes of a label file: 300,000 boxes. Ten million rows would take minutes and gigabytes."""
TOLERANCE = 1e-3
"""How far a coordinate may lie outside 0..1: one pixel in a thousand, for rounding by tools."""


@dataclass(frozen=True)
class LabelRow:
    """One row of a label file: class and the box as centre x, centre y, width, height in 0..1."""

    category: int
    xywh: tuple[float, float, float, float]

    @property
    def key(self) -> tuple[float, ...]:
        """Equal for rows that YOLOv5 takes for one: it compares them in FP32."""
        return (self.category, *np.asarray(self.xywh, np.float32).tolist())


def label_file(image: Path) -> Path:
    """Where the txt labels of an image are: the last folder `images` becomes `labels`.

    An image in no such folder has its labels beside it; a folder that is a link is what it leads
    to, then. (Rule of YOLOv5, `img2label_paths`, which resolves the links of all.)
    """
    parts = list(image.parts)
    if "images" not in parts[1:-1]:
        parts = [*_resolved(image.parent).parts, image.name]
    for position in range(len(parts) - 2, 0, -1):
        if parts[position] == "images":
            parts[position] = "labels"
            break
    return Path(*parts).with_suffix(".txt")


@functools.cache
def _resolved(folder: Path) -> Path:
    return folder.resolve()


def read(
    source: Path | None, names: Sequence[str] | None, images: Sequence[Path]
) -> tuple[GroundTruth, LabelReport]:
    """Labels of the images, each in its own file; area is the box's area, none are crowds.

    Args:
        names: of the classes; None: any class will do.

    Raises:
        DataError: a label's class has no name.
    """
    labels: list[Label] = []
    problems: list[Problem] = []
    unreadable: list[Path] = []
    repeated = 0
    for index, image in enumerate(images):
        rows, bad = read_rows(label_file(image), None if names is None else len(names))
        size = image_size(image)
        if size is None:
            unreadable.append(image)
            continue
        distinct: dict[tuple[float, ...], LabelRow] = {}
        for row in rows:
            distinct.setdefault(row.key, row)
        labels += [_to_pixels(index, row, *size) for row in distinct.values()]
        repeated += len(rows) - len(distinct)
        problems += bad
    first = label_file(images[0]) if images else None
    remarks = _without_labels(sorted(set(images) - set(unreadable)))
    return collect(labels, images, repeated, problems, unreadable, source=first, remarks=remarks)


def _without_labels(images: Sequence[Path]) -> list[str]:
    """What the user has to know of images that have no label file, not even an empty one.

    Where that is all of them it is said elsewhere, unless a reason is seen here.
    """
    files = [label_file(image) for image in images]
    missing = [file for file in files if not file.exists()]
    if not missing:
        return []
    folders = {file.parent for file in missing}
    there = {folder: _by_form(folder) for folder in folders if folder.is_dir()}
    like = {file: there.get(file.parent, {}).get(_form(file.name)) for file in missing}
    file, near = next((pair for pair in like.items() if pair[1]), (missing[0], None))
    if len(missing) == len(images) and not near:
        return []
    beside = f" (there is {near})" if near else ""
    return [
        f"{len(missing)} of {len(images)} images have no label file, such as {file}{beside}: "
        "taken as background; label them, or give an empty file"
    ]


def _by_form(folder: Path) -> dict[str, str]:
    return {_form(file.name): file.name for file in folder.iterdir()}


def _form(name: str) -> str:
    """A file name without what differs between systems; a.jpg.txt counts as a.txt."""
    stem, _, suffix = unicodedata.normalize("NFC", name).casefold().rpartition(".")
    inner = Path(stem)
    return f"{inner.stem if is_image(inner) else stem}.{suffix}"


def _to_pixels(image: int, row: LabelRow, height: int, width: int) -> Label:
    """Clipped to the image, as detections are."""
    box = np.clip(xywh_to_xyxy(np.array(row.xywh)), 0, 1) * (width, height, width, height)
    left, top, right, bottom = (float(value) for value in box)
    return Label(image, row.category, (left, top, right, bottom), float(area(box)))


def read_rows(file: Path, classes: int | None) -> tuple[tuple[LabelRow, ...], tuple[Problem, ...]]:
    """Rows of a label file and the problems of those that were skipped; none where no file is.

    Five columns are a box; a class and three or more points (seven columns, nine, ...) an outline,
    whose enclosing box is taken.

    Args:
        classes: how many there are; None: any class will do.

    Raises:
        DataError: a class is `classes` or more: the yaml has fewer names than the labels use.
    """
    if not file.exists():
        return (), ()
    rows: list[LabelRow] = []
    problems: list[Problem] = []
    size = file.stat().st_size
    if size > LARGEST:
        return (), (Problem(file, "file", f"{size / 1e6:.0f} MB, no labels of one image"),)
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
        if classes is not None:
            check_class(file, f"row {number}", row.category, classes)
        rows.append(row)
    return tuple(rows), tuple(problems)


def parse_row(line: str) -> LabelRow:
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
    return LabelRow(int(values[0]), (x, y, width, height))


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
            + ", or --single-cls where all are one class"
            * (classes == 1)
        )
