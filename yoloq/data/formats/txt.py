"""Rows of YOLO txt label files; bad ones become problems that name file and row."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from yoloq.base.errors import DataError
from yoloq.data.sources import read_text

TOLERANCE = 1e-3
"""How far a coordinate may lie outside 0..1: one pixel in a thousand, for rounding by tools."""


@dataclass(frozen=True)
class Problem:
    """A label that was skipped: where, and why."""

    file: Path
    where: str
    reason: str


@dataclass(frozen=True)
class Row:
    """One row of a label file: class and the box as centre x, centre y, width, height in 0..1."""

    category: int
    xywh: tuple[float, float, float, float]


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
