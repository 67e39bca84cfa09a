"""`make data`: the built-in data set, or a check of another."""

from dataclasses import dataclass
from typing import ClassVar

from yoloq.base.config import StageConfig, option


@dataclass(frozen=True)
class DataConfig(StageConfig):
    """Make the built-in data set, or check another: its images, labels and bad rows."""

    weights: str = option("", "checkpoint (.pt) to hold the class names against; empty: none")

    alone: ClassVar[bool] = False  # it has no run folder
