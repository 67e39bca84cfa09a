"""What a search for bits tried: what is spent of its budget against loss, the answer ringed."""

from typing import Any

from yoloq.base.result import StageResult
from yoloq.report.section import Figure, Section
from yoloq.report.svg.marks import Style
from yoloq.report.svg.scatter import Dot, Scatter

COSTS = {"size": "packed file, MB", "bops": "bit operations, G", "latency": "p50 of the engine, ms"}
MIXED, UNIFORM = Style(0), Style(1, filled=False)
CAPTION = (
    "Down and to the left is better. Each point was calibrated, repaired and run on the images, "
    "simulated in PyTorch; bars are 95% intervals of the loss, the ring is the answer."
)


def bits_front(result: StageResult) -> Section:
    """The chart and the table of a search for bits."""
    notes = result.notes
    unit = COSTS[notes["budget"]["kind"]]
    rows = notes["points"]
    best = [(row["cost"], 100 * row["loss"]) for row in rows if row["front"]]
    chart = Scatter(
        "Cost against loss of the bits that were tried",
        unit,
        "points of fidelity lost",
        [_dot(row) for row in rows],
        best,
        "front",
    )
    head = ("Bits", "Front", unit, "Loss", "95% interval", "Predicted", "AP50-95")
    words = (
        f"Asked for {notes['verdict']}.",
        f"{len(rows)} choices were measured on {result.data['images']} images.",
    )
    figures = (Figure(chart.draw(), CAPTION),)
    return Section(words, figures, (head, *map(_cells, rows)), notes)


def _dot(row: dict[str, Any]) -> Dot:
    low, high = row["loss_ci95"]
    return Dot(
        x=row["cost"],
        y=100 * row["loss"],
        ends=(100 * low, 100 * high) if high > low else None,
        hover=f"{row['name']}\n{row['cost']:.3f}, loss {100 * row['loss']:.2f} points",
        series="one width" if row["uniform"] else "mixed",
        style=UNIFORM if row["uniform"] else MIXED,
        name=row["name"] if row["answer"] or row["uniform"] else "",
        ringed=row["answer"],
    )


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    low, high = row["loss_ci95"]
    predicted = row["predicted_loss"]
    return (
        row["name"],
        "answer" if row["answer"] else "yes" if row["front"] else "",
        f"{row['cost']:.3f}",
        f"{100 * row['loss']:+.2f}",
        f"{100 * low:+.2f} to {100 * high:+.2f}",
        "-" if predicted is None else f"{100 * predicted:+.2f}",
        f"{100 * row['map50_95']:.2f}",
    )
