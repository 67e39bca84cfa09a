"""What the four numbers of the boxes in a COCO json are: they should be x, y, width and height."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from yoloq.base.errors import DataError
from yoloq.data.formats.coco.document import box_of
from yoloq.data.formats.coco.sizes import FEW, SLACK


def check_boxes(
    file: Path,
    annotations: Iterable[Mapping[str, Any]],
    sizes: Mapping[Any, tuple[int, int] | None],
) -> str:
    """What the user has to know of boxes that seem to be of two corners (or nothing).

    As corners every one of them would lie inside its image, while as x, y, width and height more
    than a few reach out of it.

    Args:
        sizes: (height, width) by image id.

    Raises:
        DataError: they are fractions of the images.
    """
    found = [_box_and_size(annotation, sizes) for annotation in annotations]
    boxes = np.array([pair for pair in found if pair]).reshape(-1, 6)
    if not len(boxes):
        return ""
    x, y, width, height, tall, wide = boxes.T
    if max((x + width).max(), (y + height).max()) <= 1:
        raise DataError(
            f"{file}: its boxes are fractions of the images; multiply them by width and height, as "
            "a COCO json has pixels"
        )
    inside = (x < width) & (y < height) & (width <= wide + SLACK) & (height <= tall + SLACK)
    beyond = (x + width > wide + SLACK) | (y + height > tall + SLACK)
    if inside.all() and beyond.mean() > FEW:
        return (
            f"{file}: its boxes seem to be two corners, x1 y1 x2 y2; write x, y, width and height, "
            "or mAP means nothing"
        )
    return ""


def _box_and_size(
    annotation: Mapping[str, Any], sizes: Mapping[Any, tuple[int, int] | None]
) -> list[float] | None:
    """The box and the height and width of its image; None where one of them is not known."""
    size = sizes.get(annotation["image_id"])
    try:
        return None if size is None else [*box_of(annotation), *size]
    except ValueError:
        return None
