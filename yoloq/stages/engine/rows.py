"""Rows of an engine run: what each engine finds, and the latency of all of them in turn."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from yoloq.base.result import Row
from yoloq.base.say import say
from yoloq.engines.base import Engine, engine_files
from yoloq.engines.options import PLACED
from yoloq.engines.predictor import Predictor
from yoloq.geometry.detections import Detections
from yoloq.measure.image_path import ImagePath
from yoloq.measure.latency import Latency, end_to_end, measure_predictors
from yoloq.measure.record import Record
from yoloq.measure.throughput import Throughput, measure_throughput
from yoloq.stages.engine import EngineConfig
from yoloq.stages.engine.build import EngineVariant
from yoloq.stages.row import BASELINE, describe, find, recorded, timing
from yoloq.stages.run import Inputs

WARMUP = 5  # runs that are not counted


def at_batch(
    inputs: Inputs,
    config: EngineConfig,
    engine: Engine,
    variants: Sequence[EngineVariant],
    predictors: Mapping[str, Predictor],
    files: Mapping[str, Path],
) -> tuple[list[Row], dict[str, Record]]:
    """Accuracy of each engine, then the latency of all of them in turn at `--batch` images.

    Returns:
        The rows, and their records by key.
    """
    baseline = Detections.load(config.folder / BASELINE)
    found = {
        key: find(inputs, predictor, title=f"detect, {engine.name} {key}")
        for key, predictor in predictors.items()
    }
    honest = [v for v in variants if not (engine.simulated and v.precision == "int8")]
    timed = {variant.key: predictors[variant.key] for variant in honest}
    alone = time_alone(timed, inputs, config, config.batch)
    paths = time_paths(timed, inputs, config)
    rates = time_streams(engine, honest, timed, files, inputs, config)
    rows, records = [], {}
    for row in _without_figures(engine, variants, predictors, files):
        key = row.precision
        figures, records[key] = recorded(inputs, found[key], baseline)
        figures |= timing(alone.get(key), paths.get(key), rates.get(key))
        rows.append(replace(row, **figures))
        say(describe(rows[-1]))
    return rows, records


def not_measured(
    engine: Engine,
    variants: Sequence[EngineVariant],
    predictors: Mapping[str, Predictor],
    files: Mapping[str, Path],
) -> list[Row]:
    """Rows of engines that were built, and cannot be run here."""
    rows = _without_figures(engine, variants, predictors, files)
    for row in rows:
        say(describe(row))
    return rows


def _without_figures(
    engine: Engine,
    variants: Sequence[EngineVariant],
    predictors: Mapping[str, Predictor],
    files: Mapping[str, Path],
) -> list[Row]:
    """What is known of each engine before it ran."""
    rows = []
    for variant in variants:
        key, int8 = variant.key, variant.precision in PLACED
        placement = variant.source.quantized.placement
        row = Row(
            name=variant.title,
            precision=key,
            engine=engine.name,
            size_bytes=sum(file.stat().st_size for file in engine_files(files[key])),
            float_type=predictors[key].float_type,
            float_layers=tuple(placement.float_layers) if int8 else None,
            simulated=int8 and engine.simulated,
        )
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
    if fixed_batch(config):
        return {}
    options = {"runs": config.runs, "threads": config.cores}
    return {
        name: end_to_end(
            predictor, inputs.images, **options, title=f"time from file to boxes, {name}"
        )
        for name, predictor in predictors.items()
    }


def time_streams(
    engine: Engine,
    variants: Sequence[EngineVariant],
    predictors: Mapping[str, Predictor],
    files: Mapping[str, Path],
    inputs: Inputs,
    config: EngineConfig,
) -> dict[str, Throughput]:
    """Images a second with several under way: in the engine as many as it can run at once."""
    if fixed_batch(config):
        return {}
    count = (config.streams or config.cores) if engine.streams else 1
    paths = {}
    for variant in variants:
        key = variant.key
        how = (files[key], variant.precision, config.device, config.cores, count)
        streams = engine.load_streams(*how) if count > 1 else [predictors[key]]
        paths[key] = ImagePath(streams)
    title = f"time files to boxes, {count} in the engine at once"
    options = {"runs": config.runs, "threads": config.cores}
    return measure_throughput(paths, inputs.images, **options, title=title)


def fixed_batch(config: EngineConfig) -> bool:
    """Whether the engines take several images at once and no fewer."""
    return config.batch > 1 and config.max_batch <= config.batch
