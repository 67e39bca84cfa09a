"""Points with intervals, their names, and a line along the best of them."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from yoloq.report.svg.axis import Axis, spanning
from yoloq.report.svg.elements import drawing, element, polyline
from yoloq.report.svg.frame import BOTTOM, LEFT, RIGHT, TOP, Frame, legend
from yoloq.report.svg.marks import Style, interval
from yoloq.report.svg.name_places import names_of

WIDTH, HEIGHT = 720.0, 400.0


@dataclass(frozen=True)
class Dot:
    """A point at (x, y) with the ends of its interval, its name and what hovering shows.

    `named` stands beside it; `ringed` sets it off; `series` is its place in the legend.
    """

    x: float
    y: float
    ends: tuple[float, float] | None
    hover: str
    series: str
    style: Style
    name: str = ""
    ringed: bool = False


@dataclass(frozen=True)
class Scatter:
    """A chart of dots; `best` (x, y) are joined by steps, the smallest x first."""

    title: str
    xlabel: str
    ylabel: str
    dots: Sequence[Dot]
    best: Sequence[tuple[float, float]] = field(default=())
    best_name: str = "Pareto line"

    def draw(self) -> str:
        """The chart as SVG."""
        series = {dot.series: dot.style for dot in self.dots}
        entries = [(style.mark((0.0, 0.0)), name) for name, style in series.items()]
        if self.best:
            entries.insert(0, (polyline([(-12, 0), (12, 0)], "pareto"), self.best_name))
        key, rows = legend(entries, LEFT, 12, WIDTH - LEFT - RIGHT)
        top = TOP + 20.0 * rows
        ends = [end for dot in self.dots for end in (dot.y, *(dot.ends or ()))]
        x = spanning([dot.x for dot in self.dots], LEFT, WIDTH - RIGHT)
        y = spanning(ends, HEIGHT - BOTTOM, top)
        parts = [Frame(x, y, self.xlabel, self.ylabel).draw(), self._steps(x, y)]
        places = []
        for dot in self.dots:
            place = (x.at(dot.x), y.at(dot.y))
            if dot.ends:
                parts.append(interval(dot.style, place[0], *map(y.at, dot.ends)))
            if dot.ringed:
                parts.append(element("circle", cx=place[0], cy=place[1], r=12, class_="ring"))
            parts.append(dot.style.mark(place, dot.hover))
            places.append((place, dot.name))
        named = sorted(places, key=lambda item: not item[1])
        parts.append(names_of(named, x, y))
        return drawing(WIDTH, HEIGHT, self.title, key, *parts)

    def _steps(self, x: Axis, y: Axis) -> str:
        """From each of the best to the next: level to its x, then up or down to it."""
        corners: list[tuple[float, float]] = []
        for point in self.best:
            place = (x.at(point[0]), y.at(point[1]))
            if corners:
                corners.append((place[0], corners[-1][1]))
            corners.append(place)
        return polyline(corners, "pareto") if len(corners) > 1 else ""
