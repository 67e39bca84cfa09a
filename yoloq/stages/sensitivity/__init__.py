"""`make sensitivity`: which layers int8 hurts, and policies that spare them."""

from dataclasses import dataclass
from typing import ClassVar

from yoloq.base.config import SERVE, StageConfig, option, require
from yoloq.engines import ENGINES

MODES = ("leave-one-out", "one-at-a-time")


@dataclass(frozen=True)
class SensitivityConfig(StageConfig):
    """Rank layers by what int8 costs in accuracy and gains in time; propose policies."""

    mode: str = option("leave-one-out", "all quantized but one, or only one quantized", MODES)
    grain: str = option("block", "what is switched at a time", ("block", "conv"))
    layers: tuple[str, ...] = option((), "sweep only these names or patterns; none: all quantized")
    skip_first: int = option(2, "do not sweep the first N layers, unless --layers or --include do")
    include: tuple[str, ...] = option((), "quantize these too, which the policy has in float")
    images: int = option(500, "sweep on the first N images of val; 0: all")
    screen: int = option(32, "images of the first pass: boxes compared at their places")
    top: int = option(10, "layers of the first pass that are fully scored; 0: all")
    engine: str = option("auto", "engine whose time counts", ("auto", *ENGINES))
    threads: int = option(0, "threads of the engine; 0: as many as cores")
    runs: int = option(20, "timed runs of the engine; 0: no times")
    max_drop: float | None = option(None, "find a policy that loses at most this (0.002: 0.2 AP)")
    measure: str = option("map", "what --max-drop is of", ("map", "fidelity"))
    max_float: float = option(0.5, "largest share of the swept layers that it may leave in float")
    cache: bool = option(True, "reuse activations in front of the switched layer")
    memory: float = option(2.0, "GB of activations kept in memory; the rest goes to files")

    torchrun: ClassVar[str] = SERVE

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.skip_first >= 0, "--skip-first", self.skip_first, "0 or more")
        require(self.images >= 0, "--images", self.images, "0 (all) or more")
        require(self.screen >= 1, "--screen", self.screen, "1 or more")
        require(self.top >= 0, "--top", self.top, "0 (all) or more")
        require(self.threads >= 0, "--threads", self.threads, "0 (all cores) or more")
        require(self.runs >= 0, "--runs", self.runs, "0 (no times) or more")
        require(self.memory >= 0, "--memory", self.memory, "0 or more")
        require(0 < self.max_float <= 1, "--max-float", self.max_float, "above 0, at most 1")
        if self.max_drop is not None:
            want = "above 0, at most 1: a fraction, 0.002 is 0.2 points of AP"
            require(0 < self.max_drop <= 1, "--max-drop", self.max_drop, want)
