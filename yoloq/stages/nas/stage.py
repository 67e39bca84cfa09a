"""Architecture choice: short trainings, int8 engines timed in turn, a front, its checkpoints."""

import time
from dataclasses import replace
from datetime import timedelta
from typing import Any

from yoloq.base.errors import EngineError
from yoloq.base.files import temporary_folder, write_text
from yoloq.base.journal import Journal
from yoloq.base.machine import affinity
from yoloq.base.result import StageResult
from yoloq.base.say import say
from yoloq.data.loader import check_imgsz
from yoloq.engines import get_engine
from yoloq.engines.base import Engine
from yoloq.measure.pareto import pareto
from yoloq.report.tables import markdown, show
from yoloq.stages.end import command
from yoloq.stages.nas import NasConfig
from yoloq.stages.nas.nas_front import Outcome, Outcomes
from yoloq.stages.nas.nas_lines import LINES
from yoloq.stages.nas.network_space import Candidate, NetworkSpace, Place
from yoloq.stages.nas.workbench import Workbench
from yoloq.stages.run import Inputs, finished, machine, open_inputs, package_versions, report_labels

JOURNAL = "nas.jsonl"
STRIDE = 32  # of YOLOv5's layout


def run(config: NasConfig) -> StageResult:
    """Write the journal, `nas.json`, its table and picture, and the front's checkpoints.

    A search that was interrupted goes on after its last epoch; another space, or more trials, uses
    what was measured.

    Raises:
        UserError: an input cannot be used, the engine's package is missing, or the journal is of
            something else.
    """
    began = time.perf_counter()
    engine = get_engine(config.engine, config.device)
    if engine.simulated:
        raise EngineError(f"--engine {engine.name}: simulates int8 and has no speed to choose by")
    engine.check_precision("int8", config.device)
    inputs = open_inputs(config)
    small = at_small_size(inputs, config)
    key = inputs.key("nas", timed=True, engine=engine.name)
    done = finished(config.folder, "nas", key, config.force)
    if done is not None:
        tell(done)
        return done
    report_labels(small)
    journal = open_journal(inputs, small, config, engine)
    with temporary_folder(config.folder, "nas") as kept:
        threads = config.threads or len(affinity())
        bench = Workbench(inputs, small, config, engine, journal, kept, threads)
        outcomes = searched(bench)
        result = concluded(bench, outcomes, key, began)
    result.write(config.folder / "nas.json")
    tell(result)
    return result


def next_step(config: NasConfig, found: StageResult) -> str:
    """Train the answer in full."""
    weights = str(config.folder / found.notes["checkpoint"])
    return command(replace(config, weights=weights, name=""), "train")


def at_small_size(inputs: Inputs, config: NasConfig) -> Inputs:
    """The inputs at the size of training and accuracy, with the images of val that count.

    Raises:
        UserError: the size is no multiple of the stride.
    """
    half = max(round(inputs.imgsz / 2 / STRIDE), 1) * STRIDE
    size = check_imgsz(config.score_imgsz or half, STRIDE, "--score-imgsz")
    return replace(inputs, imgsz=size, images=inputs.images[: config.images or None])


def open_journal(inputs: Inputs, small: Inputs, config: NasConfig, engine: Engine) -> Journal:
    """What was measured before, if it was measured in the same way.

    Raises:
        RunError: it was not; names what differs.
    """
    subject: dict[str, Any] = {
        "weights": inputs.model.sha256,
        "data": inputs.dataset.sha256,
        "--engine": engine.name,
        "--imgsz": inputs.imgsz,
        "--score-imgsz": small.imgsz,
        "--images": [file.name for file in small.images],
        "--epochs": config.epochs,
        "--train-images": config.train_images,
        "--batch-size": config.batch_size,
        "--lr": config.lr,
        "--seed": config.seed,
        "machine": machine(config.device) | {"threads": config.threads, "runs": config.runs},
        "package versions": package_versions(),
    }
    return Journal(config.folder / JOURNAL, subject, LINES, config.force)


def searched(bench: Workbench) -> Outcomes:
    """Test candidate after candidate: half of them far apart, the others beside the front."""
    config = bench.config
    space, tried = NetworkSpace(config), list[Place]()
    most, began = min(config.trials, len(space.places)), time.perf_counter()
    front: list[Place] = []
    while len(tried) < most:
        place = space.next(tried, front, (most + 1) // 2)
        assert place is not None, "fewer than all were tried"
        tried.append(place)
        bench.test(space.candidate(place))
        known = {space.candidate(each).name: each for each in tried}
        outcomes = Outcomes([space.candidate(each) for each in tried], bench.journal)
        front = [known[spot.name] for spot in pareto([each.spot for each in outcomes.all])]
        left = (most - len(tried)) * (time.perf_counter() - began) / len(tried)
        say(f"nas: {len(tried)} of {most} candidates, left {timedelta(seconds=round(left))}")
    return outcomes


def concluded(bench: Workbench, outcomes: Outcomes, key: str, began: float) -> StageResult:
    """The table, the picture, the checkpoints of the front, and the result that names them."""
    config, folder = bench.config, bench.config.folder
    words = outcomes.verdict(f"after {config.epochs} epochs at {bench.small.imgsz} px")
    table = outcomes.rendered()
    write_text(folder / "nas.md", f"{words}\n\n{markdown(table)}\n")
    outcomes.draw(folder / "nas.png")
    files = write_front(bench, outcomes.front)
    return bench.inputs.result(
        "nas",
        key,
        [],
        artifacts={"journal": JOURNAL, "table": "nas.md", "chart": "nas.png"} | files,
        seconds={"total": time.perf_counter() - began},
        notes={
            "verdict": words,
            "table": table,
            "chosen": outcomes.answer.candidate.name,
            "checkpoint": files[outcomes.answer.trained.name],
            "rank_correlation": outcomes.agreement,
            "score_imgsz": bench.small.imgsz,
            "points": [point(each, outcomes) for each in outcomes.all],
        },
    )


def write_front(bench: Workbench, front: list[Outcome]) -> dict[str, str]:
    """The checkpoints of the front's networks by name; those of an earlier search go."""
    folder = bench.config.folder
    for old in folder.glob("nas-*.pt"):
        old.unlink()
    networks: dict[str, Candidate] = {each.trained.name: each.candidate for each in front}
    files = {name: f"nas-{name}.pt" for name in networks}
    for name, candidate in networks.items():
        bench.write(candidate.architecture, folder / files[name])
    return files


def point(outcome: Outcome, outcomes: Outcomes) -> dict[str, Any]:
    """A candidate as plain data; times in milliseconds."""
    architecture, trained = outcome.candidate.architecture, outcome.trained
    return {
        "name": outcome.candidate.name,
        "width": architecture.width,
        "depth": architecture.depth,
        "activation": architecture.activation,
        "bits": outcome.candidate.bits,
        "ms": outcome.ms,
        "of_weights": outcome.share,
        "map50_95": outcome.judged.map50_95,
        "map50": outcome.judged.map50,
        "float_map50_95": trained.map50_95,
        "size_bytes": outcome.judged.size_bytes,
        "parameters": trained.parameters,
        "synflow": trained.synflow,
        "seconds": trained.seconds,
        "front": outcome in outcomes.front,
        "size_front": "size" in outcomes.where(outcome),
    }


def tell(result: StageResult) -> None:
    """Print what was found."""
    show(result.notes["table"])
    say(result.notes["verdict"])
