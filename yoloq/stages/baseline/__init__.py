"""`make baseline`: the FP32 figures that all else is held against."""

from dataclasses import dataclass
from typing import ClassVar

from yoloq.base.config import SERVE, StageConfig


@dataclass(frozen=True)
class BaselineConfig(StageConfig):
    """Measure the FP32 checkpoint: mAP, latency, FPS, size."""

    torchrun: ClassVar[str] = SERVE
