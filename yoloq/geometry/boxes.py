"""Letterbox and box geometry as pure functions on NumPy arrays."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from yoloq.geometry.detections import Floats

Image = NDArray[np.uint8]

PAD_GREY = 114


@dataclass(frozen=True)
class Letterbox:
    """How an image went into the square: x' = x * scale_x + pad_x, y' = y * scale_y + pad_y.

    `ratio` is imgsz / longer side, `pad_x` and `pad_y` are the grey columns on the left and rows
    on top, `height` and `width` are of the original image; all sizes in pixels.
    """

    ratio: float
    pad_x: int
    pad_y: int
    height: int
    width: int

    @property
    def scale(self) -> tuple[float, float]:
        """Exact (scale_x, scale_y): rounding to whole pixels moves the shorter side's."""
        height, width = resized_shape(self.height, self.width, self.ratio)
        return width / self.width, height / self.height


def resized_shape(height: int, width: int, ratio: float) -> tuple[int, int]:
    """Height and width that an image has in its letterbox, before the padding.

    Rounds up, as `load_image` of YOLOv5 v6.2 to v7.0 does. Where the product of the longer side
    and the ratio rounds to just above imgsz (YOLOv5 then shrinks the image a second time, by one
    pixel), it stays imgsz.
    """
    longest = round(max(height, width) * ratio)
    shorter_or_equal = (min(math.ceil(side * ratio), longest) for side in (height, width))
    new_height, new_width = shorter_or_equal
    return new_height, new_width


def letterbox(image: Image, imgsz: int) -> tuple[Image, Letterbox]:
    """Fit an image into a grey square as YOLOv5's val.py does (`auto=False`).

    The longer side becomes `imgsz` (INTER_AREA when it shrinks, INTER_LINEAR when it grows), the
    rest is grey 114, an odd row or column of it going to the bottom or the right.

    Args:
        image: uint8 (H, W, 3).
        imgsz: side of the square in pixels.

    Returns:
        uint8 (imgsz, imgsz, 3), contiguous, and the geometry that `to_original` takes.
    """
    import cv2

    height, width = image.shape[:2]
    ratio = imgsz / max(height, width)
    new_height, new_width = resized_shape(height, width, ratio)
    if ratio != 1:
        interpolation = cv2.INTER_LINEAR if ratio > 1 else cv2.INTER_AREA
        image = cv2.resize(image, (new_width, new_height), interpolation=interpolation)
    top, left = (imgsz - new_height) // 2, (imgsz - new_width) // 2
    square = np.full((imgsz, imgsz, 3), PAD_GREY, dtype=np.uint8)
    square[top : top + new_height, left : left + new_width] = image
    return square, Letterbox(ratio, left, top, height, width)


def to_original(boxes: NDArray[Any], box: Letterbox) -> Floats:
    """Boxes (n, 4) xyxy in letterboxed pixels -> pixels of the original image, clipped to it.

    Exact where YOLOv5's `scale_boxes` is not: that one takes the height's scale for both axes and
    half a pixel where the padding is odd.
    """
    scale = np.array(box.scale * 2, dtype=np.float32)
    pad = np.array((box.pad_x, box.pad_y) * 2, dtype=np.float32)
    limit = np.array((box.width, box.height) * 2, dtype=np.float32)
    original = (np.asarray(boxes, dtype=np.float32).reshape(-1, 4) - pad) / scale
    return np.clip(original, 0, limit)


def xywh_to_xyxy(boxes: NDArray[Any]) -> NDArray[Any]:
    """Centre x, centre y, width, height (..., 4) -> left, top, right, bottom; any unit."""
    half = boxes[..., 2:] / 2
    return np.concatenate([boxes[..., :2] - half, boxes[..., :2] + half], axis=-1)


def area(boxes: NDArray[Any]) -> NDArray[Any]:
    """Area (...) of boxes (..., 4) xyxy; 0 for a box turned inside out."""
    sides = np.clip(boxes[..., 2:] - boxes[..., :2], 0, None)
    return sides[..., 0] * sides[..., 1]


def overlap(a: NDArray[Any], b: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Areas (...) of intersection and union of boxes (..., 4) xyxy that broadcast.

    A box turned inside out has no area. `a[:, None], b[None]` gives all pairs.
    """
    shared = intersection(np.moveaxis(a, -1, 0), np.moveaxis(b, -1, 0))
    return shared, area(a) + area(b) - shared


def intersection(a: NDArray[Any], b: NDArray[Any]) -> NDArray[Any]:
    """Area (...) that boxes share; both are x1, y1, x2, y2 along the first axis and broadcast."""
    width = np.minimum(a[2], b[2]) - np.maximum(a[0], b[0])
    height = np.minimum(a[3], b[3]) - np.maximum(a[1], b[1])
    shared: NDArray[Any] = np.maximum(width, 0) * np.maximum(height, 0)
    return shared


def iou(a: NDArray[Any], b: NDArray[Any]) -> NDArray[Any]:
    """Intersection over union (...) of boxes (..., 4) xyxy that broadcast.

    0 for two boxes without area, and where one is no number.
    """
    return ratio(*overlap(a, b))


def ratio(shared: NDArray[Any], whole: NDArray[Any]) -> NDArray[Any]:
    """Share of one area in another; 0 where that is none, or no number."""
    found = np.zeros(shared.shape, np.result_type(shared, np.float32))
    return np.divide(shared, whole, out=found, where=whole > 0)
