"""Image sizes in a COCO json, held against the files: do the boxes mean these pixels?"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from yoloq.base.errors import DataError
from yoloq.data.formats.coco.document import box_of
from yoloq.data.images import is_turned

SLACK = 2  # pixels; tools round, and some count from 1
FEW = 0.1  # share of the images; with more the figure is wrong, not a little off
ALIKE = 0.02  # largest difference between the ratios of width and height of a resized image


@dataclass(frozen=True)
class Clash:
    """An image whose json says another size; sizes are (height, width) in pixels."""

    image: Path
    said: tuple[int, int]
    found: tuple[int, int]

    @property
    def reason(self) -> str:
        """What happened, most likely, and what mends it."""
        tall, wide = (said / found for said, found in zip(self.said, self.found, strict=True))
        if _close(self.said, self.found[::-1]):
            if is_turned(self.image):
                return (
                    "EXIF turns the file and the json has its size before that; take the "
                    "orientation out of the files (exiftool -Orientation=)"
                )
            return "width and height are swapped; mend them, and the boxes if they are turned too"
        if abs(tall / wide - 1) < ALIKE:
            return (
                f"the file has {1 / wide:.3g} times the size; give the images that the json was "
                "made for, or scale its boxes"
            )
        return "it is another picture; give the images that the json was made for"

    def __str__(self) -> str:
        (height, width), (tall, wide) = self.found, self.said
        return f"{self.image}: {width} x {height}, in the json {wide} x {tall}: {self.reason}"


def said_size(entry: Mapping[str, Any]) -> tuple[int, int] | None:
    """(height, width) of an image as the json says, in text or not; None where it does not."""
    height, width = (_side(entry.get(side)) for side in ("height", "width"))
    return (height, width) if height and width else None


def _side(value: Any) -> int:
    """Pixels of a side; 0 where it says no number of them."""
    try:
        side = 0.0 if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        return 0
    return int(side) if 1 <= side < float("inf") else 0


def clash_of(
    image: Path, said: tuple[int, int] | None, found: tuple[int, int] | None
) -> Clash | None:
    """The clash of two sizes where both are known and further apart than rounding goes."""
    if said is None or found is None or _close(said, found):
        return None
    return Clash(image, said, found)


def check_sizes(
    file: Path,
    clashes: Mapping[Any, Clash],
    annotations: Sequence[Mapping[str, Any]],
    images: int,
) -> str:
    """What the user has to know of images that are not as large as the json says (or nothing).

    Boxes that fit the files and not the json's sizes are of the files' pixels: the sizes alone are
    wrong, and nothing follows from them. A few are no proof, as tools draw boxes across the edge.
    Without proof the boxes may be of other pixels than the files have.

    Args:
        clashes: by image id.
        images: how many were compared.

    Raises:
        DataError: that holds for more than a few images.
    """
    if not clashes:
        return ""
    first = next(iter(clashes.values()))
    text = f"{file}: {len(clashes)} of {images} images are not as large as it says, such as {first}"
    beyond_file, beyond_json = _reach(clashes, annotations)
    if beyond_file <= FEW * len(clashes) < beyond_json:
        return f"{text} (the boxes fit the files and are taken as they are)"
    if len(clashes) > FEW * images:
        raise DataError(text)
    return text


def _reach(
    clashes: Mapping[Any, Clash], annotations: Sequence[Mapping[str, Any]]
) -> tuple[int, int]:
    """How many of the images have a box that ends outside the file; outside what the json says."""
    beyond_file, beyond_json = set(), set()
    for annotation in annotations:
        clash = clashes.get(annotation["image_id"])
        try:
            left, top, width, height = box_of(annotation)
        except ValueError:
            continue
        if clash is not None:
            end = top + height, left + width
            beyond_file |= {clash.image} if _outside(end, clash.found) else set()
            beyond_json |= {clash.image} if _outside(end, clash.said) else set()
    return len(beyond_file), len(beyond_json)


def _outside(end: tuple[float, float], size: tuple[int, int]) -> bool:
    return any(a > b + SLACK for a, b in zip(end, size, strict=True))


def _close(a: tuple[int, int], b: tuple[int, int]) -> bool:
    return all(abs(one - other) <= SLACK for one, other in zip(a, b, strict=True))
