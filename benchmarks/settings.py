"""Settings of PTQ side by side on the OpenVINO engine: calibrators, granularity, placement."""

import itertools
from typing import Any

from accuracy import points
from record import INTERVAL, Column, Found, Table
from subject import Subject, main

from yoloq.engines.predictor import Predictor, any_image
from yoloq.measure.latency import measure_predictors
from yoloq.quant.calibrators import CALIBRATORS
from yoloq.stages.row import find

SCORES = (
    Column("AP", "{:.2f}"),
    Column("AP50", "{:.2f}"),
    Column("Delta", "{:+.2f}"),
    Column("95% interval", INTERVAL),
    Column("Fidelity", "{:.3f}"),
    Column("Time / default", "{:.3f}"),
)
RUNS, WARMUP = 40, 5  # timed runs of each row, in turn with the default
RANGES = {"symmetric": True, "asymmetric": False}
PLACEMENTS: dict[str, dict[str, Any]] = {
    "default": {},
    "residual on the input": {"residual": "input"},
    "residual on both": {"residual": "both"},
    "concat shared": {"sharing": "concat"},
    "concat shared, residual on the input (TensorRT)": {"sharing": "concat", "residual": "input"},
    "concat shared, residual on both": {"sharing": "concat", "residual": "both"},
    "first two layers in float": {"float_first": 2},
    "symmetric, first two layers in float": {"float_first": 2, "symmetric": True},
    "head too": {"float_head": False},
    "head too, residual on both": {"float_head": False, "residual": "both"},
}
HOW = (
    "Each row is an OpenVINO INT8 engine without repairs (--refine none), so that a setting shows "
    "by itself; what a row does not name is at its default. All rows "
    "come from one pass over {images} calibration images. A row's time is the median of 40 runs in "
    "turn with the default's, on all cores."
)


def measure(subject: Subject) -> Found:
    """Every calibrator with every granularity and kind of range, and every placement."""
    usual = subject.load(subject.quantized(refine=()), "openvino", "int8")
    grid = itertools.product(CALIBRATORS, ("tensor", "channel", "group"), RANGES)
    ranges = []
    for calibrator, per, kind in grid:
        options = {"calibrator": calibrator, "weights_per": per, "symmetric": RANGES[kind]}
        ranges.append((calibrator, per, kind, *_score(subject, usual, **options)))
    placements = [
        (name, *_score(subject, usual, **options)) for name, options in PLACEMENTS.items()
    ]
    tables = (
        Table(
            "Calibrators and granularity",
            (Column("Calibrator"), Column("Weights per"), Column("Activations"), *SCORES),
            tuple(ranges),
        ),
        Table("Placement", (Column("Placement"), *SCORES), tuple(placements)),
    )
    return Found(tables=tables, how=(HOW.format(images=subject.calibration_images),))


def _score(subject: Subject, usual: Predictor, **options: Any) -> tuple[Any, ...]:
    predictor = subject.load(subject.quantized(refine=(), **options), "openvino", "int8")
    both = {"this": predictor, "default": usual}
    times = measure_predictors(both, any_image(subject.info.imgsz), RUNS, WARMUP)
    ratio = times["this"].p50 / times["default"].p50
    return *points(subject, find(subject.inputs, predictor)), ratio


if __name__ == "__main__":
    raise SystemExit(main("settings", measure))
