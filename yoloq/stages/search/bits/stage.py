"""Search for bits: plan by an integer program, check on real figures, keep the best."""

import time
from dataclasses import asdict
from pathlib import Path

from yoloq.base.errors import EngineError
from yoloq.base.files import write_text
from yoloq.base.result import StageResult
from yoloq.engines import engine_row, get_engine
from yoloq.engines.base import Engine
from yoloq.quant.mixed import SENSITIVITIES
from yoloq.quant.mixed.allot import Choice
from yoloq.quant.mixed.budget import Budget, budget_of
from yoloq.quant.mixed.width import Width, width_of
from yoloq.report.tables import markdown
from yoloq.stages.baseline import BaselineConfig
from yoloq.stages.baseline.stage import run as run_baseline
from yoloq.stages.run import (
    earlier,
    finished,
    open_inputs,
)
from yoloq.stages.search import SearchConfig
from yoloq.stages.search.bits.bit_lines import LINES
from yoloq.stages.search.bits.bit_space import BitSpace
from yoloq.stages.search.bits.bit_trials import BitTrials, search
from yoloq.stages.search.bits.bits_verdict import draw, points, rendered, verdict
from yoloq.stages.search.bits.prices import (
    Prices,
    milliseconds,
    operations,
    sizes,
    with_kernels,
)
from yoloq.stages.search.bits.sensed import sensed
from yoloq.stages.search.opened import open_workshop
from yoloq.stages.search.proposed import tell, write_policy
from yoloq.stages.search.screen import Workshop

JOURNAL = "search-bits.jsonl"


def run(config: SearchConfig) -> StageResult:
    """Write the journal, `search.json`, its table and picture, and the policy that it proposes.

    A search that was interrupted goes on after its last trial.

    Raises:
        UserError: an input cannot be used, no choice meets the budget, or the journal is of
            something else.
    """
    began, budget = time.perf_counter(), budget_of(config.budget)
    engine, widths = chosen(config, budget)
    inputs = open_inputs(config)
    rest = (widths, engine.defaults(), config.calibrators[0])
    space = BitSpace.of(inputs.model.net, inputs.ops, inputs.imgsz, *rest)
    prices = None if budget.kind == "latency" else PRICES[budget.kind](inputs, space, budget)
    if prices:
        prices.check()
    baseline = earlier(inputs, "baseline", run_baseline, BaselineConfig)
    key = inputs.key("search", timed=True, baseline=baseline.timeless_key)
    done = finished(config.folder, "search", key, config.force)
    if done is not None:
        tell(done)
        return done
    inputs = inputs.without([Path(name) for name in baseline.notes["skipped"]])
    inputs = inputs.on(inputs.images[: config.images or None])
    shop = open_workshop(inputs, config, engine, JOURNAL, LINES, config.calibrators[:1])
    if prices is None:
        prices = milliseconds(shop, space, budget)
        prices.check()
    result = concluded(searched(shop, space, prices, widths), key, began)
    result.write(config.folder / "search.json")
    tell(result)
    return result


PRICES = {"size": sizes, "bops": operations}  # of budgets that need no engine


def chosen(config: SearchConfig, budget: Budget) -> tuple[Engine, tuple[Width, ...]]:
    """The engine whose placement is usual, and the widths; for a latency, those that it runs.

    Raises:
        EngineError: the budget is a latency, and the engine cannot run, or runs none of the widths.
    """
    widths = tuple(map(width_of, config.bits))
    if budget.kind != "latency":
        return engine_row(config.engine), widths
    engine = get_engine(config.engine, config.device)
    if engine.simulated:
        raise EngineError(
            f"--budget {budget.asked}: {engine.name} simulates int8 and has no speed; give another "
            "--engine, or a size or bops"
        )
    return engine, with_kernels(engine.name, widths)


def searched(
    shop: Workshop, space: BitSpace, prices: Prices, widths: tuple[Width, ...]
) -> BitTrials:
    """Losses of each layer, then trials."""
    lost = sensed(shop, space)
    options = {
        by: prices.options({layer: found[by] for layer, found in lost.items()})
        for by in SENSITIVITIES
    }
    trials = BitTrials(shop, space, prices, options, shop.config.sensitivity_of)
    search(trials, [width for width in widths if width.quantized])
    return trials


def concluded(trials: BitTrials, key: str, began: float) -> StageResult:
    """The table, the picture, the policy of the answer, and the result that names them."""
    inputs, config, budget = trials.shop.inputs, trials.shop.config, trials.prices.budget
    found = next(iter(trials.within()), None)
    words, rows = verdict(trials, found), points(trials, found)
    table = rendered(trials, rows)
    artifacts = {"journal": JOURNAL, "table": "search.md"}
    write_text(config.folder / "search.md", f"{words}\n\n{markdown(table)}\n")
    policy = None if found is None else trials.space.policy(trials.all[found])
    artifacts |= write_policy(config, policy)
    if found is not None:
        draw(config.folder / "search.png", trials, found)
        artifacts["chart"] = "search.png"
    return inputs.result(
        "search",
        key,
        [],
        artifacts=artifacts,
        seconds={"total": time.perf_counter() - began},
        notes={
            "verdict": words,
            "table": table,
            "chosen": found,
            "measure": "fidelity",
            "budget": asdict(budget) | {"unit": budget.unit},
            "widths": {} if found is None else _texts(trials.all[found]),
            "points": rows,
        },
    )


def _texts(choice: Choice) -> dict[str, str]:
    return {layer: str(width) for layer, width in choice.items()}
