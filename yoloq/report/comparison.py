"""Runs against the first of them: what the same rows differ by, and what is not compared."""

from collections.abc import Sequence
from typing import Any

from yoloq.base.result import Row, StageResult
from yoloq.measure.bootstrap import interval
from yoloq.report.run_folder import RunFolder
from yoloq.report.section import Section
from yoloq.report.tables import batch
from yoloq.report.words import engine_name

Pair = tuple[Row, StageResult]

MACHINE = ("cpu", "isa", "gpu")


def comparison(runs: Sequence[RunFolder]) -> Section:
    """A line for each row that another run has in common with the first."""
    first, *others = runs
    header = ("Run", "Engine", "Precision", "AP50-95", f"Against {first.name}", "95% interval")
    table: list[tuple[str, ...]] = [(*header, "Fidelity", "p50 ms", "Time ratio", "Size ratio")]
    words, data = [], []
    for other in others:
        lines, why = _compared(first, other)
        words += why
        data += lines
        table += map(_cells, lines)
    if not data:
        words.append("The runs have no row in common.")
    ratio = "Ratios are this run's figure over the first one's: below 1 is faster, or smaller."
    return Section((*words, ratio), table=tuple(table) if data else (), data=data)


def _compared(first: RunFolder, other: RunFolder) -> tuple[list[dict[str, Any]], list[str]]:
    """The lines of a run, and what was refused and why."""
    theirs = {_key(row, result): (row, result) for row, result in first.pairs}
    accuracy, lines, why = refused_accuracy(first, other), [], []
    if accuracy:
        why.append(f"{other.name}: accuracy is not compared: {accuracy}.")
    for row, result in other.pairs:
        pair = theirs.get(_key(row, result))
        if pair is None or not (row.measured and pair[0].measured):
            continue
        times = refused_times(pair, (row, result))
        ends, unknown = (None, "") if accuracy else _ends(first, other, pair, (row, result))
        why += [
            f"{other.name} {engine_name(row.engine)} {row.name}: {w}."
            for w in (times, unknown)
            if w
        ]
        delta = None if accuracy else row.ap - pair[0].ap
        lines.append(_line(other.name, row, pair[0], delta, ends, not times))
    return lines, list(dict.fromkeys(why))


def together(runs: Sequence[RunFolder]) -> tuple[list[RunFolder], list[str]]:
    """Runs that may stand in one chart with the first, and why others may not."""
    first, kept, why = runs[0], [], []
    for run in runs:
        ours, theirs = _machine(first.results[0]), _machine(run.results[0])
        reason = refused_accuracy(first, run) or (f"it ran on {theirs}" if ours != theirs else "")
        if reason:
            why.append(f"{run.name} is left out: {reason}.")
        else:
            kept.append(run)
    return kept, why


def _key(row: Row, result: StageResult) -> tuple[str, str, int]:
    """What two rows have in common to be compared."""
    return result.stage, row.precision, batch(row)


def refused_accuracy(first: RunFolder, other: RunFolder) -> str:
    """Why accuracy on two data sets is not compared; empty: it may be."""
    ours, theirs = first.results[0], other.results[0]
    if ours.data.get("sha256") != theirs.data.get("sha256"):
        return f"it was measured on other images or labels ({theirs.data.get('path')})"
    skipped = (result.notes.get("skipped", []) for result in (ours, theirs))
    if ours.data["images"] != theirs.data["images"] or len({len(each) for each in skipped}) > 1:
        return f"{theirs.data['images']} images, not {ours.data['images']} (--limit)"
    return ""


def refused_times(ours: Pair, theirs: Pair) -> str:
    """Why the times of two rows are not compared; empty: they may be, or there are none."""
    (row, result), (other, later) = ours, theirs
    if row.latency_ms is None or other.latency_ms is None:
        return ""
    threads = (latency.get("threads") for latency in (other.latency_ms, row.latency_ms))
    apart = (
        ("machine", *(_machine(each) for each in (later, result))),
        ("threads", *threads),
        ("image size", *(each.data["imgsz"] for each in (later, result))),
    )
    told = [f"{what} {theirs}, not {ours}" for what, theirs, ours in apart if theirs != ours]
    return f"its times are not compared: {', '.join(told)}" if told else ""


def _machine(result: StageResult) -> str:
    cpu, isa, gpu = (result.environment.get(name) for name in MACHINE)
    return f"{cpu} ({', '.join(isa or ())}){f' with {gpu}' if gpu else ''}"


def _ends(
    first: RunFolder, other: RunFolder, ours: Pair, theirs: Pair
) -> tuple[tuple[float, float] | None, str]:
    """The interval of the difference, paired image by image; or why there is none."""
    found = []
    for run, (row, result) in ((first, ours), (other, theirs)):
        records = run.records(result.stage)
        if records is None or row.precision not in records.rows:
            stage = result.stage.partition("-")[0]
            command = run.command(stage, "--force")
            return None, f"no interval: an earlier version measured {run.name}; `{command}`"
        found.append(records.rows[row.precision].precision)
    between = interval(*found)
    return (between.low, between.high), ""


def _line(
    run: str,
    row: Row,
    other: Row,
    delta: float | None,
    ends: tuple[float, float] | None,
    timed: bool,
) -> dict[str, Any]:
    ratio = None
    if timed and row.latency_ms and other.latency_ms:
        ratio = row.latency_ms["p50"] / other.latency_ms["p50"]
    sizes = row.size_bytes / other.size_bytes if row.size_bytes and other.size_bytes else None
    return {
        "run": run,
        "engine": row.engine,
        "name": row.name,
        "map50_95": row.map50_95,
        "delta": delta,
        "delta_ci95": ends,
        "fidelity": row.fidelity,
        "p50_ms": row.latency_ms["p50"] if row.latency_ms else None,
        "time_ratio": ratio,
        "size_ratio": sizes,
    }


def _cells(line: dict[str, Any]) -> tuple[str, ...]:
    ends = line["delta_ci95"]
    return (
        line["run"],
        engine_name(line["engine"]),
        line["name"],
        f"{100 * line['map50_95']:.2f}",
        "-" if line["delta"] is None else f"{100 * line['delta']:+.2f}",
        "-" if ends is None else f"{100 * ends[0]:+.2f} to {100 * ends[1]:+.2f}",
        f"{line['fidelity']:.3f}",
        *(
            "-" if line[n] is None else f"{line[n]:.2f}"
            for n in ("p50_ms", "time_ratio", "size_ratio")
        ),
    )
