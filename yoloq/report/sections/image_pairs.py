"""Images on which FP32 and INT8 find the most different boxes, side by side."""

from pathlib import Path
from typing import Any

from yoloq.base.result import Row, StageResult
from yoloq.data.images import read_image
from yoloq.geometry.boxes import Image
from yoloq.geometry.detections import Detections
from yoloq.measure.lost import SHOWN, ImageDifference, differences
from yoloq.measure.record import Records
from yoloq.report.recommendation import is_int8, timed_rows
from yoloq.report.run_folder import RunFolder
from yoloq.report.section import Figure, Missing, Section
from yoloq.report.svg.photographs import Pane, side_by_side
from yoloq.report.words import row_name

HEADER = ("Image", "Change", "Class", "Score", "The other's", "Box x1 y1 x2 y2")
SHOWN_IMAGES = 6


def image_pairs(run: RunFolder) -> Section | Missing:
    """The images that differ most, with what was lost and found."""
    chosen = _int8_row(run)
    if chosen is None:
        return Missing("no int8 model was measured", run.command("ptq"))
    row, result = chosen
    reference, other = run.records("baseline"), run.records(result.stage)
    if reference is None or other is None or row.precision not in other.rows:
        stage = "baseline" if reference is None else result.stage.partition("-")[0]
        return Missing(
            "the boxes were not kept by an earlier version", run.command(stage, "--force")
        )
    if reference.files != other.files:
        why = f"baseline and {result.stage} looked at different images"
        return Missing(why, run.command(result.stage.partition("-")[0], "--force"))
    return _section(row, reference, reference.rows["fp32"].found, other.rows[row.precision].found)


def _int8_row(run: RunFolder) -> tuple[Row, StageResult] | None:
    """The fastest int8 engine, or the last int8 model that was simulated."""
    timed = [row for row in timed_rows(run) if is_int8(row)]
    pairs = [(row, result) for row, result in run.pairs if is_int8(row)]
    if timed:
        fastest = min(timed, key=lambda row: row.latency_ms["p50"] if row.latency_ms else 0.0)
        return next(pair for pair in pairs if pair[0] is fastest)
    return pairs[-1] if pairs else None


def _section(row: Row, records: Records, ours: Detections, theirs: Detections) -> Section:
    found = differences(ours, theirs)
    changed = sorted((each for each in found if each.size), key=lambda each: -each.size)
    lost, new = (sum(len(getattr(each, name)) for each in changed) for name in ("lost", "found"))
    words = [
        f"Of {int((ours.scores >= SHOWN).sum())} boxes that FP32 scores {SHOWN} or more, "
        f"{row_name(row)} lost {lost} and found {new} that FP32 has not, on {len(changed)} of "
        f"{ours.images} images. First come those on which scores changed most.",
        "Lost: none of its class and an IoU of 0.5 scores that much; the second score is what is "
        "left of it. Thin boxes are found by both.",
    ]
    figures, data = [], []
    table: list[tuple[str, ...]] = [HEADER]
    for each in changed[:SHOWN_IMAGES]:
        file = Path(records.files[each.image])
        image = read_image(file)
        if image is None:
            words.append(f"{file} is not there any more: its boxes are in the table alone.")
        else:
            titles = (f"FP32: {file.name}", row_name(row))
            figures.append(_figure(image, each, (ours, theirs), titles, records.names))
        changes = _changes(each, ours, theirs, records.names)
        table += [(file.name, *_cells(change)) for change in changes]
        data.append({"image": str(file), "changes": changes})
    summary = {"lost": lost, "found": new, "images": len(changed), "most": data}
    return Section(tuple(words), tuple(figures), tuple(table) if data else (), summary)


def _figure(
    image: Image,
    each: ImageDifference,
    found: tuple[Detections, Detections],
    titles: tuple[str, str],
    names: tuple[str, ...],
) -> Figure:
    """Both pictures of an image."""
    kept = ([first for first, _ in each.kept], [second for _, second in each.kept])
    panes = (
        Pane(titles[0], found[0], kept[0], each.lost, "lost", "INT8"),
        Pane(titles[1], found[1], kept[1], each.found, "found", "FP32"),
    )
    drawing = side_by_side(image, f"photograph-{each.image}", panes, names)
    return Figure(drawing, f"{len(each.lost)} lost, {len(each.found)} found")


def _changes(
    each: ImageDifference, ours: Detections, theirs: Detections, names: tuple[str, ...]
) -> list[dict[str, Any]]:
    """What was lost and found on an image."""
    sides = (("lost", ours, each.lost), ("found", theirs, each.found))
    return [
        {
            "change": kind,
            "class": names[detections.classes[change.index]],
            "score": change.score,
            "other_score": change.other,
            "box": [round(float(edge), 1) for edge in detections.boxes[change.index]],
        }
        for kind, detections, changes in sides
        for change in changes
    ]


def _cells(change: dict[str, Any]) -> tuple[str, ...]:
    box = " ".join(f"{edge:.0f}" for edge in change["box"])
    scores = (f"{change[name]:.2f}" for name in ("score", "other_score"))
    return change["change"], change["class"], *scores, box
