"""The frame of a chart: grid, ticks, titles of the axes, a legend."""

from collections.abc import Sequence
from dataclasses import dataclass

from yoloq.report.svg.axis import Axis, short
from yoloq.report.svg.elements import line, text, width_of

LEFT, RIGHT, TOP, BOTTOM = 76, 16, 14, 46  # pixels around a chart's area


@dataclass(frozen=True)
class Frame:
    """A chart's area between two axes; y grows upward."""

    x: Axis
    y: Axis
    xlabel: str = ""
    ylabel: str = ""

    def draw(self, x_ticks: bool = True) -> str:
        """Grid lines with the values at their ends, and the titles of the axes."""
        left, right, bottom, top = self.x.start, self.x.end, self.y.start, self.y.end
        parts = []
        for value in self.y.ticks():
            y = self.y.at(value)
            parts.append(line((left, y), (right, y), "grid"))
            parts.append(text(left - 7, y + 4, short(value), "tick", "end"))
        for value in self.x.ticks() if x_ticks else ():
            x = self.x.at(value)
            parts.append(line((x, bottom), (x, top), "grid"))
            parts.append(text(x, bottom + 17, short(value), "tick", "middle"))
        parts.append(line((left, bottom), (right, bottom), "axis"))
        parts.append(text((left + right) / 2, bottom + 36, self.xlabel, "label", "middle"))
        middle = (bottom + top) / 2
        turned = f"rotate(-90 12 {middle:.1f})"
        parts.append(text(12, middle, self.ylabel, "label", "middle", transform=turned))
        return "".join(parts)


def legend(entries: Sequence[tuple[str, str]], x: float, y: float, width: float) -> tuple[str, int]:
    """Samples with their names in rows from a place on, and how many rows they take.

    Args:
        entries: a drawing around (0, 0), 24 wide, and its name.
        width: where a row ends.
    """
    parts, rows, place = [], 1, x
    for sample, name in entries:
        step = 24 + 8 + width_of(name) + 18
        if place + step > x + width and place > x:
            rows, place = rows + 1, x
        at = y + 20 * (rows - 1)
        parts.append(f'<g transform="translate({place + 12:.1f} {at:.1f})">{sample}</g>')
        parts.append(text(place + 30, at + 4, name, "tick"))
        place += step
    return "".join(parts), rows
