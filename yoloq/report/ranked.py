"""The common table with the value behind each cell, and the best of each column."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from yoloq.report.tables import COLUMNS, rendered, shown_columns

HIGH = ("map50", "map50_95", "delta", "fidelity", "fps", "path_fps", "images_s", "speed_up")
LOW = ("p50_ms", "p99_ms", "size_mb")
TO_FP32 = ("delta", "fidelity")  # in which a float model is no contender


@dataclass(frozen=True)
class Cell:
    """Text, the value that it is sorted by, and whether it is the best of its column among
    those of its run."""

    text: str
    value: Any
    best: bool


def ranked(lines: Sequence[dict[str, Any]]) -> tuple[list[str], list[list[Cell]]]:
    """Titles and rows of cells; columns that no row has anything in are left out."""
    columns = shown_columns(lines, COLUMNS)
    columns = [c for c in columns if any(line[c[0]] is not None for line in lines)]
    titles, *texts = rendered(lines, columns)
    runs = dict.fromkeys(line["run"] for line in lines)
    best = {
        (run, name): _best(name, [line for line in lines if line["run"] == run])
        for name, _, _ in columns
        for run in runs
    }
    rows = []
    for line, cells in zip(lines, texts, strict=True):
        row = []
        for (name, _, _), cell in zip(columns, cells, strict=True):
            value = line[name]
            row.append(
                Cell(cell, _sortable(value), value is not None and value == best[line["run"], name])
            )
        rows.append(row)
    return titles, rows


def _best(name: str, lines: Sequence[dict[str, Any]]) -> Any:
    """The best value of a column; None where there is none, or nothing to choose from."""
    rivals = [line for line in lines if name not in TO_FP32 or line["float_layers"] is not None]
    values = [line[name] for line in rivals if line[name] is not None]
    if len(values) < 2 or name not in (*HIGH, *LOW):
        return None
    return max(values) if name in HIGH else min(values)


def _sortable(value: Any) -> Any:
    """A number or text; of an interval its middle."""
    return sum(value) / 2 if isinstance(value, (list, tuple)) else value
