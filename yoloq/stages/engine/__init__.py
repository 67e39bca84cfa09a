"""`make engine`: build, gate, measure and time the engines."""

from dataclasses import dataclass

from yoloq.base.config import StageConfig, option, require
from yoloq.base.machine import affinity
from yoloq.engines import ENGINES
from yoloq.engines.options import BuildOptions

CHOICES = ("auto", "ptq", "qat", "both")


@dataclass(frozen=True)
class EngineConfig(BuildOptions, StageConfig):
    """Build engines in every precision of the machine; measure accuracy and speed."""

    engine: str = option("auto", "engine to build", ("auto", *ENGINES))
    precisions: tuple[str, ...] = option((), "precisions to build; none: all that run natively")
    threads: int = option(0, "threads of the engine; 0: as many as cores")
    streams: int = option(0, "images in the engine at once for images/s; 0: one a thread")
    runs: int = option(50, "timed runs of each precision, in turn")
    of: str = option("auto", "int8 model; auto: qat where it beat ptq; both: a row each", CHOICES)
    gate: int = option(8, "val images on which each engine is held against its ONNX; 0: none")

    def __post_init__(self) -> None:
        StageConfig.__post_init__(self)
        BuildOptions.__post_init__(self)
        require(self.threads >= 0, "--threads", self.threads, "0 (all cores) or more")
        want = f"0 (one a thread) to {self.cores}, the threads of the engine"
        require(0 <= self.streams <= self.cores, "--streams", self.streams, want)
        require(self.runs >= 1, "--runs", self.runs, "1 or more")
        require(self.gate >= 0, "--gate", self.gate, "0 (none) or more")

    @property
    def cores(self) -> int:
        """Threads of the engine."""
        return self.threads or len(affinity())
