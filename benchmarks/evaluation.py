"""Evaluation time: from image files to AP against the engine's own calls on the same images."""

import time
from collections.abc import Callable
from typing import Any

from latency import spread
from record import SPREAD, Column, Figure, Found, Table
from subject import Subject, main

from yoloq.base.machine import affinity, keep_freed_memory
from yoloq.data.loader import iterate
from yoloq.measure.ap import score
from yoloq.measure.evaluate import detect

REPETITIONS = 5
MOST = 1.5
COLUMNS = (Column("Step"), Column("Seconds", "{:.2f}"), Column("Least to largest", SPREAD))
HOW = (
    "OpenVINO INT8 at batch 1 on {threads} threads, {images} images at {imgsz} px. Evaluation "
    "reads the files, letterboxes, runs the engine, decodes, suppresses at confidence 0.001 and "
    "scores; the engine alone gets the letterboxed images from memory. In turn, {repetitions} "
    "repetitions after one to warm up."
)


def measure(subject: Subject) -> Found:
    """Ratio of a whole evaluation to the engine's calls, loading ahead and not."""
    keep_freed_memory()
    inputs = subject.inputs
    predictor = subject.load(subject.quantized(), "openvino", "int8")
    loaded = [batch.images for batch in iterate(inputs.images, inputs.imgsz, 16)]

    def engine() -> None:
        for images in loaded:
            predictor(images)  # results are let go: kept, they would be a gigabyte of fresh memory

    def evaluate(workers: int) -> None:
        found = detect(
            predictor, inputs.images, imgsz=inputs.imgsz, workers=workers, progress=False
        )
        score(inputs.truth, found, inputs.nc)

    steps: dict[str, Callable[[], Any]] = {
        "engine alone": engine,
        "evaluation": lambda: evaluate(2),
        "evaluation, --workers 0": lambda: evaluate(0),
    }
    turns = [{name: seconds(step) for name, step in steps.items()} for _ in range(1 + REPETITIONS)]
    rows = turns[1:]
    figures = [
        Figure(
            f"{name} / engine alone", median, "{:.2f}", high=MOST, note=f"{low:.2f} to {most:.2f}"
        )
        for name in list(steps)[1:]
        for median, (low, most) in [spread([r[name] / r["engine alone"] for r in rows])]
    ]
    table = [(name, *spread([row[name] for row in rows])) for name in steps]
    how = HOW.format(
        threads=len(affinity()),
        images=len(inputs.images),
        imgsz=inputs.imgsz,
        repetitions=REPETITIONS,
    )
    return Found(tuple(figures), (Table("Evaluation", COLUMNS, tuple(table)),), (how,))


def seconds(step: Callable[[], Any]) -> float:
    """How long a step takes."""
    began = time.perf_counter()
    step()
    return time.perf_counter() - began


if __name__ == "__main__":
    raise SystemExit(main("evaluation", measure))
