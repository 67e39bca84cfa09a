"""What the four numbers of the boxes in a COCO json are: they should be x, y, width and height."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from yoloq.base.errors import DataError
from yoloq.data.formats.coco.document import box_of
from yoloq.data.formats.coco.sizes import FEW, SLACK


def check_boxes(
    file: Path,
    annotations: Iterable[Mapping[str, Any]],
    sizes: Mapping[Any, tuple[int, int] | None],
    images: Mapping[Any, Path],
) -> str:
    """What the user has to know of boxes of which more than a few reach out of their images.

    They are cut off there, which is right for the odd one alone. Boxes that are outside altogether
    are skipped, and named elsewhere.

    Args:
        sizes: (height, width) by image id.
        images: by image id.

    Raises:
        DataError: they are fractions of the images.
    """
    known = [(_box_and_size(each, sizes), each["image_id"]) for each in annotations]
    found = [(pair, identity) for pair, identity in known if pair]
    if not found:
        return ""
    table = np.array([pair for pair, _ in found])
    x, y, width, height, tall, wide = table.T
    if max((x + width).max(), (y + height).max()) <= 1:
        raise DataError(
            f"{file}: its boxes are fractions of the images; multiply them by width and height, as "
            "a COCO json has pixels"
        )
    ends = (x + width > wide + SLACK) | (y + height > tall + SLACK) | (np.minimum(x, y) < -SLACK)
    beyond = ends & (x < wide) & (y < tall) & (x + width > 0) & (y + height > 0)
    if beyond.mean() <= FEW:
        return ""
    if _are_corners(table):
        return (
            f"{file}: its boxes seem to be two corners, x1 y1 x2 y2; write x, y, width and height, "
            "or mAP means nothing"
        )
    first = int(np.argmax(beyond))
    *box, height, width = (f"{value:g}" for value in table[first])
    return (
        f"{file}: {beyond.sum()} of {len(table)} boxes reach out of their images, such as "
        f"{', '.join(box)} of {images[found[first][1]]}, {width} x {height}: {_reason(table)}, or "
        "mAP means little"
    )


def _are_corners(table: NDArray[Any]) -> bool:
    """Whether all boxes would lie inside their images as two corners each."""
    x, y, right, bottom, tall, wide = table.T
    ordered = (x >= -SLACK) & (x < right) & (y >= -SLACK) & (y < bottom)
    return bool((ordered & (right <= wide + SLACK) & (bottom <= tall + SLACK)).all())


def _reason(table: NDArray[Any]) -> str:
    """Why, most likely, boxes are not inside, and what mends it."""
    y, x, height, width, tall, wide = table.T
    inside = (x + width <= wide + SLACK) & (y + height <= tall + SLACK)
    if (inside & (np.minimum(x, y) >= -SLACK)).all():
        return "x and y, width and height seem to be swapped; swap them"
    return "they may be of images of another size; scale them"


def _box_and_size(
    annotation: Mapping[str, Any], sizes: Mapping[Any, tuple[int, int] | None]
) -> list[float] | None:
    """The box and the height and width of its image; None where one of them is not known."""
    size = sizes.get(annotation["image_id"])
    try:
        return None if size is None else [*box_of(annotation), *size]
    except ValueError:
        return None
