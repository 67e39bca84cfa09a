"""Which boxes one model finds and another does not, image by image."""

from dataclasses import dataclass

import numpy as np

from yoloq.geometry.boxes import iou
from yoloq.geometry.detections import Detections
from yoloq.measure.partners import paired

SHOWN = 0.25  # least score of a box that counts as found


@dataclass(frozen=True)
class Change:
    """A box that one model finds and the other does not: its index among the former's detections.

    `score` is the former's, `other` what the latter gives the same box, 0 where it has none.
    """

    index: int
    score: float
    other: float

    @property
    def size(self) -> float:
        """How much the score changed."""
        return self.score - self.other


@dataclass(frozen=True)
class ImageDifference:
    """Boxes of one image.

    `kept` has those that both find, as indices of the two models' detections; `lost` those of the
    reference alone, `found` those of the other alone, the largest change first.
    """

    image: int
    kept: tuple[tuple[int, int], ...]
    lost: tuple[Change, ...]
    found: tuple[Change, ...]

    @property
    def size(self) -> float:
        """How much the image's boxes differ: the sum over what was lost and found."""
        return sum(change.size for change in (*self.lost, *self.found))


def differences(reference: Detections, other: Detections) -> list[ImageDifference]:
    """What each image's boxes come to, for images on which either model has one.

    Two boxes are the same where they have one class and an IoU of `partners.SAME` or more; the
    pairs that overlap most are made first. A box counts as found from a score of `SHOWN` on:
    detections below it tell how far a box that was lost fell.
    """
    images = np.union1d(reference.image, other.image).tolist()
    return [_difference(image, reference, other) for image in images]


def _difference(image: int, reference: Detections, other: Detections) -> ImageDifference:
    ours, theirs = np.flatnonzero(reference.image == image), np.flatnonzero(other.image == image)
    same = reference.classes[ours][:, None] == other.classes[theirs][None]
    alike = iou(reference.boxes[ours][:, None], other.boxes[theirs][None]) * same
    pairs = [(int(ours[a]), int(theirs[b])) for a, b in paired(alike)]
    shown = [p for p in pairs if _score(reference, p[0]) >= SHOWN <= _score(other, p[1])]
    return ImageDifference(
        image,
        tuple(shown),
        _changes(reference, ours.tolist(), other, dict(pairs)),
        _changes(other, theirs.tolist(), reference, {b: a for a, b in pairs}),
    )


def _changes(
    detections: Detections, boxes: list[int], other: Detections, partners: dict[int, int]
) -> tuple[Change, ...]:
    """Boxes that are found here and not there."""
    changes = []
    for box in boxes:
        there = _score(other, partners[box]) if box in partners else 0.0
        if _score(detections, box) >= SHOWN > there:
            changes.append(Change(box, _score(detections, box), there))
    return tuple(sorted(changes, key=lambda change: -change.size))


def _score(detections: Detections, box: int) -> float:
    return float(detections.scores[box])
