"""Tables that people see: columns and units, on the terminal, as markdown and as csv."""

import csv
import io
from collections.abc import Sequence
from typing import Any

from rich import box
from rich.table import Table

from yoloq.base.result import Row, StageResult
from yoloq.base.say import result_console

COLUMNS = (  # field, title, format
    ("run", "Run", ""),
    ("engine", "Engine", ""),
    ("name", "Precision", ""),
    ("map50", "AP50", "{:.2f}"),
    ("map50_95", "AP50-95", "{:.2f}"),
    ("delta", "Delta", "{:+.2f}"),
    ("delta_ci95", "95% interval", "{}"),
    ("fidelity", "Fidelity", "{:.3f}"),
    ("p50_ms", "p50 ms", "{:.2f}"),
    ("p99_ms", "p99 ms", "{:.2f}"),
    ("fps", "FPS", "{:.1f}"),
    ("path_fps", "FPS with image", "{:.1f}"),
    ("images_s", "Images/s", "{:.1f}"),
    ("speed_up", "Speed-up", "{:.2f}x"),
    ("size_mb", "Size MB", "{:.2f}"),
    ("float_type", "Float type", ""),
    ("float_layers", "Float layers", "{}"),
)
FIRST_TO_GO = (
    *("p99 ms", "Float type", "FPS with image", "Images/s", "AP50", "Size MB", "p50 ms"),
    *("Float layers", "FPS", "Speed-up"),
)
SIMULATED = " (simulated)"
NOT_MEASURED = " (not measured here)"
ACCURACY = ("map50", "map50_95", "delta", "delta_ci95", "fidelity")  # fields of a measured row
FOOTNOTE = "* computed in float: shows the accuracy of int8, claims no speed"
GAP = 2  # blanks between two columns on a terminal


def line(run: str, row: Row, result: StageResult) -> dict[str, Any]:
    """A row as the table shows it: percentages, milliseconds, megabytes."""
    latency, path = row.latency_ms or {}, row.path_ms or {}
    size = row.size_bytes
    return {
        "run": run,
        "engine": row.engine + (SIMULATED if row.simulated else ""),
        "name": row.name + ("" if row.measured else NOT_MEASURED),
        **accuracy(row),
        "p50_ms": latency.get("p50"),
        "p99_ms": latency.get("p99"),
        "fps": row.fps,
        "path_fps": path.get("fps"),
        "images_s": (row.throughput or {}).get("fps"),
        "speed_up": speed_up(row, result),
        "size_mb": None if size is None else size / 1e6,
        "float_type": row.float_type,
        "float_layers": None if row.float_layers is None else len(row.float_layers),
    }


def accuracy(row: Row) -> dict[str, Any]:
    """AP in points, and fidelity; each is None where the engine could not be run."""
    if row.map50_95 is None or row.map50 is None:
        return dict.fromkeys(ACCURACY)
    return {
        "map50": 100 * row.map50,
        "map50_95": 100 * row.map50_95,
        "delta": 100 * row.delta,
        "delta_ci95": [100 * edge for edge in row.delta_ci95],
        "fidelity": row.fidelity,
    }


def speed_up(row: Row, result: StageResult) -> float | None:
    """FPS over that of the same engine's FP32 in the same result, which was timed in turn."""
    others = (other for other in result.rows if batch(other) == batch(row))
    base = next((other for other in others if other.precision == "fp32"), None)
    if row.fps is None or base is None or base.fps is None:
        return None
    return row.fps / base.fps


def batch(row: Row) -> int:
    """Images at once when a row was timed; 0: it was not."""
    return row.latency_ms["batch"] if row.latency_ms else 0


def rendered(
    lines: Sequence[dict[str, Any]], columns: Sequence[tuple[str, str, str]] = COLUMNS
) -> list[list[str]]:
    """Header and cells as text; the run's column only where there are several runs."""
    columns = shown_columns(lines, columns)
    table = [[title for _, title, _ in columns]]
    for values in lines:
        table.append([_cell(values[name], form) for name, _, form in columns])
    return table


def shown_columns(
    lines: Sequence[dict[str, Any]], columns: Sequence[tuple[str, str, str]]
) -> list[tuple[str, str, str]]:
    """The columns without the run's where there is one run alone."""
    several = len({line["run"] for line in lines}) > 1
    return [column for column in columns if several or column[0] != "run"]


def _cell(value: Any, form: str) -> str:
    if value is None:
        return "-"
    if isinstance(value, list):
        return f"{value[0]:+.2f} to {value[1]:+.2f}"
    return form.format(value) if form else str(value)


def markdown(table: Sequence[Sequence[str]]) -> str:
    """Header and cells as a table in markdown."""
    rows = ["| " + " | ".join(cells) + " |" for cells in table]
    rows.insert(1, "|" + " --- |" * len(table[0]))
    return "\n".join(rows)


def comma_separated(lines: Sequence[dict[str, Any]]) -> str:
    """All columns with unrounded numbers; the interval as two columns."""
    buffer = io.StringIO()
    rows = []
    for values in lines:
        flat = {name: value for name, value in values.items() if name != "delta_ci95"}
        flat["delta_low"], flat["delta_high"] = values["delta_ci95"] or (None, None)
        rows.append(flat)
    writer = csv.DictWriter(buffer, fieldnames=list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    return buffer.getvalue()


def show(table: Sequence[Sequence[str]]) -> None:
    """Print the table on stdout; a narrow terminal gets fewer columns, a file all of them."""
    console = result_console(markup=False)  # a run's folder may have brackets in its name
    starred = [[cell.replace(SIMULATED, "*") for cell in cells] for cells in table]
    caption = FOOTNOTE if starred != table else None
    table = starred
    widths = [max(len(cell) for cell in column) + GAP for column in zip(*table, strict=True)]
    shown = list(range(len(widths)))
    if console.is_terminal:
        for title in FIRST_TO_GO:
            if sum(widths[i] for i in shown) <= console.width:
                break
            shown = [i for i in shown if table[0][i] != title]
    else:
        console = result_console(markup=False, width=sum(widths))
    printed = Table(box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True, caption=caption)
    for index in shown:
        printed.add_column(table[0][index], justify="right", no_wrap=True)
    for cells in table[1:]:
        printed.add_row(*(cells[index] for index in shown))
    console.print(printed)
