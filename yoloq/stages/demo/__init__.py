"""`make demo`: the whole flow on the built-in set."""

from dataclasses import dataclass

from yoloq.base.config import StageConfig, option


@dataclass(frozen=True)
class DemoConfig(StageConfig):
    """Run every stage on the built-in set and weights."""

    name: str = option("demo", "run folder")
    limit: int = option(300, "evaluate on the first N images of val; 0: all")
    images: int = option(128, "calibration images, drawn from train")
    runs: int = option(30, "timed runs of each precision, in turn")
