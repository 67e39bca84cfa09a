"""What the worst layers read, as histograms, and where each calibrator cuts them."""

from typing import Any

from yoloq.report.run_folder import RunFolder
from yoloq.report.section import Figure, Missing, Section
from yoloq.report.svg.axis import Axis, spanning
from yoloq.report.svg.elements import drawing, element, line, number, text
from yoloq.report.svg.frame import BOTTOM, LEFT, RIGHT, Frame, legend
from yoloq.report.svg.marks import look

WIDTH, HEIGHT = 520.0, 300.0
WORDS = (
    "Inputs of the layers with the most error of their own, on the calibration images; counts are "
    "logarithmic. Lines are amax as each calibrator chooses it: what lies beyond is clipped, what "
    "lies within has 127 steps. The one in use is the solid line."
)


def range_histograms(run: RunFolder) -> Section | Missing:
    """A histogram a layer, and the table of all bounds."""
    result = run.result("diagnose")
    if result is None:
        return Missing("ranges were not looked at", run.command("diagnose"))
    found = result.notes.get("histograms")
    if not found:
        command = run.command("diagnose", "--force")
        return Missing("the diagnosis was made without histograms (--plots 0, or earlier)", command)
    names = list(dict.fromkeys(name for item in found for name in item["amax"]))
    rows = (
        (item["layer"], item["used"], *(_number(item["amax"].get(name)) for name in names))
        for item in found
    )
    table = (("Input of", "In use", *names), *rows)
    return Section((WORDS,), tuple(Figure(_chart(item)) for item in found), table, found)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"


def _chart(item: dict[str, Any]) -> str:
    amax, used = item["amax"], item["used"]
    order = sorted(amax, key=lambda name: (name != used, amax[name]))
    looks = {name: look(index) for index, name in enumerate(order)}
    styles = {name: f"{colour} bound {dash}".strip() for name, (colour, dash, _) in looks.items()}
    entries = [
        (line((-12.0, 0.0), (12.0, 0.0), css), f"{n} {amax[n]:.4g}") for n, css in styles.items()
    ]
    title = f"input of {item['layer']}"
    key, rows = legend(entries, LEFT, 34, WIDTH - LEFT - RIGHT)
    edges, counts = item["edges"], item["counts"]
    ends = [edges[0], edges[-1], *amax.values()]
    x = spanning(ends, LEFT, WIDTH - RIGHT)
    y = Axis(0.5, 2.0 * max([*counts, 1]), HEIGHT - BOTTOM, 34 + 20.0 * rows, log=True)
    parts = [Frame(x, y, "value", "elements").draw(), _outline(edges, counts, x, y)]
    for name in reversed(order):  # the one in use on top
        sides = (amax[name], -amax[name]) if edges[0] < 0 else (amax[name],)
        for bound in sides:
            if x.low <= bound <= x.high:
                hover = f"{name}: amax {amax[name]:.4g}{' (in use)' if name == used else ''}"
                at = x.at(bound)
                parts.append(line((at, y.start), (at, y.end), styles[name], hover))
    return drawing(WIDTH, HEIGHT, title, text(LEFT, 16, title, "head"), key, *parts)


def _outline(edges: list[float], counts: list[int], x: Axis, y: Axis) -> str:
    """The bins as one shape: a hundred rectangles would have gaps between them."""
    steps = [f"M{number(x.at(edges[0]))} {number(y.start)}"]
    for right, count in zip(edges[1:], counts, strict=True):
        steps.append(f"V{number(y.at(count) if count else y.start)}H{number(x.at(right))}")
    d = "".join(steps) + f"V{number(y.start)}Z"
    return element("path", d=d, class_="bins", title=f"{sum(counts)} elements of the sample")
