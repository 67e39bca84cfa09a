"""Where the names of points stand, so that none covers another or a point."""

from collections.abc import Sequence
from dataclasses import dataclass

from yoloq.report.svg.axis import Axis
from yoloq.report.svg.elements import Point, text, width_of

HEIGHT = 13.0
GAP = 9.0
LINES = (0, 1, -1, 2, -2, 3, -3)  # rows below or above the point's own that are tried


@dataclass(frozen=True)
class Box:
    """A rectangle in pixels."""

    left: float
    top: float
    right: float
    bottom: float

    def meets(self, other: "Box") -> bool:
        """Whether the two overlap."""
        return (
            self.left < other.right
            and other.left < self.right
            and self.top < other.bottom
            and other.top < self.bottom
        )


def names_of(points: Sequence[tuple[Point, str]], x: Axis, y: Axis) -> str:
    """The names of points beside them; one that finds no free place is left to hovering.

    Args:
        points: places in pixels, each with its name; those to be named first come first.
        x, y: the area that names stay within.
    """
    area = Box(x.start, min(y.start, y.end), x.end, max(y.start, y.end))
    taken = [Box(px - 6, py - 6, px + 6, py + 6) for (px, py), _ in points]
    parts = []
    for place, name in points:
        free = next((box for box in _offers(place, name) if _fits(box, area, taken)), None)
        if free is not None:
            taken.append(free)
            parts.append(text(free.left, free.bottom - 3, name, "name"))
    return "".join(parts)


def _offers(place: Point, name: str) -> list[Box]:
    """Boxes to the right and to the left, the nearest rows first."""
    (px, py), width = place, width_of(name, 11)
    lefts = (px + GAP, px - GAP - width)
    return [
        Box(left, py + HEIGHT * row - HEIGHT / 2, left + width, py + HEIGHT * row + HEIGHT / 2)
        for row in LINES
        for left in lefts
    ]


def _fits(box: Box, area: Box, taken: Sequence[Box]) -> bool:
    inside = (
        box.left >= area.left
        and box.right <= area.right
        and box.top >= area.top
        and box.bottom <= area.bottom
    )
    return inside and not any(box.meets(other) for other in taken)
