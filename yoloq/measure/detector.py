"""From an image to named boxes."""

from collections.abc import Sequence
from typing import NamedTuple, overload

from yoloq.engines.predictor import Predictor
from yoloq.measure.image_path import ImagePath, Picture
from yoloq.models.heads.decode import Candidates


class Box(NamedTuple):
    """A detection: class name, score in 0..1, and corners in pixels of the original image."""

    name: str
    score: float
    x1: float
    y1: float
    x2: float
    y2: float


class Detector:
    """Boxes of images, by an engine; the best first.

    Args:
        predictor: the engine; its model says names, image size and thresholds.
        more: others of the same model that can run at once with it, on several images.
    """

    def __init__(self, predictor: Predictor, *more: Predictor) -> None:
        self.predictor = predictor
        self.path = ImagePath([predictor, *more])

    @overload
    def __call__(self, images: Picture) -> list[Box]: ...

    @overload
    def __call__(self, images: list[Picture] | tuple[Picture, ...]) -> list[list[Box]]: ...

    def __call__(
        self, images: Picture | list[Picture] | tuple[Picture, ...]
    ) -> list[Box] | list[list[Box]]:
        """Boxes of an image, or of each of several, which are read while the engine runs.

        Args:
            images: uint8 (H, W, 3) RGB or an image file, or a sequence of these.

        Raises:
            DataError: a file cannot be read as an image, or an array is none.
        """
        names = self.predictor.model.names
        if isinstance(images, list | tuple):
            return [named(found, names) for found in self.path.all(images)]
        return named(self.path(images), names)


def named(found: Candidates, names: Sequence[str]) -> list[Box]:
    """Boxes with their class names."""
    rows = zip(found.classes, found.scores, found.boxes, strict=True)
    return [Box(names[c], float(score), *map(float, box)) for c, score, box in rows]
