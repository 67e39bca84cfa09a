"""One table of everything that was measured, in markdown, HTML and CSV."""

import csv
import html
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from yoloq.base.errors import RunError
from yoloq.base.files import write_text
from yoloq.base.result import Row, StageResult, read_result
from yoloq.base.say import say, warn
from yoloq.stages.report import ReportConfig

STAGES = ("baseline", "ptq", "qat")  # engine-*.json follow, in the order of their names
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
    ("speed_up", "Speed-up", "{:.2f}x"),
    ("size_mb", "Size MB", "{:.2f}"),
    ("float_type", "Float type", ""),
    ("float_layers", "Float layers", "{}"),
)
FIRST_TO_GO = (
    *("p99 ms", "Float type", "FPS with image", "AP50", "Size MB", "p50 ms"),
    *("Float layers", "FPS", "Speed-up"),
)
SIMULATED = " (simulated)"
FOOTNOTE = "* computed in float: shows the accuracy of int8, claims no speed"
GAP = 2  # blanks between two columns on a terminal


def run(config: ReportConfig) -> list[dict[str, Any]]:
    """Print the table and write `report.md`, `report.html` and `report.csv` into the first folder.

    Raises:
        RunError: a folder holds no results.
    """
    folders = [Path(name) for name in config.runs] or [config.folder]
    lines, notes = [], []
    for folder in folders:
        results = without_stale(folder, read_results(folder))
        lines += [line(folder.name, row, result) for result in results for row in result.rows]
        notes += [note(folder.name, result) for result in results]
    table = rendered(lines)
    target = folders[0]
    write_text(target / "report.md", markdown(table, notes))
    write_text(target / "report.html", page(table, notes))
    write_text(target / "report.csv", comma_separated(lines))
    show(table)
    say(f"written with all columns: {target / 'report.md'}, report.html, report.csv")
    return lines


def read_results(folder: Path) -> list[StageResult]:
    """Results of a run folder, in the order of the flow.

    Raises:
        RunError: there is none.
    """
    files = [folder / f"{stage}.json" for stage in STAGES]
    files += sorted(folder.glob("engine-*.json"))
    results = [result for file in files if (result := read_result(file)) is not None]
    if not results:
        raise RunError(f"{folder}: holds no results; run `make baseline` or `make engine` first")
    return results


def without_stale(folder: Path, results: Sequence[StageResult]) -> list[StageResult]:
    """Results of the newest baseline's weights and data, engines of the newest int8 model.

    A stage that ran again in the same folder leaves what was built on it behind; one table of both
    would compare different models.
    """
    keys: dict[str, str] = {}  # what may be built on; one that was left out may not
    kept = []
    for result in results:
        current = keys.get(result.notes.get("quantized", ""))
        alike = _subject(result) == _subject(results[0])
        if alike and current in (None, result.notes.get("quantized_key")):
            kept.append(result)
            keys[result.stage] = result.key
        else:
            keys[result.stage] = ""
            warn(
                f"{folder / result.stage}.json is of other weights, data or calibration "
                "than the rest of the run: left out; run that stage again"
            )
    return kept


def _subject(result: StageResult) -> tuple[Any, ...]:
    """What two results must have in common to stand in one table."""
    data = result.data
    return result.weights.get("sha256"), data.get("sha256"), data["imgsz"], data["images"]


