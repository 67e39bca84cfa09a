"""Benchmark: every engine of a finished run at several batches and streams, in one table."""

import time
from collections.abc import Sequence
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Any

from yoloq.base.config import AUTO
from yoloq.base.errors import DataError, EngineError, RunError
from yoloq.base.files import write_text
from yoloq.base.machine import environment
from yoloq.base.result import StageResult, hashes, input_key
from yoloq.base.say import put, say, warn
from yoloq.data.dataset import read_dataset
from yoloq.data.images import image_size
from yoloq.engines import engine_packages
from yoloq.measure.layer_times import float_precisions
from yoloq.report.remarks import remark
from yoloq.report.tables import markdown, show
from yoloq.stages.benchmark import BenchmarkConfig
from yoloq.stages.benchmark.speeds import FILES, Speed, measure_speeds, streams_title
from yoloq.stages.built import again, engines_of, name_of, results_of
from yoloq.stages.end import on_run

STAGE = "benchmark"
LEGEND = (
    "ms: median of the engine alone at the first batch. Batch: images/s of the engine alone. "
    "Stream: images/s from file to boxes, so many in the engine at once. Speed-up: against FP32 of "
    "the same engine at the first batch, timed in turn."
)


def run(config: BenchmarkConfig) -> StageResult:
    """Write `benchmark.json`, `benchmark.md` and `benchmark.csv`.

    Raises:
        UserError: the run has no such engine, its files cannot be used here, or its data is gone.
    """
    began = time.perf_counter()
    results = results_of(config, config.engine)
    images = readable(results[0].data["path"])
    rows, remarks = list[dict[str, Any]](), list[str]()
    for result in results:
        speeds = speeds_of(config, result, images)
        rows += [row(speed, speeds) for speed in speeds]
        remarks += slow(config, result, speeds)
    if not rows:
        remedy = again(config, results[0])
        raise RunError(f"{config.folder}: none of its engines has a speed here; {remedy}")
    cells = table(config, rows)
    artifacts = {"table": f"{STAGE}.md", "csv": f"{STAGE}.csv"}
    lines = [markdown(cells), "", LEGEND, "", *(f"- {text}" for text in remarks), ""]
    write_text(config.folder / artifacts["table"], "\n".join(lines))
    write_text(config.folder / artifacts["csv"], "\n".join(",".join(r) for r in cells) + "\n")
    found = StageResult(
        stage=STAGE,
        key=input_key(engines=[result.key for result in results], options=asdict(config)),
        config=asdict(config),
        environment=environment(config.device, engine_packages()),
        weights=results[0].weights,
        data=results[0].data | {"images": len(images)},
        rows=(),
        artifacts=artifacts,
        hashes=hashes(config.folder, artifacts),
        seconds={"total": time.perf_counter() - began},
        notes={"speeds": rows, "remarks": remarks},
    )
    found.write(config.folder / f"{STAGE}.json")
    show(cells)
    put(LEGEND)
    for text in remarks:
        put(text)
    say(f"written: {config.folder / STAGE}.md, .csv, .json")
    return found


def next_step(config: BenchmarkConfig, found: StageResult) -> str:
    """Accuracy beside it."""
    return on_run(config, "predict", "photo.jpg", "--compare")


def speeds_of(config: BenchmarkConfig, result: StageResult, images: Sequence[Path]) -> list[Speed]:
    """The speeds of one engine; none where it does not run here and was not asked for by name.

    Raises:
        UserError: it was asked for by name and does not run here, or an image cannot be read.
    """
    try:
        return measure_speeds(config, engines_of(config, result, config.device), images)
    except EngineError as error:
        if config.engine != AUTO:
            raise
        warn(f"{name_of(result)} is left out: {error}")
        return []


def readable(data: str) -> list[Path]:
    """The first images of val that can be read.

    Raises:
        DataError: there is none, or the data set is gone.
    """
    files = read_dataset(data).images("val")
    found = list(islice((file for file in files if image_size(file) is not None), FILES))
    if not found:
        raise DataError(f"{data}: none of {len(files)} images of val can be read; mend them")
    return found


def row(speed: Speed, others: Sequence[Speed]) -> dict[str, Any]:
    """A line of the table as plain data: milliseconds, images a second, how they were taken."""
    first, *_ = speed.batches.values() or [None]
    base = next((other for other in others if other.built.key == "fp32"), None)
    reference = None if base is None or first is None else base.batches.get(first.batch)
    return {
        "engine": speed.built.engine.name,
        "precision": speed.built.key,
        "name": speed.built.title,
        "ms": None if first is None else first.p50,
        "speed_up": None if first is None or reference is None else first.fps / reference.fps,
        "images_s": speed.rates(),
        "batches": {str(count): asdict(each) for count, each in speed.batches.items()},
        "streams": {str(count): asdict(each) for count, each in speed.streams.items()},
    }


def table(config: BenchmarkConfig, rows: Sequence[dict[str, Any]]) -> list[list[str]]:
    """Header and cells; what an engine does not do is `-`."""
    titles = [f"batch {count}" for count in config.batches]
    titles += [streams_title(count) for count in config.streams]
    cells = [["Engine", "Precision", "ms", *titles, "Speed-up"]]
    for values in rows:
        rates = [_cell(values["images_s"].get(title), "{:.1f}") for title in titles]
        ends = (_cell(values["ms"], "{:.2f}"), _cell(values["speed_up"], "{:.2f}x"))
        cells.append([values["engine"], values["name"], ends[0], *rates, ends[1]])
    return cells


def _cell(value: float | None, form: str) -> str:
    return "-" if value is None else form.format(value)


def slow(config: BenchmarkConfig, result: StageResult, speeds: Sequence[Speed]) -> list[str]:
    """Where int8 is not faster than the fastest float type, and which layers or who names them."""
    floats = set(float_precisions(speed.built.key for speed in speeds))
    best: dict[str, float] = {}
    for speed in speeds:
        if speed.built.key in floats:
            best |= {k: max(v, best.get(k, 0.0)) for k, v in speed.rates().items()}
    known, texts = result.notes.get("slow", {}), []
    for speed in speeds:
        rates = speed.rates()
        places = [k for k, rate in rates.items() if k in best and rate <= best[k]]
        if speed.built.key in floats or not places:
            continue
        text = f"{speed.built.title} ({speed.built.engine.name}) is not faster than float at "
        text += ", ".join(places)
        if speed.built.key in known:
            texts.append(f"{text}: {remark(config.folder, result, known[speed.built.key])}")
        else:
            texts.append(f"{text}: for the layers that cost it: {again(config, result)}")
    return texts
