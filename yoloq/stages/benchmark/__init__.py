"""`make benchmark`: how fast the engines of a run are, at several batches and streams."""

from dataclasses import dataclass

from yoloq.base.config import AUTO, RunConfig, option, require
from yoloq.base.machine import affinity
from yoloq.engines import ENGINES


@dataclass(frozen=True)
class BenchmarkConfig(RunConfig):
    """Time every engine of a run at several batches and streams, without accuracy."""

    engine: str = option(AUTO, "engine; auto: all that the run has", (AUTO, *ENGINES))
    batches: tuple[int, ...] = option((1, 4, 16), "images a call of the engine alone")
    streams: tuple[int, ...] = option(
        (1, 2), "images in the engine at once, from file to boxes; as many as threads at most"
    )
    runs: int = option(20, "timed calls of each precision at each batch, in turn")
    device: str = option(AUTO, "cpu, cuda, cuda:N or auto")
    threads: int = option(0, "threads of the engine; 0: as many as cores")

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.runs >= 1, "--runs", self.runs, "1 or more")
        require(self.threads >= 0, "--threads", self.threads, "0 (all cores) or more")
        few = bool(self.batches) and min(self.batches) >= 1
        require(few, "--batches", " ".join(map(str, self.batches)), "numbers from 1")
        some = bool(self.streams) and min(self.streams) >= 1
        require(some, "--streams", " ".join(map(str, self.streams)), "numbers from 1")

    @property
    def cores(self) -> int:
        """Threads of the engine."""
        return self.threads or len(affinity())
