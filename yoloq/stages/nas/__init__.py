"""`make nas`: which width, depth, activation and bits give most accuracy for the time in int8."""

from dataclasses import dataclass

from yoloq.base.config import StageConfig, option, require
from yoloq.engines import ENGINES
from yoloq.models import SWAPS

SILU = "silu"
ACTIVATIONS = {SILU: "nn.SiLU()"} | {name: f"nn.{kind}()" for name, kind in SWAPS.items()}
LEAST, MOST = 2, 8  # bits of weights


@dataclass(frozen=True)
class NasConfig(StageConfig):
    """Choose width, depth, activation and bits of a network by accuracy and time in int8."""

    engine: str = option("auto", "engine that is timed", ("auto", *ENGINES))
    threads: int = option(0, "threads of the engine; 0: as many as cores")
    widths: tuple[float, ...] = option(
        (0.125, 0.1875, 0.25, 0.375), "width multiples to choose from"
    )
    depths: tuple[float, ...] = option((0.33, 0.67, 1.0), "depth multiples to choose from")
    activations: tuple[str, ...] = option(tuple(ACTIVATIONS), "activations to choose from")
    bits: tuple[int, ...] = option((8, 4), "bits of weights to choose from; activations have 8")
    trials: int = option(20, "networks that are trained, calibrated and timed")
    epochs: int = option(4, "epochs of the short training of each network")
    train_images: int = option(2600, "images of train in an epoch of it; 0: all")
    score_imgsz: int = option(0, "image size of training and accuracy; 0: half of --imgsz")
    images: int = option(200, "measure accuracy on the first N images of val; 0: all")
    lr: float = option(2e-3, "largest learning rate")
    runs: int = option(50, "timed runs of each engine")

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.threads >= 0, "--threads", self.threads, "0 (all cores) or more")
        require(self.trials >= 2, "--trials", self.trials, "2 or more")
        require(self.epochs >= 1, "--epochs", self.epochs, "1 or more")
        require(self.train_images >= 0, "--train-images", self.train_images, "0 (all) or more")
        require(self.score_imgsz >= 0, "--score-imgsz", self.score_imgsz, "0 or more")
        require(self.images >= 0, "--images", self.images, "0 (all) or more")
        require(self.lr > 0, "--lr", self.lr, "above 0")
        require(self.runs >= 1, "--runs", self.runs, "1 or more")
        self._check_space()

    def _check_space(self) -> None:
        """Every axis has a value, and none that means nothing."""
        for name in ("widths", "depths"):
            values = getattr(self, name)
            inside = bool(values) and all(0 < value <= 2 for value in values)
            require(inside, f"--{name}", _words(values), "numbers above 0, at most 2")
        known = bool(self.activations) and set(self.activations) <= set(ACTIVATIONS)
        want = f"some of {', '.join(ACTIVATIONS)}"
        require(known, "--activations", _words(self.activations), want)
        inside = bool(self.bits) and all(LEAST <= bits <= MOST for bits in self.bits)
        require(inside, "--bits", _words(self.bits), f"{LEAST} to {MOST}")


def _words(values: tuple[object, ...]) -> str:
    return " ".join(map(str, values))
