"""One table of everything that was measured, in markdown, HTML and CSV."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from yoloq.base.errors import RunError
from yoloq.base.files import write_text
from yoloq.base.result import StageResult, read_result
from yoloq.base.say import put, say, warn
from yoloq.report.page import page
from yoloq.report.remarks import remarks
from yoloq.report.tables import batch, comma_separated, line, markdown, rendered, show
from yoloq.stages.end import on_run
from yoloq.stages.report import ReportConfig

STAGES = ("baseline", "ptq", "qat")  # engine-*.json follow, in the order of their names
LEGEND = (
    "AP in points on the val split; Delta is AP50-95 against the FP32 baseline on the same "
    "images, with its paired bootstrap interval. Fidelity is the AP50-95 with the baseline's own "
    "detections as ground truth. p50, p99 and FPS are of the model alone, at batch 1 where nothing "
    "else is said; FPS with image goes from the file to the boxes, one image after another; "
    "Images/s does with several under way at once. Speed-up is against the same engine's FP32 at "
    "the same batch."
)


def run(config: ReportConfig) -> list[dict[str, Any]]:
    """Print the table and write `report.md`, `report.html` and `report.csv` into the first folder.

    Raises:
        RunError: a folder holds no results.
    """
    folders = [Path(name) for name in config.runs] or [config.folder]
    lines, notes, limits, slow = [], list[str](), list[str](), list[str]()
    for folder in folders:
        results = without_stale(folder, read_results(folder))
        lines += [line(folder.name, row, result) for result in results for row in result.rows]
        notes += [note(folder.name, result) for result in results]
        limits += [limit for result in results if (limit := over_floor(folder.name, result))]
        slow += [text for result in results for text in remarks(folder, result)]
    table, notes = rendered(lines), notes + limits + slow
    target = folders[0]
    write_text(target / "report.md", text(table, notes))
    write_text(target / "report.html", page(table, LEGEND, notes))
    write_text(target / "report.csv", comma_separated(lines))
    show(table)
    for remark in slow:
        put(remark)
    say(f"written with all columns: {target / 'report.md'}, report.html, report.csv")
    return lines


def next_step(config: ReportConfig, found: Any) -> str:
    """Look at what the engines find."""
    return on_run(config, "predict", "photo.jpg")


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
    rate = next((row.throughput for row in result.rows if row.throughput), None)
    if rate:
        text += (
            f"; images/s of {rate['images']} files, median of {rate['rounds']} rounds, with "
            f"{rate['streams']} in the engine at once"
        )
    return "; ".join([text, *result.notes.get("remarks", ())])


def over_floor(run: str, result: StageResult) -> str:
    """Latency over the least time that the machine allows, by precision; empty: not known."""
    floors = result.notes.get("floors") or {}
    each = ", ".join(
        f"{key} {item['over']:.1f} (least {item['floor_ms']:.2f} ms)"
        for key, item in floors.items()
    )
    return each and f"{run} {result.stage}: measured over what the machine allows: {each}"


def text(table: Sequence[Sequence[str]], notes: Sequence[str]) -> str:
    """The table in markdown, with the legend and how it was measured."""
    parts = ["# Report", "", markdown(table), "", LEGEND, "", *(f"- {item}" for item in notes), ""]
    return "\n".join(parts)
