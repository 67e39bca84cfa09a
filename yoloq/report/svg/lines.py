"""Lines through points that share an axis, with a legend, limits and marked places."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from yoloq.report.svg.axis import Axis, spanning
from yoloq.report.svg.elements import drawing, line, polyline, text
from yoloq.report.svg.frame import BOTTOM, LEFT, RIGHT, TOP, Frame, legend
from yoloq.report.svg.marks import Style


@dataclass(frozen=True)
class Series:
    """A line: its name, its (x, y) and what hovering over each shows; `joined` draws the line."""

    name: str
    points: Sequence[tuple[float, float]]
    hovers: Sequence[str]
    style: Style
    joined: bool = True


@dataclass(frozen=True)
class Lines:
    """A chart of lines.

    Attributes:
        limits: levels that are drawn across, with their names.
        marked: places on the x axis that are drawn upward, with their names.
        ticks: places on the x axis with their names, in the place of numbers.
    """

    title: str
    xlabel: str
    ylabel: str
    series: Sequence[Series]
    log: bool = False
    limits: Sequence[tuple[float, str]] = ()
    marked: Sequence[tuple[float, str]] = ()
    ticks: Sequence[tuple[float, str]] = ()
    width: float = 720.0
    height: float = 300.0

    def draw(self) -> str:
        """The chart as SVG."""
        entries = [(each.style.sample(), each.name) for each in self.series]
        entries += [(line((-12, 0), (12, 0), "limit"), name) for _, name in self.limits]
        key, rows = legend(entries, LEFT, 12, self.width - LEFT - RIGHT)
        points = [point for each in self.series for point in each.points]
        x = spanning([point[0] for point in points], LEFT, self.width - RIGHT)
        levels = [*(point[1] for point in points), *(level for level, _ in self.limits)]
        y = spanning(levels, self.height - BOTTOM, TOP + 20.0 * rows, self.log)
        parts = [Frame(x, y, self.xlabel, self.ylabel).draw(x_ticks=not self.ticks)]
        parts += self._guides(x, y)
        for each in self.series:
            parts += _line(each, x, y)
        return drawing(self.width, self.height, self.title, key, *parts)

    def _guides(self, x: Axis, y: Axis) -> list[str]:
        across = [line((x.start, y.at(v)), (x.end, y.at(v)), "limit") for v, _ in self.limits]
        for place, name in self.marked:
            at = x.at(place)
            across.append(line((at, y.start), (at, y.end), "limit"))
            anchor, step = ("end", -5) if at > (x.start + x.end) / 2 else ("start", 5)
            across.append(text(at + step, y.end - 4, name, "tick", anchor))
        last = -math.inf
        for place, name in self.ticks:
            if (
                x.low <= place <= x.high and x.at(place) - last >= 20
            ):  # pixels; nearer ones would run into each other
                last = x.at(place)
                across.append(line((last, y.start), (last, y.end), "grid"))
                across.append(text(last, y.start + 17, name, "tick", "middle"))
        return across


def _line(each: Series, x: Axis, y: Axis) -> list[str]:
    good = [
        (point, hover)
        for point, hover in zip(each.points, each.hovers, strict=True)
        if math.isfinite(point[1])
    ]
    places = [(x.at(px), y.at(py)) for (px, py), _ in good]
    parts = [polyline(places, each.style.stroke)] if each.joined and len(places) > 1 else []
    marks = zip(places, good, strict=True)
    return parts + [each.style.mark(place, hover, 4) for place, (_, hover) in marks]
