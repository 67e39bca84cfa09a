"""Measuring one row of the report: accuracy against labels and against the FP32 baseline."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from yoloq.base.machine import affinity, torch_device
from yoloq.base.result import Row
from yoloq.base.say import progress
from yoloq.engines.predictor import Predictor
from yoloq.engines.torch import TorchPredictor
from yoloq.geometry.detections import Detections
from yoloq.measure.ap import fidelity, score
from yoloq.measure.bootstrap import interval, resampled_by_all
from yoloq.measure.evaluate import detect
from yoloq.measure.latency import Latency
from yoloq.measure.record import Record, Records, above
from yoloq.measure.throughput import Throughput
from yoloq.quant.quantized import QuantizedModel
from yoloq.stages.run import Inputs

BASELINE = "baseline.npz"
MANY = 100_000  # boxes; fewer are scored within seconds
BASE = ("torch", "fp32")  # engine and precision of the baseline, which is compared with nothing


def find(
    inputs: Inputs,
    predictor: Predictor,
    skipped: list[Path] | None = None,
    title: str = "detect",
) -> Detections:
    """Detections of a predictor on the stage's images, under a progress bar of that title."""
    config = inputs.config
    return detect(
        predictor,
        inputs.images,
        imgsz=inputs.imgsz,
        batch_size=config.batch_size,
        workers=config.workers,
        skipped=skipped,
        title=title,
        one_class=inputs.dataset.one_class,
    )


def accuracy(inputs: Inputs, found: Detections, baseline: Detections) -> dict[str, Any]:
    """Fields of a `Row`, as `recorded` gives them."""
    return recorded(inputs, found, baseline)[0]


def recorded(
    inputs: Inputs, found: Detections, baseline: Detections
) -> tuple[dict[str, Any], Record]:
    """mAP, its delta to the baseline with the interval, and fidelity; and the row's record.

    The baseline itself has no delta. A bar is shown where it takes long: a million boxes, as of
    5000 images with 80 classes, take over a minute. Resamples are drawn with one seed, whatever
    `--seed` says: so rows of different runs on the same images can be compared in pairs.
    """
    steps = 2 if found is baseline else 5
    with progress("score", steps, "steps", shown=len(found.scores) >= MANY) as advance:
        ours = score(inputs.truth, found, inputs.nc)
        fields: dict[str, Any] = {"map50_95": ours.map50_95, "map50": ours.map50}
        advance(1)
        precision = resampled_by_all(ours.matches)
        record = Record(above(found), precision)
        advance(1)
        if found is baseline:
            return fields, record
        theirs = score(inputs.truth, baseline, inputs.nc)
        advance(1)
        between = interval(resampled_by_all(theirs.matches), precision)
        advance(1)
        alike = fidelity(baseline, found, inputs.nc)
        advance(1)
    ends = (between.low, between.high)
    return fields | {"delta": between.delta, "delta_ci95": ends, "fidelity": alike}, record


def save_records(inputs: Inputs, stage: str, rows: Mapping[str, Record]) -> dict[str, str]:
    """Write the records of a stage's rows, by precision; the file's name as an artifact."""
    name = f"{stage}-record.npz"
    files = tuple(str(image) for image in inputs.images)
    Records(files, inputs.dataset.names, rows).save(inputs.config.folder / name)
    return {"record": name}


def simulated_int8(
    inputs: Inputs, quantized: QuantizedModel, name: str
) -> tuple[Row, dict[str, Record]]:
    """Accuracy of an int8 model that PyTorch simulates, under the name of its row; its record."""
    device = torch_device(inputs.config.device)
    predictor = TorchPredictor(quantized.model.net, inputs.info, device, "int8")
    found = find(inputs, predictor, title="detect, simulated int8")
    baseline = Detections.load(inputs.config.folder / BASELINE)
    fields, record = recorded(inputs, found, baseline)
    row = Row(
        name=name,
        precision="int8",
        engine="torch",
        float_layers=tuple(quantized.placement.float_layers),
        simulated=True,
        **fields,
    )
    return row, {row.precision: record}


def timing(
    latency: Latency | None, path: Latency | None = None, rate: Throughput | None = None
) -> dict[str, Any]:
    """Fields of a `Row` on its speed; every one says how it was taken, None that it was not."""
    how = {"affinity": affinity()}
    found = {"latency_ms": latency, "path_ms": path, "throughput": rate}
    return {
        **{name: None if each is None else asdict(each) | how for name, each in found.items()},
        "fps": None if latency is None else latency.fps,
    }


def describe(row: Row) -> str:
    """One line for the terminal, in the units of the report: AP in points."""
    if row.map50_95 is None or row.map50 is None:
        return f"{row.name} ({row.engine}): not measured here"
    low, high = (100 * edge for edge in row.delta_ci95)
    text = (
        f"{row.name} ({row.engine}): AP50-95 {100 * row.map50_95:.2f}, AP50 {100 * row.map50:.2f}"
    )
    if (row.engine, row.precision) != BASE:
        text += f", delta {100 * row.delta:+.2f} ({low:+.2f} to {high:+.2f})"
        text += f", fidelity {row.fidelity:.3f}"
    if row.latency_ms:
        text += f", p50 {row.latency_ms['p50']:.2f} ms"
    if row.throughput:
        text += f", {row.throughput['fps']:.1f} images/s"
    return text
