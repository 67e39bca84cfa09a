"""Accuracy: raw heads, FP32, default PTQ on the engines, and these against fake quantization."""

from dataclasses import asdict
from typing import Any

import numpy as np
from record import INTERVAL, Column, Figure, Found, Table
from subject import Subject, main

from yoloq.base.result import Row
from yoloq.engines import get_engine
from yoloq.engines.predictor import Predictor
from yoloq.engines.torch import TorchPredictor
from yoloq.measure.ap import fidelity
from yoloq.stages.row import accuracy, find

COLUMNS = (
    Column("Engine"),
    Column("Precision"),
    Column("Float type"),
    Column("AP", "{:.2f}"),
    Column("AP50", "{:.2f}"),
    Column("Delta", "{:+.2f}"),
    Column("95% interval", INTERVAL),
    Column("Fidelity", "{:.3f}"),
    Column("Fidelity to fake quantization", "{:.3f}"),
)
HOW = (
    "INT8 is default PTQ on {images} calibration images of the train split. Delta, its paired "
    "bootstrap interval and fidelity are against FP32 in PyTorch; fidelity to fake quantization "
    "takes the detections of the int8 model that PyTorch simulates as the truth. AP in points."
)


def measure(subject: Subject) -> Found:
    """The accuracy figures, and a table of every engine and precision."""
    source = subject.quantized()
    fake = find(subject.inputs, subject.load(source, "torch", "int8"))
    fake_score = points(subject, fake)
    rows: list[tuple[Any, ...]] = [
        ("torch", "fp32", "fp32", *points(subject, subject.reference), None),
        ("torch (simulated)", "int8", "fp32", *fake_score, None),
    ]
    figures = [*raw_head_figures(subject), *fp32_figures(subject)]
    for engine in ("openvino", "onnxruntime"):
        for precision in get_engine(engine).precisions("cpu"):
            predictor: Predictor = subject.load(source, engine, precision)
            found = find(subject.inputs, predictor)
            score, parity = points(subject, found), None
            if precision == "int8":
                parity = fidelity(fake, found, subject.inputs.nc)
                if engine == "openvino":
                    figures += int8_figures(subject, score, fake_score, parity)
            rows.append((engine, precision, predictor.float_type, *score, parity))
    how = HOW.format(images=subject.calibration_images)
    return Found(tuple(figures), (Table("Accuracy by engine", COLUMNS, tuple(rows)),), (how,))


def points(subject: Subject, found: Any) -> tuple[Any, ...]:
    """AP, AP50, delta and its interval in points, and fidelity."""
    row = asdict(Row("", "", "", **accuracy(subject.inputs, found, subject.reference)))
    interval = [100 * edge for edge in row["delta_ci95"]]
    return (
        *(100 * row[name] for name in ("map50_95", "map50", "delta")),
        interval,
        row["fidelity"],
    )


def raw_head_figures(subject: Subject) -> list[Figure]:
    """Largest error of a raw map over its largest value, against what the original code gave."""
    if subject.coco_mini is None:
        return []
    with np.load(subject.coco_mini / "reference" / "yolov5n_raw_320.npz") as reference:
        image = reference["image"].transpose(1, 2, 0)[None]
        expected = [reference[f"raw_p{level}"] for level in (3, 4, 5)]
    net = subject.inputs.model.net
    raws = TorchPredictor(net, subject.info, next(net.parameters()).device, "fp32")(image)
    errors = []
    for raw, want in zip(raws, expected, strict=True):
        anchors, height, width, values = want.shape
        have = raw.reshape(anchors, values, height, width).transpose(0, 2, 3, 1)
        errors.append(float(np.abs(have - want).max() / np.abs(want).max()))
    return [Figure("Raw heads, largest error / largest value", max(errors), "{:.1e}", high=1e-3)]


def fp32_figures(subject: Subject) -> list[Figure]:
    """FP32 AP; on the real images against what the original code scores."""
    row = subject.baseline.rows[0]
    assert row.map50 is not None, "PyTorch runs here"
    ap, ap50 = 100 * row.ap, 100 * row.map50
    if subject.coco_mini is None:
        return [Figure("FP32 AP", ap, "{:.2f}", 60, 90), Figure("FP32 AP50", ap50, "{:.2f}")]
    return [
        Figure("FP32 AP", ap, "{:.2f}", 30.30, 30.60),
        Figure("FP32 AP50", ap50, "{:.2f}", 48.42, 48.82),
    ]


def int8_figures(
    subject: Subject, score: tuple[Any, ...], fake: tuple[Any, ...], parity: float
) -> list[Figure]:
    """The figures of default PTQ on the default engine."""
    least = 30.1 if subject.coco_mini else None
    return [
        Figure("OpenVINO INT8 AP", score[0], "{:.2f}", least),
        Figure("OpenVINO INT8 fidelity", score[-1], "{:.3f}", 0.90),
        Figure("AP, OpenVINO INT8 against fake quantization", abs(score[0] - fake[0]), high=0.2),
        Figure("Fidelity, OpenVINO INT8 to fake quantization", parity, "{:.3f}", 0.95),
    ]


if __name__ == "__main__":
    raise SystemExit(main("accuracy", measure))
