"""How the figures of a run were taken, in a sentence a stage."""

from yoloq.base.result import StageResult
from yoloq.report.tables import batch

LEGEND = (
    "AP in points on the val split; Delta is AP50-95 against the FP32 baseline on the same "
    "images, with its paired bootstrap interval. Fidelity is the AP50-95 with the baseline's own "
    "detections as ground truth. p50, p99 and FPS are of the model alone, at batch 1 where nothing "
    "else is said; FPS with image goes from the file to the boxes, one image after another; "
    "Images/s does with several under way at once. Speed-up is against the same engine's FP32 at "
    "the same batch."
)


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
