"""`make predict`: what the engines of a run find on images, a video or a camera."""

from dataclasses import dataclass

from yoloq.base.config import AUTO, RunConfig, option, require
from yoloq.base.errors import UserError
from yoloq.base.machine import affinity
from yoloq.base.own_files import MAKE
from yoloq.engines import ENGINES


@dataclass(frozen=True)
class PredictConfig(RunConfig):
    """Find boxes with an engine of a run: drawn, as YOLO txt and as COCO json."""

    source: str = option("", "image, folder, .txt list, video, or camera:0")
    engine: str = option(AUTO, "engine; auto: the first that the run has", (AUTO, *ENGINES))
    precision: str = option(AUTO, "precision, such as int8 or int8-qat; auto: int8 where built")
    compare: bool = option(False, "draw FP32 of the same engine beside it")
    conf: float = option(0.0, "least score of a box; 0: that of the model, 0.25")
    save_conf: bool = option(False, "add the score to each line of txt")
    limit: int = option(0, "the first N images or frames; 0: all")
    device: str = option(AUTO, "cpu, cuda, cuda:N or auto")
    threads: int = option(0, "threads of the engine; 0: as many as cores")
    streams: int = option(0, "images in the engine at once; 0: one a thread where it can")

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.source:
            raise UserError(
                "--source: name an image, a folder, a video or camera:0; "
                f"{MAKE} predict SOURCE=photo.jpg"
            )
        require(0 <= self.conf < 1, "--conf", self.conf, "0 (the model's) or more, below 1")
        require(self.limit >= 0, "--limit", self.limit, "0 (all) or more")
        require(self.threads >= 0, "--threads", self.threads, "0 (all cores) or more")
        want = f"0 (one a thread) to {self.cores}, the threads of the engine"
        require(0 <= self.streams <= self.cores, "--streams", self.streams, want)
        if self.compare and self.precision == "fp32":
            raise UserError("--compare: is against fp32; choose another --precision")

    @property
    def cores(self) -> int:
        """Threads of the engine."""
        return self.threads or len(affinity())
