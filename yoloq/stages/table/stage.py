"""The course's table: one engine in FP32, 16 bits, implicit int8, PTQ's int8 and QAT's int8.

All rows come from one engine run, in which they are timed in turn: a speed-up compares figures that
the same minutes of the same machine gave.
"""

import csv
import io
from collections.abc import Sequence
from typing import Any

from yoloq.base.files import write_text
from yoloq.base.result import StageResult
from yoloq.base.say import put, say
from yoloq.engines import get_engine
from yoloq.engines.base import Engine
from yoloq.engines.options import DYNAMIC
from yoloq.measure.layer_times import float_precisions
from yoloq.report.notes import note
from yoloq.report.remarks import remarks
from yoloq.report.tables import COLUMNS, line, markdown, rendered, show
from yoloq.stages.end import on_run
from yoloq.stages.engine import EngineConfig
from yoloq.stages.engine import stage as engines
from yoloq.stages.engine.build import title
from yoloq.stages.run import as_config
from yoloq.stages.table import TableConfig

SHOWN = (
    "name",
    "map50_95",
    "delta",
    "delta_ci95",
    "fidelity",
    "p50_ms",
    "fps",
    "images_s",
    "speed_up",
)
FILES = ("table.md", "table.csv")


def run(config: TableConfig) -> list[dict[str, Any]]:
    """Print the table, write `table.md` and `table.csv`; returns its lines.

    Raises:
        UserError: the engine or an input cannot be used.
    """
    result = engines.run(as_config(config, EngineConfig))
    lines = [line(config.folder.name, row, result) for row in result.rows]
    columns = [column for column in COLUMNS if column[0] in SHOWN]
    cells = rendered(lines, columns)
    slow = remarks(config.folder, result)
    notes = [
        *missing(get_engine(config.engine, run=False), result),
        *on_dynamic(result),
        note(config.folder.name, result),
    ]
    write_text(
        config.folder / FILES[0],
        "\n".join([markdown(cells), "", *(f"- {text}" for text in [*slow, *notes]), ""]),
    )
    write_text(config.folder / FILES[1], comma_separated(lines))
    show(cells)
    for remark in slow:
        put(remark)
    for text in notes[:-1]:
        say(text)
    say(f"written: {config.folder / FILES[0]}, {FILES[1]}")
    return lines


def next_step(config: TableConfig, found: Any) -> str:
    """Look at what the engines find."""
    return on_run(config, "predict", "photo.jpg")


def missing(engine: Engine, result: StageResult) -> list[str]:
    """Which rows of the table there are not, and why."""
    there = {row.precision for row in result.rows}
    device = result.config["device"]
    notes = []
    for precision in engine.precisions(device):
        if precision not in there:
            notes.append(f"{title(precision)} is missing: --precisions leaves it out")
    if not any(map(engine.calibrates, engine.precisions(device))):
        notes.append(
            f"INT8 implicit is missing: {engine.name} does not calibrate by itself here; TensorRT "
            "10.x does, 11 gave that up for the Q/DQ graph"
        )
    if len(float_precisions(engine.precisions(device))) < 2:
        notes.append(f"FP16 is missing: {engine.name} has no 16-bit type on this machine")
    return notes


def on_dynamic(result: StageResult) -> list[str]:
    """Why the row with ranges at run time takes the time that it takes; none without it."""
    times = {row.precision: row.latency_ms["p50"] for row in result.rows if row.latency_ms}
    if DYNAMIC not in times or "int8" not in times:
        return []
    return [
        f"{title(DYNAMIC)} takes {times[DYNAMIC] / times['int8']:.2f} times the time of static "
        "INT8: nothing is calibrated, each image's own extremes are the ranges of its activations. "
        "So every convolution first reads its whole input to find them, then rounds it, and its "
        "sums go back to floats, where static INT8 hands integers on"
    ]


def comma_separated(lines: Sequence[dict[str, Any]]) -> str:
    """The same columns with unrounded numbers; the interval as two columns."""
    names = [name for name in SHOWN if name != "delta_ci95"]
    buffer = io.StringIO()
    writer = csv.writer(buffer)
    writer.writerow([*names, "delta_low", "delta_high"])
    for values in lines:
        writer.writerow(
            [*(values[name] for name in names), *(values["delta_ci95"] or (None, None))]
        )
    return buffer.getvalue()
