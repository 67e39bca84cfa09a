"""SVG elements as text."""

from collections.abc import Sequence
from html import escape
from typing import Any

Point = tuple[float, float]


def element(tag: str, content: str = "", title: str = "", **attributes: Any) -> str:
    """An element with its attributes; `stroke_width` becomes stroke-width, `class_` class.

    Args:
        content: elements inside, as text; not escaped.
        title: what hovering over it shows.
    """
    text = "".join(
        f' {name.rstrip("_").replace("_", "-")}="{escape(number(value))}"'
        for name, value in attributes.items()
        if value not in (None, "")
    )
    inside = f"<title>{escape(title)}</title>{content}" if title else content
    return f"<{tag}{text}>{inside}</{tag}>"


def number(value: object) -> str:
    """A value as an attribute: numbers with at most two decimals."""
    if not isinstance(value, float):
        return str(value)
    text = f"{value:.2f}"
    return text.rstrip("0").rstrip(".")


def text(x: float, y: float, words: str, css: str = "", anchor: str = "", **more: Any) -> str:
    """Words at a place; `anchor` is start (the default), middle or end."""
    return element("text", escape(words), x=x, y=y, class_=css, text_anchor=anchor, **more)


def line(start: Point, end: Point, css: str, title: str = "") -> str:
    """A straight line."""
    (x1, y1), (x2, y2) = start, end
    return element("line", title=title, x1=x1, y1=y1, x2=x2, y2=y2, class_=css)


def polyline(points: Sequence[Point], css: str, title: str = "") -> str:
    """A line through points, in their order."""
    places = " ".join(f"{number(float(x))},{number(float(y))}" for x, y in points)
    return element("polyline", title=title, points=places, class_=css, fill="none")


def rectangle(
    corner: Point, width: float, height: float, css: str, title: str = "", **more: Any
) -> str:
    """A rectangle from its upper left corner; none of a width or height below 0."""
    x, y = corner
    width, height = max(width, 0.0), max(height, 0.0)
    size: dict[str, Any] = {"x": x, "y": y, "width": width, "height": height}
    return element("rect", title=title, class_=css, **size, **more)


def drawing(width: float, height: float, name: str, *parts: str) -> str:
    """The whole picture; `name` is what a screen reader says."""
    box = f"0 0 {number(float(width))} {number(float(height))}"
    style = f"--w:{number(float(width))}px"  # no chart is drawn larger than it was made
    return element(
        "svg",
        "".join(parts),
        viewBox=box,
        role="img",
        aria_label=name,
        style=style,
        class_="chart",
    )


def width_of(words: str, size: float = 12) -> float:
    """About how wide words are in pixels: a little more than a sans-serif font needs."""
    return 0.62 * size * len(words)
