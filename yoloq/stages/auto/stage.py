"""From a checkpoint to an engine within an accuracy target: each step only where it is needed."""

from dataclasses import dataclass
from typing import Any

from yoloq.base.config import StageConfig, option, require
from yoloq.base.result import Row, StageResult
from yoloq.engines import ENGINES
from yoloq.stages.baseline import stage as baseline
from yoloq.stages.engine import stage as engine
from yoloq.stages.ptq import stage as ptq
from yoloq.stages.qat import stage as qat
from yoloq.stages.report import stage as report
from yoloq.stages.run import as_config, say
from yoloq.stages.sensitivity import stage as sensitivity

NAMES = {"map": "AP50-95", "fidelity": "fidelity"}


@dataclass(frozen=True)
class AutoConfig(StageConfig):
    """Baseline, PTQ, and what the target still needs: a partial policy, QAT; engine and report."""

    max_drop: float = option(0.002, "largest loss that is accepted (0.002: 0.2 AP)")
    measure: str = option("map", "what --max-drop is of", tuple(NAMES))
    engine: str = option("auto", "engine to build", ("auto", *ENGINES))
    epochs: int = option(10, "epochs of QAT, where it comes to that")

    def __post_init__(self) -> None:
        super().__post_init__()
        want = "above 0, at most 1: a fraction, 0.002 is 0.2 points of AP"
        require(0 < self.max_drop <= 1, "--max-drop", self.max_drop, want)
        require(self.epochs >= 1, "--epochs", self.epochs, "1 or more")

    @property
    def sweep(self) -> sensitivity.SensitivityConfig:
        """Options of the search for a partial policy."""
        return as_config(self, sensitivity.SensitivityConfig)


def run(config: AutoConfig) -> list[dict[str, Any]]:
    """Run the stages that the target needs, print each decision, and return the report's table."""
    [floating] = baseline.run(as_config(config, baseline.BaselineConfig)).rows
    say(f"auto: FP32 has {100 * floating.map50_95:.2f} AP50-95; {target(config)}")
    found = ptq.run(as_config(config, ptq.PtqConfig)).rows[0]
    if not accepted(config, "PTQ", found, "looking for layers to keep in float"):
        found = partial_policy(config, found)
    if drop(config, found) > config.max_drop:
        tuned = qat.run(as_config(config, qat.QatConfig)).rows[0]
        if not accepted(config, "QAT", tuned, "the target is not reached"):
            say("auto: more could come from --epochs, more images, or a larger --max-drop")
    engine.run(as_config(config, engine.EngineConfig))
    return report.run(as_config(config, report.ReportConfig, runs=()))


def partial_policy(config: AutoConfig, found: Row) -> Row:
    """PTQ with the policy that a sweep finds, or the given row where it finds none."""
    swept: StageResult = sensitivity.run(config.sweep)
    search = swept.notes["search"]
    if not search["reached"]:
        say(
            f"auto: no policy within the target, the best loses {search['drop']:.4f}: "
            "quantizing all that PTQ does, and training it"
        )
        return found
    policy = str(config.folder / sensitivity.POLICY)
    say(f"auto: keeping {', '.join(search['floats']) or 'nothing more'} in float")
    # a forced PTQ was just made; this one differs by its policy
    made = as_config(config, ptq.PtqConfig, policy=policy)
    partial = ptq.run(made).rows[0]
    accepted(config, "PTQ with that policy", partial, "training it")
    return partial


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
