"""Ground truth in pixels, whatever file it came from, and what was wrong with it."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from yoloq.data.images import fault
from yoloq.geometry.detections import Floats, GroundTruth


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
    to be had (their labels are left out), `unlisted` counts images that a COCO json leaves out and
    `example` is one of them with the likely reason, `source` is where the labels of the first image
    were looked for, `remarks` are lines on the set as a whole.
    """

    images: int
    boxes: int
    background: int
    repeated: int = 0
    problems: tuple[Problem, ...] = ()
    unreadable: tuple[Path, ...] = ()
    unlisted: int = 0
    source: Path | None = None
    example: str = ""
    remarks: tuple[str, ...] = ()

    def lines(self, limit: int = 10) -> list[str]:
        """Warnings to show: one line a file, at most `limit` of them and a count of the rest."""
        files = Counter(problem.file for problem in self.problems)
        first = {problem.file: problem for problem in reversed(self.problems)}
        lines = [
            f"{file}: {count} labels skipped ({first[file].where}: {first[file].reason}); mend them"
            for file, count in files.items()
        ]
        lines += [f"{file}: {fault(file)}; skipped: mend or remove it" for file in self.unreadable]
        if len(lines) > limit:
            rest = len(lines) - limit
            lines = [*lines[:limit], f"and {rest} more files with skipped labels or unreadable"]
        if self.repeated:
            lines.append(f"{self.repeated} repeated labels dropped: each counts once")
        if self.unlisted:
            lines.append(
                f"{self.unlisted} images are not in the COCO json, such as {self.example}: "
                "taken as background; list them where they hold objects"
            )
        if not self.boxes:
            where = "" if self.source is None else f" (looked for {self.source} and the like)"
            lines.append(
                f"no label of {self.images} images can be used{where}: mAP means nothing; check "
                "the paths in the data yaml"
            )
        return [*self.remarks, *lines]


@dataclass(frozen=True)
class Label:
    """One box of image `image`: class, x1 y1 x2 y2 and area in pixels of the original image."""

    image: int
    category: int
    box: tuple[float, float, float, float]
    area: float
    crowd: bool = False


def collect(
    labels: Sequence[Label],
    images: Sequence[Path],
    repeated: int = 0,
    problems: Iterable[Problem] = (),
    unreadable: Sequence[Path] = (),
    unlisted: int = 0,
    source: Path | None = None,
    example: str = "",
    remarks: Sequence[str] = (),
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
        example=example,
        remarks=tuple(remarks),
    )
    return truth, report
