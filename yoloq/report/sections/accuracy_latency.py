"""Engines as points: AP with its interval against latency, and those that none beats."""

from collections.abc import Sequence
from typing import Any

from yoloq.base.result import Row
from yoloq.measure.pareto import Spot, pareto
from yoloq.report.recommendation import is_int8, milliseconds, timed_rows
from yoloq.report.run_folder import RunFolder
from yoloq.report.section import Figure, Missing, Section
from yoloq.report.svg.marks import Style
from yoloq.report.svg.scatter import Dot, Scatter
from yoloq.report.words import engine_name, row_name

HEADER = ("Run", "Engine", "Precision", "p50 ms", "AP50-95", "95% interval", "Best")
CAPTION = (
    "Up and to the left is better. Filled: int8; hollow: float. Bars are the 95% interval of the "
    "difference from FP32 on the same images; the line joins engines that no other beats in both."
)


def accuracy_latency(run: RunFolder) -> Section | Missing:
    """The chart of a run's engines."""
    return of_runs([run])


def of_runs(runs: Sequence[RunFolder], left_out: Sequence[str] = ()) -> Section | Missing:
    """The chart of the engines of one or several runs of the same images and machine.

    Args:
        left_out: what is said of others.
    """
    several = len(runs) > 1
    rows = [(run.name if several else "", row) for run in runs for row in timed_rows(run)]
    if not rows:
        return Missing("no engine was built and timed", runs[0].command("engine"))
    kinds = list(dict.fromkeys((run, row.engine) for run, row in rows))
    dots = [_dot(run, row, kinds.index((run, row.engine))) for run, row in rows]
    spots = [Spot(str(i), milliseconds(row), -row.ap) for i, (_, row) in enumerate(rows)]
    best = pareto(spots)
    line = [(spot.ms, -100 * spot.loss) for spot in best]
    title = "AP50-95 against latency"
    chart = Scatter(title, "p50 of the model alone, ms", "AP50-95, points", dots, line)
    data = [
        {
            "run": run or runs[0].name,
            "engine": row.engine,
            "precision": row.precision,
            "best": spot in best,
        }
        | {"ms": spot.ms, "map50_95": row.ap, "map50_95_ci95": _ends(row)}
        for (run, row), spot in zip(rows, spots, strict=True)
    ]
    named = ", ".join(_name(*rows[int(spot.name)]) for spot in best)
    words = (f"No other engine is both faster and more accurate than: {named}.", *left_out)
    table = (HEADER, *map(_cells, data))
    return Section(words, (Figure(chart.draw(), CAPTION),), table, data)


def _cells(point: dict[str, Any]) -> tuple[str, ...]:
    low, high = (100 * end for end in point["map50_95_ci95"])
    return (
        point["run"],
        engine_name(point["engine"]),
        point["precision"],
        f"{point['ms']:.2f}",
        f"{100 * point['map50_95']:.2f}",
        f"{low:.2f} to {high:.2f}",
        "yes" if point["best"] else "",
    )


def _ends(row: Row) -> tuple[float, float]:
    """The interval about FP32's AP, which it is a difference from."""
    low, high = (row.ap - row.delta + edge for edge in row.delta_ci95)
    return low, high


def _name(run: str, row: Row) -> str:
    return f"{run}: {row_name(row)}" if run else row_name(row)


def _dot(run: str, row: Row, index: int) -> Dot:
    low, high = _ends(row)
    latency = row.latency_ms or {}
    hover = (
        f"{_name(run, row)}\nAP50-95 {100 * row.ap:.2f} "
        f"(95%: {100 * low:.2f} to {100 * high:.2f})\n"
        f"p50 {latency['p50']:.2f} ms, p99 {latency['p99']:.2f} ms\nfidelity {row.fidelity:.3f}"
    )
    kind = (
        f"{run}: " * bool(run) + engine_name(row.engine) + (" int8" if is_int8(row) else " float")
    )
    ends = (100 * low, 100 * high) if high > low else None
    style = Style(index, is_int8(row))
    return Dot(milliseconds(row), 100 * row.ap, ends, hover, kind, style, row.name)
