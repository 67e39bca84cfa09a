"""Detections and ground truth of a set of images, as flat arrays."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Detections:
    """All boxes that a model found on images 0 .. images - 1.

    `image` (n,) is the index of the image, `boxes` (n, 4) are x1 y1 x2 y2 in pixels of the
    original image, `scores` (n,) are in 0..1, `classes` (n,) are class indices.
    """

    images: int
    image: Ints
    boxes: Floats
    scores: Floats
    classes: Ints

    def save(self, file: Path) -> None:
        """Write an npz file whole."""
        from yoloq.base.files import replace_when_whole

        with replace_when_whole(file) as temporary, open(temporary, "wb") as stream:
            np.savez_compressed(stream, **self.__dict__)

    @staticmethod
    def load(file: Path) -> "Detections":
        """Read what `save` wrote."""
        from yoloq.base.npz import opened

        with opened(file) as data:
            return Detections(
                images=int(data["images"]),
                image=data["image"],
                boxes=data["boxes"],
                scores=data["scores"],
                classes=data["classes"],
            )

    def first(self, images: int) -> "Detections":
        """Those of the first images."""
        kept = self.image < images
        return Detections(
            min(images, self.images),
            self.image[kept],
            self.boxes[kept],
            self.scores[kept],
            self.classes[kept],
        )


@dataclass(frozen=True)
class GroundTruth:
    """The labelled boxes of images 0 .. images - 1; same units as `Detections`.

    `areas` (n,) are in square pixels, `crowd` (n,) marks regions that neither match nor punish.
    """

    images: int
    image: Ints
    boxes: Floats
    classes: Ints
    areas: Floats
    crowd: NDArray[np.bool_]
