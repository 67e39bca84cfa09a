"""`make train`: from random weights or a checkpoint to `train.pt`."""

from dataclasses import dataclass
from pathlib import Path

from yoloq.base.config import StageConfig, option, require
from yoloq.models import FAMILIES
from yoloq.train import SCRATCH


@dataclass(frozen=True)
class TrainConfig(StageConfig):
    """Train a detector on a data set."""

    weights: str = option("scratch", "checkpoint (.pt) to start from; scratch: random weights")
    family: str = option("yolov5", "network when from scratch", tuple(FAMILIES))
    size: str = option("n", "its size", ("n", "s", "m", "l", "x"))
    epochs: int = option(30, "passes over the train split")
    lr: float = option(2e-3, "largest learning rate")
    optimizer: str = option("adamw", "optimizer", ("adamw", "sgd"))
    weight_decay: float = option(0.01, "weight decay of convolution weights")
    warmup: float = option(1.0, "epochs in which the learning rate rises")
    decay: str = option("cosine", "course of the learning rate", ("cosine", "linear"))
    multi_scale: tuple[float, ...] = option((0.6, 1.1), "least and largest size, times imgsz")
    settle: int = option(4, "last epochs, which train at imgsz and without mosaic")
    mosaic: float = option(0.0, "probability of a mosaic of four pictures")
    amp: str = option("auto", "mixed precision (bfloat16)", ("auto", "on", "off"))

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.epochs >= 1, "--epochs", self.epochs, "1 or more")
        require(self.lr > 0, "--lr", self.lr, "above 0")
        require(0 <= self.mosaic <= 1, "--mosaic", self.mosaic, "between 0 and 1")
        low_high = len(self.multi_scale) == 2 and 0 < self.multi_scale[0] <= self.multi_scale[1]
        require(low_high, "--multi-scale", self.multi_scale, "two numbers, the smaller first")

    @property
    def folder(self) -> Path:
        """The run folder."""
        origin = Path(self.weights).stem
        if self.weights in SCRATCH:
            origin = f"{self.family}{self.size}"
        return Path(self.project) / (self.name or f"train-{origin}-{Path(self.data).stem}")
