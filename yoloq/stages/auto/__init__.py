"""`make auto`: from a checkpoint to an engine within an accuracy target."""

from dataclasses import dataclass

from yoloq.base.config import StageConfig, option, require
from yoloq.engines import ENGINES

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
