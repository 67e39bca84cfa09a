"""Latency of engine files side by side: in turn within a process, again in fresh processes."""

import multiprocessing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from yoloq.base.machine import affinity
from yoloq.data.images import read_image
from yoloq.engines import get_engine
from yoloq.engines.predictor import Predictor
from yoloq.geometry.boxes import letterbox
from yoloq.geometry.nms import nms
from yoloq.measure.latency import measure
from yoloq.models.heads.decode import Candidates

RUNS, WARMUP, REPETITIONS = 60, 10, 5

Load = Callable[[], Callable[[], object]]  # opens a model; the call runs it once


@dataclass(frozen=True)
class EngineFile:
    """An engine file and the image to run it on; called, it opens the engine.

    `to_boxes` adds decoding the raw head and NMS, at the thresholds that travel with the model.
    """

    engine: str
    precision: str
    file: Path
    image: Path
    to_boxes: bool = False

    def __call__(self) -> Callable[[], object]:
        row = get_engine(self.engine)
        predictor = row.load(self.file, self.precision, "cpu", len(affinity()))
        image = pixels(self.image, predictor.model.imgsz)
        return (
            partial(_find_boxes, predictor, image) if self.to_boxes else partial(predictor, image)
        )


def _find_boxes(predictor: Predictor, image: NDArray[np.uint8]) -> Candidates:
    model = predictor.model
    found = model.head.decode(predictor(image), model.conf)[0]
    kept = nms(found.boxes, found.scores, found.classes, model.iou)
    return Candidates(found.boxes[kept], found.scores[kept], found.classes[kept])


def pixels(image: Path, imgsz: int) -> NDArray[np.uint8]:
    """A letterboxed image file as an engine takes it, uint8 (1, imgsz, imgsz, 3)."""
    read = read_image(image)
    assert read is not None
    return letterbox(read, imgsz)[0][None]


@dataclass(frozen=True)
class Timed:
    """Median milliseconds of each model, `medians`, from as many fresh processes."""

    medians: tuple[dict[str, float], ...]
    runs: int

    @property
    def names(self) -> list[str]:
        """The models."""
        return list(self.medians[0])

    def milliseconds(self, name: str) -> tuple[float, list[float]]:
        """Median, and least and largest, over the processes."""
        return spread([row[name] for row in self.medians])

    def ratio(self, name: str, base: str) -> tuple[float, list[float]]:
        """The same of a model's time over that of another in the same process."""
        return spread([row[name] / row[base] for row in self.medians])

    @property
    def how(self) -> str:
        """How the times were taken, in sentences."""
        return (
            f"Milliseconds of one call at batch 1 on {len(affinity())} threads: the median of "
            f"{self.runs} runs after {WARMUP} to warm up, models in turn; then the median and the "
            f"extremes of {len(self.medians)} fresh processes. Ratios are taken within a process."
        )


def time_models(
    groups: Sequence[Mapping[str, Load]], limited: bool, runs: int = RUNS, warmup: int = WARMUP
) -> Timed:
    """Time models in fresh processes; `limited` for a short try.

    Within a process the models of a group run in turn. Groups run one after the other: threads of
    one runtime go on spinning for a while and would slow the call of another.
    """
    repetitions, runs = (2, min(runs, 10)) if limited else (REPETITIONS, runs)
    context = multiprocessing.get_context("spawn")
    medians = []
    for _ in range(repetitions):
        with context.Pool(1) as pool:
            medians.append(pool.apply(time_groups, (groups, runs, warmup)))
    return Timed(tuple(medians), runs)


def time_groups(
    groups: Sequence[Mapping[str, Load]], runs: int, warmup: int = WARMUP
) -> dict[str, float]:
    """One repetition, in this process."""
    medians: dict[str, float] = {}
    for group in groups:
        calls = {name: load() for name, load in group.items()}
        timed = measure(calls, runs, warmup)
        medians |= {name: latency.p50 for name, latency in timed.items()}
    return medians


def spread(values: Sequence[float]) -> tuple[float, list[float]]:
    """Median, and the least and the largest."""
    return float(np.median(values)), [min(values), max(values)]
