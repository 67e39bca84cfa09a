"""What a search tried: latency against loss, predictions beside measurements, the answer ringed."""

from typing import Any

from yoloq.report.run_folder import RunFolder
from yoloq.report.section import Figure, Missing, Section
from yoloq.report.sections.bits_front import bits_front
from yoloq.report.svg.marks import Style
from yoloq.report.svg.scatter import Dot, Scatter

UNITS = {"map": "AP50-95", "fidelity": "fidelity"}
HEADER = ("Engine", "Front", "ms", "Predicted ms", "Loss", "95% interval", "Fidelity", "AP50-95")
INT8, FLOAT = Style(0), Style(1, filled=False)
CAPTION = (
    "Down and to the left is better. Each point is an engine that was built, measured and timed "
    "here; bars are 95% intervals of the loss, the ring is the answer."
)


def search_front(run: RunFolder) -> Section | Missing:
    """The chart and the table of a search."""
    result = run.result("search")
    if result is None:
        return Missing("no other placement was searched for", run.command("search"))
    if "budget" in result.notes:
        return bits_front(result)
    notes = result.notes
    points = sorted(notes["points"], key=lambda point: point["ms"])
    dots = [_dot(point, notes["chosen"]) for point in points]
    best = [(point["ms"], 100 * point["loss"]) for point in points if point["front"]]
    unit = UNITS[notes["measure"]]
    chart = Scatter(
        "Latency against loss of the placements that were tried",
        "p50 of the model alone, ms",
        f"points of {unit} lost",
        dots,
        best,
        "front",
    )
    table = (HEADER, *(_cells(point, notes["chosen"]) for point in points))
    words = (
        f"Asked for {notes['verdict']}.",
        f"{len(points)} engines were built and measured on {result.data['images']} images.",
    )
    return Section(words, (Figure(chart.draw(), CAPTION),), table, notes)


def _predicted(point: dict[str, Any]) -> tuple[float | None, float | None]:
    """Milliseconds and loss; earlier results have the two as one list."""
    ms, loss = point.get("predicted") or (None, None)
    return point.get("predicted_ms", ms), point.get("predicted_loss", loss)


def _dot(point: dict[str, Any], chosen: str | None) -> Dot:
    ms, loss = _predicted(point)
    hover = (
        f"{point['name']}\n{point['ms']:.2f} ms, loss {100 * point['loss']:.2f} points\n"
        f"fidelity {point['fidelity']:.4f}, AP50-95 {100 * point['map50_95']:.2f}"
    )
    if ms is not None and loss is not None:
        hover += f"\npredicted {ms:.2f} ms, loss {100 * loss:.2f}"
    ends = point.get("loss_ci95")
    answer = point["name"] == chosen
    return Dot(
        x=point["ms"],
        y=100 * point["loss"],
        ends=(100 * ends[0], 100 * ends[1]) if ends and ends[1] > ends[0] else None,
        hover=hover,
        series="int8" if point["int8"] else "float",
        style=INT8 if point["int8"] else FLOAT,
        name=point["name"] if answer or not point["int8"] else "",
        ringed=answer,
    )


def _cells(point: dict[str, Any], chosen: str | None) -> tuple[str, ...]:
    ms, _ = _predicted(point)
    low, high = point.get("loss_ci95") or (None, None)
    answer = point["name"] == chosen
    return (
        point["name"],
        "answer" if answer else "yes" if point["front"] else "",
        f"{point['ms']:.2f}",
        "-" if ms is None else f"{ms:.2f}",
        f"{100 * point['loss']:+.2f}",
        "-" if low is None or high is None else f"{100 * low:+.2f} to {100 * high:+.2f}",
        f"{point['fidelity']:.4f}",
        f"{100 * point['map50_95']:.2f}",
    )
