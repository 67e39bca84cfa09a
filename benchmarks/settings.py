"""Settings of PTQ side by side on the OpenVINO engine: calibrators, granularity, placement."""

import itertools
from typing import Any

from accuracy import points
from record import INTERVAL, Column, Found, Table
from subject import Subject, main

from yoloq.quant.calibrators import CALIBRATORS
from yoloq.stages.row import find

SCORES = (
    Column("AP", "{:.2f}"),
    Column("AP50", "{:.2f}"),
    Column("Delta", "{:+.2f}"),
    Column("95% interval", INTERVAL),
    Column("Fidelity", "{:.3f}"),
)
RANGES = {"symmetric": True, "asymmetric": False}
PLACEMENTS: dict[str, dict[str, Any]] = {
    "default": {},
    "residual on the input": {"residual": "input"},
    "residual on both": {"residual": "both"},
    "concat shared": {"sharing": "concat"},
    "concat shared, residual on the input (TensorRT)": {"sharing": "concat", "residual": "input"},
    "concat shared, residual on both": {"sharing": "concat", "residual": "both"},
    "first layers too": {"float_first": 0},
    "head too": {"float_head": False},
    "everything": {"float_first": 0, "float_head": False},
}
HOW = (
    "Each row is an OpenVINO INT8 engine; what a row does not name is at its default. All rows "
    "come from one pass over {images} calibration images."
)


def measure(subject: Subject) -> Found:
    """Every calibrator with every granularity and kind of range, and every placement."""
    grid = itertools.product(CALIBRATORS, ("tensor", "channel", "group"), RANGES)
    ranges = []
    for calibrator, per, kind in grid:
        options = {"calibrator": calibrator, "weights_per": per, "symmetric": RANGES[kind]}
        ranges.append((calibrator, per, kind, *_score(subject, **options)))
    placements = [(name, *_score(subject, **options)) for name, options in PLACEMENTS.items()]
    tables = (
        Table(
            "Calibrators and granularity",
            (Column("Calibrator"), Column("Weights per"), Column("Activations"), *SCORES),
            tuple(ranges),
        ),
        Table("Placement", (Column("Placement"), *SCORES), tuple(placements)),
    )
    return Found(tables=tables, how=(HOW.format(images=subject.calibration_images),))


def _score(subject: Subject, **options: Any) -> tuple[Any, ...]:
    predictor = subject.load(subject.quantized(**options), "openvino", "int8")
    return points(subject, find(subject.inputs, predictor))


if __name__ == "__main__":
    raise SystemExit(main("settings", measure))
