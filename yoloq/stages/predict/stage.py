"""Prediction: boxes of every picture of a source, drawn and in files, and how fast that went."""

import os
import shutil
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

from yoloq.base.errors import DataError, RunError
from yoloq.base.files import check_writable
from yoloq.base.machine import environment
from yoloq.base.owned_folder import owned_folder
from yoloq.base.result import StageResult, hashes, input_key
from yoloq.base.say import put, say, warn
from yoloq.engines import engine_packages
from yoloq.measure.image_path import ImagePath
from yoloq.report.tables import show
from yoloq.stages.built import BuiltEngine, choose, engines_of, result_with, results_of
from yoloq.stages.end import on_run
from yoloq.stages.predict import PredictConfig
from yoloq.stages.predict.frames import Frames, open_frames
from yoloq.stages.predict.look import Looked, look

FOLDER, RESULT = "predict", "predict.json"
REFERENCE = "fp32"  # what --compare draws beside
CLASSES = 15  # that the printed table has, the most frequent ones
LISTED = 5  # broken pictures that a message names


def run(config: PredictConfig) -> StageResult:
    """Write pictures, `labels/`, `coco.json` and `predict.json` below `predict/` of the run.

    Ctrl-C ends the source: what was seen by then is written.

    Raises:
        UserError: the run has no such engine, or the source holds nothing that can be read.
    """
    began = time.time()
    check_writable(config.folder)
    results = results_of(config, config.engine)
    with open_frames(config.source, config.limit) as frames:
        result = result_with(results, config.precision)
        engines = wanted(config, result)
        paths = [open_path(config, each) for each in engines]
        title = "-".join([frames.name, engines[0].engine.name, *keys(engines)])
        where = config.folder / FOLDER / title
        where.parent.mkdir(exist_ok=True)
        with owned_folder(where.parent, "predict", began) as temporary:
            made = temporary / where.name
            looked = look(config, frames, engines, paths, made)
            check_seen(config, frames, looked)
            found = conclusion(config, result, engines, looked, where, made)
            publish(made, where)
    tell(found, looked)
    return found


def next_step(config: PredictConfig, found: StageResult) -> str:
    """Look at what int8 changes, then at the speed."""
    if config.compare:
        return on_run(config, "benchmark")
    return on_run(config, "predict", config.source, "--compare")


def wanted(config: PredictConfig, result: StageResult) -> list[BuiltEngine]:
    """The engine, and the one that it is compared with before it.

    Raises:
        UserError: a file is damaged, or the engine does not run here.
    """
    engines = engines_of(config, result, config.device)
    chosen = choose(engines, config.precision)
    if not config.compare:
        return [chosen]
    return [choose(engines, REFERENCE), chosen]


def keys(engines: Sequence[BuiltEngine]) -> list[str]:
    """What they are called in the run."""
    return [each.key for each in engines]


def open_path(config: PredictConfig, built: BuiltEngine) -> ImagePath:
    """The engine with all that comes before and behind it.

    Raises:
        EngineError: the file is of another machine or version, or it runs one image at a time.
    """
    built.engine.check_streams(config.streams)
    several = (config.streams or config.cores) if built.engine.streams else 1
    predictors = built.load(config.device, config.cores, several)
    if config.conf:
        for predictor in predictors:
            predictor.model = replace(predictor.model, conf=config.conf)
    return ImagePath(predictors)


def check_seen(config: PredictConfig, frames: Frames, looked: Looked) -> None:
    """Find that nothing could be read.

    Raises:
        DataError: so it is.
    """
    if looked.count:
        return
    if looked.broken:
        title, reason = next(iter(looked.broken.items()))
        raise DataError(f"{title}: {reason}; none of {len(looked.broken)} pictures can be read")
    raise DataError(f"--source {config.source}: gave no picture; check it in a player")


def conclusion(
    config: PredictConfig,
    built: StageResult,
    engines: Sequence[BuiltEngine],
    looked: Looked,
    where: Path,
    made: Path,
) -> StageResult:
    """Write the result into the folder that is made."""
    result = StageResult(
        stage="predict",
        key=input_key(engine=built.key, source=config.source, engines=keys(engines)),
        config=asdict(config),
        environment=environment(config.device, engine_packages()),
        weights=built.weights,
        data={"path": config.source, "sha256": "", "images": looked.count, "imgsz": looked.imgsz},
        rows=(),
        artifacts=looked.artifacts,
        hashes=hashes(made, looked.artifacts),
        seconds={"total": looked.seconds},
        notes={
            "folder": str(where),
            "engine": engines[0].engine.name,
            "precisions": keys(engines),
            "titles": [each.title for each in engines],
            "streams": looked.streams,
            "images_s": looked.rate,
            "broken": looked.broken,
            "missing": looked.missing,
            "classes": looked.table(),
        },
    )
    result.write(made / RESULT)
    return result


def publish(made: Path, where: Path) -> None:
    """Put a whole folder in the place of the one of an earlier prediction.

    Raises:
        RunError: something else is there.
    """
    if where.exists():
        if not (where / RESULT).is_file():
            raise RunError(f"{where}: is no prediction of yoloq; move it away")
        shutil.rmtree(where)
    os.replace(made, where)


def tell(result: StageResult, looked: Looked) -> None:
    """Print what was found in a table, how fast that went, and what was broken."""
    show(looked.table(CLASSES))
    notes = result.notes
    what, unit = " and ".join(notes["precisions"]), looked.unit
    put(
        f"{looked.count} {unit} in {looked.seconds:.1f} s: {looked.rate:.1f} {unit}/s with "
        f"reading, drawing and writing ({notes['engine']} {what}, {looked.streams} at once)"
    )
    if not any(total.total() for total in looked.boxes):
        put("no box is sure enough: ARGS='--conf 0.05' shows less sure ones")
    if broken := looked.broken:
        named = ", ".join(f"{title} ({reason})" for title, reason in [*broken.items()][:LISTED])
        more = ", ..." if len(broken) > LISTED else ""
        warn(f"{len(broken)} {unit} are broken and left out: {named}{more}; mend them")
    if looked.missing:
        warn(
            f"{result.config['source']}: ends after {looked.count + len(looked.broken)} frames, "
            f"{looked.missing} fewer than it says to have; copy it again if it was cut"
        )
    say(f"written: {notes['folder']}")
