"""`make diagnose`: what int8 does to each layer, what is wrong, and advice."""

from dataclasses import dataclass

from yoloq.base.config import StageConfig, option, require
from yoloq.quant.amax_flag import parse_amax

MAX_IMAGES = 1000  # they are held in memory: 1.2 GB at 640 pixels


@dataclass(frozen=True)
class DiagnoseConfig(StageConfig):
    """Find out which layers quantization hurts, why, and what mends it."""

    images: int = option(32, "images of val to diagnose on")
    of: str = option(
        "auto", "model to diagnose; auto: qat where there is one", ("auto", "ptq", "qat")
    )
    layers: tuple[str, ...] = option((), "show these names or patterns; none: the worst")
    plots: int = option(6, "layers whose histograms are drawn, the worst first; 0: no pictures")
    bisect: bool = option(False, "search the fewest layers that cost half of the fidelity lost")
    against: tuple[str, ...] = option((), "compare two engines, such as openvino-int8 torch-int8")
    amax: tuple[str, ...] = option((), "try ranges set by hand: model.8.cv1=4.2 is +-4.2")

    def __post_init__(self) -> None:
        super().__post_init__()
        require(1 <= self.images <= MAX_IMAGES, "--images", self.images, f"1 to {MAX_IMAGES}")
        require(self.plots >= 0, "--plots", self.plots, "0 (none) or more")
        two = len(self.against) in (0, 2)
        require(two, "--against", " ".join(self.against), "two engines, openvino-int8 torch-int8")
        parse_amax(self.amax)