def line(run: str, row: Row, result: StageResult) -> dict[str, Any]:
    """A row as the table shows it: percentages, milliseconds, megabytes."""
    latency, path = row.latency_ms or {}, row.path_ms or {}
    size = row.size_bytes
    return {
        "run": run,
        "engine": row.engine + (SIMULATED if row.simulated else ""),
        "name": row.name,
        "map50": 100 * row.map50,
        "map50_95": 100 * row.map50_95,
        "delta": 100 * row.delta,
        "delta_ci95": [100 * edge for edge in row.delta_ci95],
        "fidelity": row.fidelity,
        "p50_ms": latency.get("p50"),
        "p99_ms": latency.get("p99"),
        "fps": row.fps,
        "path_fps": path.get("fps"),
        "speed_up": speed_up(row, result),
        "size_mb": None if size is None else size / 1e6,
        "float_type": row.float_type,
        "float_layers": None if row.float_layers is None else len(row.float_layers),
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


def note(run: str, result: StageResult) -> str:
    """How a stage's figures were taken, in one sentence."""
    machine = result.environment
    timed = next((row.latency_ms for row in result.rows if row.latency_ms), None)
    skipped, bad = len(result.notes.get("skipped", ())), result.notes.get("bad_labels", 0)
    left = f" ({skipped} unreadable ones and {bad} bad labels left out)" if skipped or bad else ""
    text = (
        f"{run} {result.stage}: {result.data['images']} images at {result.data['imgsz']} px{left}, "
        f"{machine['cpu']} ({', '.join(machine['isa'])}), GPU {machine['gpu'] or 'none'}"
    )
    if timed:
        batches = " and ".join(map(str, sorted({batch(row) for row in result.rows} - {0})))
        text += (
            f"; batch {batches}, {timed['threads']} threads on cores {timed['affinity']}, "
            f"{timed['warmup']} warm-up and {timed['runs']} timed runs"
        )
        text += ", between events on the GPU" if timed.get("clock") == "gpu" else ""
    return text


def rendered(
    lines: Sequence[dict[str, Any]], columns: Sequence[tuple[str, str, str]] = COLUMNS
) -> list[list[str]]:
    """Header and cells as text; the run's column only where there are several runs."""
    several = len({line["run"] for line in lines}) > 1
    columns = [column for column in columns if several or column[0] != "run"]
    table = [[title for _, title, _ in columns]]
    for values in lines:
        table.append([_cell(values[name], form) for name, _, form in columns])
    return table


def _cell(value: Any, form: str) -> str:
    if value is None:
        return "-"
    if isinstance(value, list):
        return f"{value[0]:+.2f} to {value[1]:+.2f}"
    return form.format(value) if form else str(value)


LEGEND = (
    "AP in points on the val split; Delta is AP50-95 against the FP32 baseline on the same "
    "images, with its paired bootstrap interval. Fidelity is the AP50-95 with the baseline's own "
    "detections as ground truth. p50, p99 and FPS are of the model alone, at batch 1 where nothing "
    "else is said; FPS with image goes from the file to the boxes. Speed-up is against the same "
    "engine's FP32 at the same batch."
)


def markdown(table: Sequence[Sequence[str]], notes: Sequence[str]) -> str:
    """A table with the legend and how it was measured."""
    rows = ["| " + " | ".join(cells) + " |" for cells in table]
    rows.insert(1, "|" + " --- |" * len(table[0]))
    return "\n".join(["# Report", "", *rows, "", LEGEND, "", *(f"- {item}" for item in notes), ""])


def page(table: Sequence[Sequence[str]], notes: Sequence[str]) -> str:
    """The same as one HTML page without outside resources."""
    head = "".join(f"<th>{html.escape(cell)}</th>" for cell in table[0])
    body = "".join(
        "<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in cells) + "</tr>"
        for cells in table[1:]
    )
    items = "".join(f"<li>{html.escape(item)}</li>" for item in notes)
    style = (
        "body{font:15px sans-serif;margin:2em}table{border-collapse:collapse}"
        "td,th{padding:.3em .7em;border-bottom:1px solid #ccc;text-align:right}"
    )
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>yoloq report</title>'
        f"<style>{style}</style><h1>Report</h1><table><thead><tr>{head}</tr></thead>"
        f"<tbody>{body}</tbody></table><p>{html.escape(LEGEND)}</p><ul>{items}</ul></html>\n"
    )


def comma_separated(lines: Sequence[dict[str, Any]]) -> str:
    """All columns with unrounded numbers; the interval as two columns."""
    buffer = io.StringIO()
    rows = []
    for values in lines:
        flat = {name: value for name, value in values.items() if name != "delta_ci95"}
        flat["delta_low"], flat["delta_high"] = values["delta_ci95"]
        rows.append(flat)
    writer = csv.DictWriter(buffer, fieldnames=list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    return buffer.getvalue()


def show(table: Sequence[Sequence[str]]) -> None:
    """Print the table on stdout; a narrow terminal gets fewer columns, a file all of them."""
    console = Console(markup=False)  # a run's folder may have brackets in its name
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
        console = Console(markup=False, width=sum(widths))
    printed = Table(box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True, caption=caption)
    for index in shown:
        printed.add_column(table[0][index], justify="right", no_wrap=True)
    for cells in table[1:]:
        printed.add_row(*(cells[index] for index in shown))
    console.print(printed)
