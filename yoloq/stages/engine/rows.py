"""Rows of an engine run: what each engine finds, and the latency of all of them in turn."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from yoloq.base.result import Row
from yoloq.base.say import say
from yoloq.engines.base import Engine, engine_files
from yoloq.engines.predictor import Predictor
from yoloq.geometry.detections import Detections
from yoloq.measure.latency import Latency, end_to_end, measure_predictors
from yoloq.stages.engine import EngineConfig
from yoloq.stages.engine.build import EngineVariant
from yoloq.stages.row import BASELINE, accuracy, describe, find, timing
from yoloq.stages.run import Inputs

WARMUP = 5  # runs that are not counted


def at_batch(
    inputs: Inputs,
    config: EngineConfig,
    engine: Engine,
    variants: Sequence[EngineVariant],
    predictors: Mapping[str, Predictor],
    files: Mapping[str, Path],
) -> list[Row]:
    """Accuracy of each engine, then the latency of all of them in turn at `--batch` images."""
    baseline = Detections.load(config.folder / BASELINE)
    found = {
        key: find(inputs, predictor, title=f"detect, {engine.name} {key}")
        for key, predictor in predictors.items()
    }
    alone = time_alone(predictors, inputs, config, config.batch)
    paths = time_paths(predictors, inputs, config)
    rows = []
    for variant in variants:
        key, int8 = variant.key, variant.precision == "int8"
        placement = variant.source.quantized.placement
        row = Row(
            name=variant.title,
            precision=key,
            engine=engine.name,
            size_bytes=sum(file.stat().st_size for file in engine_files(files[key])),
            float_type=predictors[key].float_type,
            float_layers=tuple(placement.float_layers) if int8 else None,
            simulated=int8 and engine.simulated,
            **accuracy(inputs, found[key], baseline),
            **timing(alone[key], paths.get(key)),
        )
        if row.simulated:
            row = replace(row, latency_ms=None, path_ms=None, fps=None)
        say(describe(row))
        rows.append(row)
    return rows


def at_max_batch(
    inputs: Inputs,
    config: EngineConfig,
    rows: Sequence[Row],
    predictors: Mapping[str, Predictor],
) -> list[Row]:
    """The same engines at `--max-batch` images, where they take any number up to that."""
    most = config.max_batch
    if most <= config.batch:
        return []
    alone = time_alone(predictors, inputs, config, most)
    larger = [
        replace(row, name=f"{row.name}, batch {most}", **timing(alone[row.precision]))
        for row in rows
        if row.latency_ms
    ]
    for row in larger:
        say(f"{row.name} ({row.engine}): {row.fps:.1f} images a second")
    return larger


def time_alone(
    predictors: Mapping[str, Predictor], inputs: Inputs, config: EngineConfig, batch: int
) -> dict[str, Latency]:
    """Latency of the models alone, in turn, at so many images."""
    shape = (batch, inputs.imgsz, inputs.imgsz, 3)
    images = np.random.default_rng(config.seed).integers(0, 256, shape, np.uint8)
    title = f"time the models in turn, batch {batch}"
    return measure_predictors(predictors, images, config.runs, WARMUP, config.cores, title)


def time_paths(
    predictors: Mapping[str, Predictor], inputs: Inputs, config: EngineConfig
) -> dict[str, Latency]:
    """Latency of the whole path of one image.

    An engine that takes several images at once and no fewer has no such path.
    """
    if config.batch > 1 and config.max_batch <= config.batch:
        return {}
    options = {"runs": config.runs, "threads": config.cores}
    return {
        name: end_to_end(
            predictor, inputs.images, **options, title=f"time from file to boxes, {name}"
        )
        for name, predictor in predictors.items()
    }
