"""The options of `make swap`."""

from dataclasses import dataclass

from yoloq.base.config import option, require
from yoloq.base.errors import UserError
from yoloq.engines import ENGINES
from yoloq.models import SWAPS
from yoloq.stages.fine_tune import TuneConfig

AUTO = "auto"


@dataclass(frozen=True)
class SwapConfig(TuneConfig):
    """Put a cheaper activation in the place of SiLU and teach the network to do with it."""

    activation: str = option("hardswish", "what takes the place of SiLU", tuple(SWAPS))
    layers: tuple[str, ...] = option(
        ("*",), "where: names or patterns, such as model.[0-5]; auto: by gain for loss"
    )
    lr: float = option(2e-3, "largest learning rate, as a share of a layer's size")
    optimizer: str = option("adamw", "optimizer", ("adamw",))
    fit: int = option(64, "images of train that weights are fitted to before training; 0: none")
    share: float = option(0.5, "--layers auto: part of the time that all layers would gain")
    screen: int = option(32, "--layers auto: images of train on which a block's loss is measured")
    engine: str = option("auto", "engine that is timed", ("auto", *ENGINES))
    threads: int = option(0, "threads of the engine; 0: as many as cores")
    runs: int = option(50, "timed runs of each engine, in turn")

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.lr > 0, "--lr", self.lr, "above 0")
        require(0 < self.share <= 1, "--share", self.share, "above 0, at most 1")
        require(self.fit >= 0, "--fit", self.fit, "0 (none) or more")
        require(self.screen >= 1, "--screen", self.screen, "1 or more")
        require(self.threads >= 0, "--threads", self.threads, "0 (all cores) or more")
        require(self.runs >= 1, "--runs", self.runs, "1 or more")
        require(bool(self.layers), "--layers", "", "one name at least")
        if AUTO in self.layers and len(self.layers) > 1:
            raise UserError("--layers: auto stands alone; leave out the names beside it")

    @property
    def by_gain(self) -> bool:
        """Whether the layers are chosen by what they gain and lose."""
        return self.layers == (AUTO,)
