"""Search: predict, measure the most promising engines, and answer the question that was asked."""

import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from yoloq.base.errors import EngineError
from yoloq.base.files import temporary_folder, write_text
from yoloq.base.result import StageResult
from yoloq.engines import get_engine
from yoloq.measure.layer_times import float_precisions
from yoloq.measure.pareto import Spot, pareto
from yoloq.quant.policy import conv_layers
from yoloq.report.tables import markdown
from yoloq.stages.baseline import BaselineConfig
from yoloq.stages.baseline.stage import run as run_baseline
from yoloq.stages.end import command
from yoloq.stages.run import (
    Inputs,
    earlier,
    finished,
    open_inputs,
)
from yoloq.stages.search import SearchConfig
from yoloq.stages.search.bits.stage import run as run_bits
from yoloq.stages.search.front import answer
from yoloq.stages.search.opened import open_workshop
from yoloq.stages.search.proposed import tell, write_policy
from yoloq.stages.search.screen import Workshop, forecast
from yoloq.stages.search.space import Space
from yoloq.stages.search.trial_lines import LINES, Tested
from yoloq.stages.search.trials import Trials, search
from yoloq.stages.search.verdict import draw, rendered, span, verdict

JOURNAL = "search.jsonl"


def run(config: SearchConfig) -> StageResult:
    """Write the journal, `search.json`, its table and picture, and the policy that it proposes.

    A search that was interrupted goes on after its last engine.

    Raises:
        UserError: an input cannot be used, the engine's package is missing, or the journal is of
            something else.
    """
    if config.bits:
        return run_bits(config)
    began = time.perf_counter()
    engine = get_engine(config.engine, config.device)
    if engine.simulated:
        raise EngineError(f"--engine {engine.name}: simulates int8 and has no speed to search for")
    inputs = open_inputs(config)
    baseline = earlier(inputs, "baseline", run_baseline, BaselineConfig)
    key = inputs.key("search", timed=True, baseline=baseline.timeless_key)
    done = finished(config.folder, "search", key, config.force)
    if done is not None:
        tell(done)
        return done
    inputs = inputs.without([Path(name) for name in baseline.notes["skipped"]])
    inputs = inputs.on(inputs.images[: config.images or None])
    shop = open_workshop(inputs, config, engine, JOURNAL, LINES, config.calibrators)
    with temporary_folder(config.folder, "search") as kept:
        trials = measured(shop, kept)
    result = concluded(inputs, config, trials, key, began)
    result.write(config.folder / "search.json")
    tell(result)
    return result


def next_step(config: SearchConfig, found: StageResult) -> str:
    """Use the policy; build where a float engine is the answer, train where none is."""
    if policy := found.artifacts.get("policy"):
        return command(config, "ptq", f"--policy {config.folder / policy}")
    if found.notes["chosen"] is None:
        return command(config, "qat")
    return command(config, "engine", engine=config.engine)


def measured(shop: Workshop, kept: Path) -> Trials:
    """Predictions, then trials."""
    config, usual = shop.config, shop.engine.defaults()
    first = config.calibrators[0]
    bare = Space(tuple(conv_layers(shop.inputs.model.net)), usual, {}, first)
    known = forecast(shop, bare)
    calibrators = {
        symmetric: {
            block: known.best(symmetric, block, config.calibrators) for block in bare.blocks
        }
        for symmetric in bare.symmetries
    }
    space = Space(bare.blocks, usual, calibrators, first)
    floats = float_precisions(shop.engine.precisions(config.device))
    trials = Trials(shop, space, known, floats, kept)
    search(trials)
    return trials


def concluded(
    inputs: Inputs, config: SearchConfig, trials: Trials, key: str, began: float
) -> StageResult:
    """The table, the picture, the policy of the answer, and the result that names them."""
    measure = config.measure if config.max_drop is not None else "fidelity"
    spots = trials.spots(measure)
    found = answer(spots, config.max_drop, config.max_latency)
    words = verdict(config, spots, found, measure)
    artifacts = {"journal": JOURNAL, "table": "search.md", "chart": "search.png"}
    table = rendered(trials, measure, found)
    write_text(config.folder / "search.md", f"{words}\n\n{markdown(table)}\n")
    draw(config.folder / "search.png", trials, measure, found)
    int8 = found.name if found and found.int8 else None
    artifacts |= write_policy(config, trials.space.policy(trials.points[int8]) if int8 else None)
    front = {spot.name for spot in pareto(spots)}
    return inputs.result(
        "search",
        key,
        [],
        artifacts=artifacts,
        seconds={"total": time.perf_counter() - began},
        notes={
            "verdict": words,
            "table": table,
            "chosen": found and found.name,
            "measure": measure,
            "points": [
                point(spot, line, spot.name in front, trials.float_ms)
                | {"loss_ci95": span(line, trials.lines()[0], measure)}
                for spot, line in zip(spots, trials.lines(), strict=True)
            ],
        },
    )


def point(spot: Spot, line: Tested, front: bool, float_ms: float) -> dict[str, Any]:
    """An engine of the front or behind it as plain data; times in milliseconds."""
    share, loss = line.predicted
    return asdict(spot) | {
        "front": front,
        "fidelity": line.fidelity[0],
        "map50_95": line.map50_95[0],
        "predicted_ms": None if share is None else share * float_ms,
        "predicted_loss": loss,
    }
