"""Training pictures from stored ones: scale, shift, flips, colour and mosaic.

Every geometric change is one axis-aligned affine map, so that a picture is resampled once and its
boxes stay exact. All randomness comes from the generator that the caller gives.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from yoloq.geometry.boxes import Image

Floats = NDArray[np.float32]
GREY = (114, 114, 114)  # YOLOv5's padding
KEPT = 0.3  # a box of which less than this part stays in the picture is dropped
MIN_SIDE = 3.0  # pixels; smaller boxes are dropped


@dataclass(frozen=True)
class Sample:
    """A picture (S, S, 3) uint8 RGB, its boxes (n, 4) x1 y1 x2 y2 in pixels, classes (n,)."""

    image: Image
    boxes: Floats
    classes: NDArray[np.int64]


@dataclass(frozen=True)
class Augment:
    """How strongly pictures are changed; all zero leaves only the resize.

    `scale` and `shift` are fractions of the picture's side, `fliplr`, `flipud` and `mosaic`
    probabilities, `hue`, `saturation` and `value` the largest relative gains.
    """

    scale: float = 0.25
    shift: float = 0.1
    fliplr: float = 0.5
    flipud: float = 0.5
    mosaic: float = 0.0
    hue: float = 0.015
    saturation: float = 0.4
    value: float = 0.3


@dataclass(frozen=True)
class View:
    """An axis-aligned map from picture pixels to output pixels: out = factor * pixel + offset."""

    factor: tuple[float, float]
    offset: tuple[float, float]


def make_sample(
    generator: np.random.Generator, sources: list[Sample], size: int, how: Augment
) -> Sample:
    """One training picture of side `size` from one source, or a mosaic of four."""
    if len(sources) == 1:
        sample = render(sources[0], random_view(generator, sources[0], size, how), size, size)
    else:
        sample = mosaic(generator, sources, size, how)
    return Sample(shift_colours(generator, sample.image, how), sample.boxes, sample.classes)


def random_view(generator: np.random.Generator, source: Sample, size: int, how: Augment) -> View:
    """A resize to `size` with random scale, shift and flips about the centre."""
    zoom = size / len(source.image) * (1 + generator.uniform(-how.scale, how.scale))
    flips = generator.random(2) < (how.fliplr, how.flipud)
    moved = (0.5 + generator.uniform(-how.shift, how.shift, 2)) * size
    half = len(source.image) / 2
    x, y = (-zoom if flip else zoom for flip in flips)
    return View((x, y), (float(moved[0]) - x * half, float(moved[1]) - y * half))


def mosaic(
    generator: np.random.Generator, sources: list[Sample], size: int, how: Augment
) -> Sample:
    """Four pictures around a random centre, each cut by its quarter (YOLOv4, arXiv 2004.10934)."""
    cut_x, cut_y = (int(c) for c in generator.uniform(0.3, 0.7, 2) * size)
    image = np.empty((size, size, 3), np.uint8)
    boxes, classes = [], []
    quarters = [
        (x1, y1, x2, y2)
        for y1, y2 in ((0, cut_y), (cut_y, size))
        for x1, x2 in ((0, cut_x), (cut_x, size))
    ]
    for source, (x1, y1, x2, y2) in zip(sources, quarters, strict=True):
        view = random_view(generator, source, size, how)
        free = generator.uniform(-0.25, 0.25, 2) * size
        place = ((x2 - x1 - size) / 2 + free[0], (y2 - y1 - size) / 2 + free[1])
        view = View(view.factor, (view.offset[0] + place[0], view.offset[1] + place[1]))
        part = render(source, view, x2 - x1, y2 - y1)
        image[y1:y2, x1:x2] = part.image
        boxes.append(part.boxes + np.array([x1, y1, x1, y1], np.float32))
        classes.append(part.classes)
    return Sample(image, np.concatenate(boxes), np.concatenate(classes))


def render(source: Sample, view: View, width: int, height: int) -> Sample:
    """Resample a picture through a view; boxes are clipped, and dropped when little remains."""
    import cv2

    (fx, fy), (tx, ty) = view.factor, view.offset
    # OpenCV's pixel centres lie at whole numbers, those of boxes at halves
    matrix = np.array([[fx, 0, tx + (fx - 1) / 2], [0, fy, ty + (fy - 1) / 2]])
    image = cv2.warpAffine(source.image, matrix, (width, height), borderValue=GREY)
    points = source.boxes.reshape(-1, 2, 2) * np.array([fx, fy]) + np.array([tx, ty])
    corners = np.concatenate((points.min(1), points.max(1)), 1).astype(np.float32)
    boxes = corners.clip(0, np.array([width, height, width, height], np.float32))
    kept = _worth_keeping(corners, boxes)
    return Sample(image, boxes[kept], source.classes[kept])


def _worth_keeping(before: Floats, after: Floats) -> NDArray[np.bool_]:
    """Which boxes still have `KEPT` of their area and sides of at least `MIN_SIDE` pixels."""
    full, left = before[:, 2:] - before[:, :2], after[:, 2:] - after[:, :2]
    enough = left.prod(1) >= KEPT * full.prod(1)
    result: NDArray[np.bool_] = enough & (left.min(1, initial=np.inf) >= MIN_SIDE)
    return result


def shift_colours(generator: np.random.Generator, image: Image, how: Augment) -> Image:
    """Random gains of hue, saturation and value, by look-up tables."""
    import cv2

    limits = np.array([how.hue, how.saturation, how.value])
    gains = 1 + generator.uniform(-1, 1, 3) * limits
    if not limits.any():
        return image
    steps = np.arange(256)
    tables = [(steps * gains[0]) % 180, *(np.clip(steps * gain, 0, 255) for gain in gains[1:])]
    table = np.stack(tables, -1).astype(np.uint8)[None]
    shifted = cv2.LUT(cv2.cvtColor(image, cv2.COLOR_RGB2HSV), table)
    return np.asarray(cv2.cvtColor(shifted, cv2.COLOR_HSV2RGB))
