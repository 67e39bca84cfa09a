"""`make gpu-check`: all that only a GPU can tell, in one file to send."""

from dataclasses import dataclass

from yoloq.base.config import StageConfig, option


@dataclass(frozen=True)
class GpuCheckConfig(StageConfig):
    """Run all that only an NVIDIA GPU can tell, and put what it says into one file."""

    name: str = option("gpu-check", "run folder")
    parts: tuple[str, ...] = option((), "parts to run, by name; none: all")
    images: int = option(128, "calibration images, drawn from train")
    epochs: int = option(2, "epochs of QAT")
