"""Marks of points: shapes that are told apart without colours, and intervals."""

import math
from dataclasses import dataclass

from yoloq.report.svg.elements import Point, element, line, number

SHAPES = ("circle", "square", "triangle", "diamond", "pentagon", "cross")
COLOURS = 6  # classes c1 to c6
DASHES = ("", "dash1", "dash2", "dash3", "dash4", "dash5")
CORNERS = {"square": (4, 45), "triangle": (3, -90), "diamond": (4, 0), "pentagon": (5, -90)}


def look(index: int) -> tuple[str, str, str]:
    """Classes of colour and dash, and the shape, of a series by its number; 36 look different."""
    turned = index + index // COLOURS  # where colours begin again, shapes and dashes have moved on
    return f"c{index % COLOURS + 1}", DASHES[turned % len(DASHES)], SHAPES[turned % len(SHAPES)]


@dataclass(frozen=True)
class Style:
    """How a series looks: the number of its colour, shape and dash, and whether it is filled."""

    index: int
    filled: bool = True

    @property
    def css(self) -> str:
        """Its classes."""
        return f"{look(self.index)[0]} {'solid' if self.filled else 'hollow'}"

    @property
    def stroke(self) -> str:
        """Classes of its lines."""
        colour, dash, _ = look(self.index)
        return f"{colour} stroke {dash}".strip()

    def mark(self, place: Point, title: str = "", size: float = 6) -> str:
        """Its shape at a place."""
        x, y = place
        _, _, shape = look(self.index)
        if shape == "circle":
            return element("circle", title=title, cx=x, cy=y, r=size, class_=self.css)
        if shape == "cross":
            d = f"M{number(x - size)} {number(y - size)}l{2 * size} {2 * size}m0 {-2 * size}"
            return element("path", title=title, d=f"{d}l{-2 * size} {2 * size}", class_=self.stroke)
        corners, turn = CORNERS[shape]
        angles = (math.radians(turn + 360 * each / corners) for each in range(corners))
        reach = 1.25 * size
        points = (f"{x + reach * math.cos(a):.2f},{y + reach * math.sin(a):.2f}" for a in angles)
        return element("polygon", title=title, points=" ".join(points), class_=self.css)

    def sample(self) -> str:
        """Its line with its shape, for a legend."""
        return line((-12.0, 0.0), (12.0, 0.0), self.stroke) + self.mark((0.0, 0.0), size=4)


def interval(style: Style, x: float, low: float, high: float) -> str:
    """An upright interval with caps; the ends are pixels."""
    css = f"{look(style.index)[0]} whisker"
    caps = (line((x - 4, y), (x + 4, y), css) for y in (low, high))
    return line((x, low), (x, high), css) + "".join(caps)
