"""The speed of one engine's precisions, in turn, at each batch and each number of streams."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np

from yoloq.engines.predictor import Predictor
from yoloq.measure.image_path import ImagePath
from yoloq.measure.latency import Latency, measure_predictors
from yoloq.measure.throughput import Throughput, measure_throughput
from yoloq.stages.benchmark import BenchmarkConfig
from yoloq.stages.built import BuiltEngine

WARMUP = 3  # calls that are not counted
FILES = 50  # images of a round of streams


@dataclass(frozen=True)
class Speed:
    """Of one precision: its latencies by batch, its images a second from file to boxes by streams.

    A batch that it does not take, or a number of streams, is not there.
    """

    built: BuiltEngine
    batches: Mapping[int, Latency]
    streams: Mapping[int, Throughput]

    def rates(self) -> dict[str, float]:
        """Images a second, by what a column is called."""
        alone = {f"batch {count}": each.fps for count, each in self.batches.items()}
        return alone | {streams_title(count): each.fps for count, each in self.streams.items()}


def streams_title(count: int) -> str:
    """What a column of streams is called."""
    return f"{count} stream{'s' * (count > 1)}"


@runtime_checkable
class Limited(Protocol):
    """A predictor that takes `batch` images at once, or if it is dynamic up to `largest`."""

    batch: int
    largest: int

    @property
    def dynamic(self) -> bool: ...


def takes(predictor: Predictor, count: int) -> bool:
    """Whether an engine can be called with so many images."""
    if not isinstance(predictor, Limited):
        return True
    return count == predictor.batch or (predictor.dynamic and count <= predictor.largest)


def measure_speeds(
    config: BenchmarkConfig, engines: Sequence[BuiltEngine], images: Sequence[Path]
) -> list[Speed]:
    """Time precisions of one engine in turn; int8 that is computed in float is none.

    Raises:
        UserError: a file is of another machine or version, or an image cannot be read.
    """
    timed = [each for each in engines if not (each.engine.simulated and each.precision == "int8")]
    loaded = {each.key: each.load(config.device, config.cores)[0] for each in timed}
    alone = {count: _alone(config, loaded, count) for count in config.batches}
    del loaded  # their idle threads may go on spinning for a while
    rates = {count: _at_once(config, timed, images, count) for count in config.streams}
    return [
        Speed(
            each,
            {count: found[each.key] for count, found in alone.items() if each.key in found},
            {count: found[each.key] for count, found in rates.items() if each.key in found},
        )
        for each in timed
    ]


def _alone(
    config: BenchmarkConfig, loaded: Mapping[str, Predictor], count: int
) -> dict[str, Latency]:
    """Latency of the engines alone at a batch."""
    able = {key: predictor for key, predictor in loaded.items() if takes(predictor, count)}
    if not able:
        return {}
    size = next(iter(able.values())).model.imgsz
    images = np.random.default_rng(0).integers(0, 256, (count, size, size, 3), np.uint8)
    title = f"time the engines in turn, batch {count}"
    return measure_predictors(able, images, config.runs, WARMUP, config.cores, title)


def _at_once(
    config: BenchmarkConfig, engines: Sequence[BuiltEngine], images: Sequence[Path], count: int
) -> dict[str, Throughput]:
    """Images a second from file to boxes, so many in the engine at once."""
    several = count <= config.cores
    able = [each for each in engines if count == 1 or (several and each.engine.streams is not None)]
    paths = {each.key: ImagePath(each.load(config.device, config.cores, count)) for each in able}
    title = f"time files to boxes, {streams_title(count)}"
    return measure_throughput(paths, images, runs=FILES, threads=config.cores, title=title)
