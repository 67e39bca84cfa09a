"""`make ptq`: place quantizers and calibrate them."""

from dataclasses import dataclass
from typing import ClassVar

from yoloq.base.config import SERVE, StageConfig, count_or_auto, option, require
from yoloq.engines import ENGINES
from yoloq.quant.amax_flag import parse_amax
from yoloq.quant.calibrators import CALIBRATORS
from yoloq.quant.refine import REPAIRS, read_repairs
from yoloq.quant.spec import BITS, GRANULARITIES


@dataclass(frozen=True)
class PtqConfig(StageConfig):
    """Quantize without training: calibrate on images of the train split."""

    images: int = option(128, "calibration images, drawn from train")
    calibrator: str = option("places", "how a range follows from statistics", tuple(CALIBRATORS))
    weights_per: str = option("channel", "weight scales", tuple(GRANULARITIES))
    group_size: int = option(4, "output channels a group, with --weights-per group")
    weight_bits: int = option(8, "bits of weights; below 8 an engine stores them in int8")
    activation_bits: int = option(8, "bits of activations; not 8: simulated, or 16 on litert", BITS)
    edge_bits: int = option(8, "bits of the first layer and the head, where those are integers")
    symmetric: bool | str = option("auto", "activation ranges symmetric about 0, as TensorRT wants")
    float_head: bool = option(True, "leave the Detect head in float")
    float_first: int | str = option(
        "auto", "leave the first N layers in float", reader=count_or_auto
    )
    keep_float: tuple[str, ...] = option((), "more to leave in float: names or patterns, model.9")
    engine: str = option(
        "auto", "engine whose placement `auto` is, in the flags that have it", ("auto", *ENGINES)
    )
    sharing: str = option("auto", "scales shared by", ("auto", "siblings", "concat"))
    residual: str = option(
        "auto", "quantize a residual Add's inputs", ("auto", "none", "input", "both")
    )
    policy: str = option("", "policy (.json) to use instead of the placement flags")
    refine: tuple[str, ...] = option(
        ("gptq",), f"repairs: none, or some of {', '.join(REPAIRS)}", None, read_repairs
    )
    refine_images: int = option(32, "calibration images that repairs see")
    refine_steps: int = option(300, "steps of a fit of adaround and block")
    amax: tuple[str, ...] = option((), "set input ranges by hand: model.8.cv1=4.2 is +-4.2")

    torchrun: ClassVar[str] = SERVE

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.images >= 1, "--images", self.images, "1 or more")
        require(self.group_size >= 1, "--group-size", self.group_size, "1 or more")
        require(2 <= self.weight_bits <= 8, "--weight-bits", self.weight_bits, "2 to 8")
        require(2 <= self.edge_bits <= 8, "--edge-bits", self.edge_bits, "2 to 8")
        for name in ("refine_images", "refine_steps"):
            value = getattr(self, name)
            require(value >= 1, f"--{name.replace('_', '-')}", value, "1 or more")
        parse_amax(self.amax)
