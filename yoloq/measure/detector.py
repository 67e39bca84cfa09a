"""From an image to named boxes: a loaded engine with letterbox, decoding and NMS around it."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, overload

import numpy as np

from yoloq.base.errors import DataError
from yoloq.data.images import fault, read_image
from yoloq.engines.predictor import Predictor
from yoloq.geometry.boxes import Image, letterbox
from yoloq.measure.evaluate import MAX_DET, find_boxes
from yoloq.models.heads.decode import Candidates


class Box(NamedTuple):
    """A detection: class name, score in 0..1, and corners in pixels of the original image."""

    name: str
    score: float
    x1: float
    y1: float
    x2: float
    y2: float


Picture = Image | str | Path


class Detector:
    """Boxes of images, by an engine; the best first.

    Args:
        predictor: the engine; its model says names, image size and thresholds.
    """

    def __init__(self, predictor: Predictor) -> None:
        self.predictor = predictor

    @overload
    def __call__(self, images: Picture) -> list[Box]: ...

    @overload
    def __call__(self, images: list[Picture] | tuple[Picture, ...]) -> list[list[Box]]: ...

    def __call__(
        self, images: Picture | list[Picture] | tuple[Picture, ...]
    ) -> list[Box] | list[list[Box]]:
        """Boxes of an image, or of each of several.

        Args:
            images: uint8 (H, W, 3) RGB or an image file, or a sequence of these.

        Raises:
            DataError: a file cannot be read as an image, or an array is none.
        """
        if isinstance(images, list | tuple):
            return [self._boxes(image) for image in images]
        return self._boxes(images)

    def _boxes(self, image: Picture) -> list[Box]:
        info = self.predictor.model
        square, geometry = letterbox(_pixels(image), info.imgsz)
        raws = self.predictor(square[None])
        [found] = find_boxes(raws, info.head, [geometry], info.conf, info.iou, MAX_DET)
        return named(found, info.names)


def named(found: Candidates, names: Sequence[str]) -> list[Box]:
    """Boxes with their class names."""
    rows = zip(found.classes, found.scores, found.boxes, strict=True)
    return [Box(names[c], float(score), *map(float, box)) for c, score, box in rows]


def _pixels(image: Picture) -> Image:
    if isinstance(image, np.ndarray):
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
            raise DataError(
                f"an image is {image.dtype} {image.shape}: give uint8 (H, W, 3) in the order RGB"
            )
        return image
    if not isinstance(image, str | Path):  # a notebook checks no types
        raise DataError(f"an image is a {type(image).__name__}: give a file or a uint8 array")
    pixels = read_image(Path(image))
    if pixels is None:
        raise DataError(f"{image}: {fault(Path(image))}; check the file")
    return pixels
