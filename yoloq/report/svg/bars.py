"""Horizontal bars with intervals, the first on top."""

from collections.abc import Sequence
from dataclasses import dataclass

from yoloq.report.svg.axis import short, spanning
from yoloq.report.svg.elements import drawing, line, rectangle, text, width_of

WIDTH, ROW, FOOT = 720.0, 22.0, 44.0


@dataclass(frozen=True)
class Bar:
    """A name, its value, the ends of its interval, and what hovering shows."""

    name: str
    value: float
    ends: tuple[float, float] | None
    hover: str


def horizontal_bars(title: str, bars: Sequence[Bar], xlabel: str) -> str:
    """The chart; one whose interval lies above 0 is darker than one that may be nothing."""
    left = 20 + max(width_of(bar.name) for bar in bars)
    height = ROW * len(bars) + FOOT
    reach = [end for bar in bars for end in (bar.value, *(bar.ends or ()))]
    x = spanning(reach, left, WIDTH - 20, zero=True)
    parts = []
    for value in x.ticks():
        at = x.at(value)
        parts.append(line((at, 0.0), (at, height - FOOT), "grid"))
        parts.append(text(at, height - FOOT + 16, short(value), "tick", "middle"))
    for index, bar in enumerate(bars):
        parts += _bar(bar, ROW * index, left, x.at(0), x.at(bar.value))
        if bar.ends:
            low, high, middle = x.at(bar.ends[0]), x.at(bar.ends[1]), ROW * (index + 0.5)
            parts.append(line((low, middle), (high, middle), "whisker ink"))
            caps = (line((at, middle - 4), (at, middle + 4), "whisker ink") for at in (low, high))
            parts += caps
    parts.append(line((x.at(0), 0.0), (x.at(0), height - FOOT), "axis"))
    parts.append(text((left + WIDTH - 20) / 2, height - 8, xlabel, "label", "middle"))
    return drawing(WIDTH, height, title, *parts)


def _bar(bar: Bar, top: float, left: float, zero: float, end: float) -> list[str]:
    certain = bar.ends is not None and (bar.ends[0] > 0 or bar.ends[1] < 0)
    css = f"c{1 if bar.value >= 0 else 2} solid{'' if certain else ' faint'}"
    corner = (min(zero, end), top + 4)
    return [
        text(left - 8, top + ROW / 2 + 4, bar.name, "tick", "end"),
        rectangle(corner, abs(end - zero), ROW - 8, css),
        # the whole row answers to the pointer, not the bar alone
        rectangle((0.0, top), WIDTH, ROW, "catch", bar.hover),
    ]
