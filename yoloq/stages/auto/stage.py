"""From a checkpoint to an engine within an accuracy target: each step only where it is needed."""

from typing import Any

from yoloq.base.result import Row, StageResult
from yoloq.base.say import say
from yoloq.engines import get_engine
from yoloq.stages.auto import NAMES, AutoConfig
from yoloq.stages.baseline import BaselineConfig
from yoloq.stages.baseline import stage as baseline
from yoloq.stages.end import on_run
from yoloq.stages.engine import EngineConfig
from yoloq.stages.engine import stage as engine
from yoloq.stages.ptq import PtqConfig
from yoloq.stages.ptq import stage as ptq
from yoloq.stages.qat import QatConfig
from yoloq.stages.qat import stage as qat
from yoloq.stages.report import ReportConfig
from yoloq.stages.report import stage as report
from yoloq.stages.run import as_config
from yoloq.stages.search import SearchConfig
from yoloq.stages.search import stage as search
from yoloq.stages.sensitivity import SensitivityConfig
from yoloq.stages.sensitivity import stage as sensitivity


def run(config: AutoConfig) -> list[dict[str, Any]]:
    """Run the stages that the target needs, print each decision, and return the report's table."""
    simulated = get_engine(config.engine, config.device).simulated
    [floating] = baseline.run(as_config(config, BaselineConfig)).rows
    say(f"auto: FP32 has {100 * floating.ap:.2f} AP50-95; {target(config)}")
    if not (simulated_policy if simulated else fastest_policy)(config):
        tuned = qat.run(as_config(config, QatConfig)).rows[0]
        if not accepted(config, "QAT", tuned, "the target is not reached"):
            say("auto: more could come from --epochs, more images, or a larger --max-drop")
    engine.run(as_config(config, EngineConfig))
    return report.run(as_config(config, ReportConfig, runs=()))


def next_step(config: AutoConfig, found: Any) -> str:
    """Look at what the engines find."""
    return on_run(config, "predict", "photo.jpg")


def fastest_policy(config: AutoConfig) -> bool:
    """PTQ with the fastest placement within the target, as measured; False: it has to be trained.

    Where no int8 engine is worth having, PTQ is the default's.
    """
    found: StageResult = search.run(search_config(config))
    say(f"auto: {found.notes['verdict']}")
    if policy := found.artifacts.get("policy"):
        ptq.run(as_config(config, PtqConfig, policy=str(config.folder / policy)))
        return True
    ptq.run(as_config(config, PtqConfig))
    within = [p for p in found.notes["points"] if p["int8"] and p["loss"] <= config.max_drop]
    if not within:
        say("auto: no int8 within the target: training it")
    return bool(within)


def search_config(config: AutoConfig) -> SearchConfig:
    """Options of the search for a placement."""
    return as_config(config, SearchConfig)


def simulated_policy(config: AutoConfig) -> bool:
    """PTQ with layers in float as the target needs, of an engine that has no speed to search for.

    Returns:
        Whether it reaches the target.
    """
    found = ptq.run(as_config(config, PtqConfig)).rows[0]
    if not accepted(config, "PTQ", found, "looking for layers to keep in float"):
        found = partial_policy(config, found)
    return drop(config, found) <= config.max_drop


def partial_policy(config: AutoConfig, found: Row) -> Row:
    """PTQ with the policy that a sweep finds, or the given row where it finds none."""
    swept: StageResult = sensitivity.run(sweep_config(config))
    tried = swept.notes["search"]
    if not tried["reached"]:
        say(
            f"auto: no policy within the target, the best loses {tried['drop']:.4f}: "
            "quantizing all that PTQ does, and training it"
        )
        return found
    policy = str(config.folder / sensitivity.POLICY)
    say(f"auto: keeping {', '.join(tried['floats']) or 'nothing more'} in float")
    # a forced PTQ was just made; this one differs by its policy
    made = as_config(config, PtqConfig, policy=policy)
    partial = ptq.run(made).rows[0]
    accepted(config, "PTQ with that policy", partial, "training it")
    return partial


def sweep_config(config: AutoConfig) -> SensitivityConfig:
    """Options of the search for a partial policy."""
    return as_config(config, SensitivityConfig)


def drop(config: AutoConfig, row: Row) -> float:
    """What a model lost against FP32, as a fraction."""
    return 1 - row.fidelity if config.measure == "fidelity" else -row.delta


def target(config: AutoConfig) -> str:
    """The target in words."""
    return f"INT8 may lose {config.max_drop:g} of {NAMES[config.measure]}"


def accepted(config: AutoConfig, what: str, row: Row, otherwise: str) -> bool:
    """Whether a model is within the target; prints the figures and what follows."""
    lost, low, high = drop(config, row), *row.delta_ci95
    within = lost <= config.max_drop
    figures = f"{what} loses {lost:+.4f} of {NAMES[config.measure]}"
    if config.measure == "map":
        figures += f" (95% interval {-high:+.4f} to {-low:+.4f})"
    decision = "within the target" if within else f"above the target of {config.max_drop:g}"
    say(f"auto: {figures}: {decision}" + ("" if within else f"; {otherwise}"))
    return within
