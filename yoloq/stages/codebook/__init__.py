"""The options of `make codebook`."""

from dataclasses import dataclass

from yoloq.base.config import StageConfig, option, require
from yoloq.quant.codebook import DIMS, MOST_BITS, PER


@dataclass(frozen=True)
class CodebookConfig(StageConfig):
    """Store the weights by codebook: a small file, and no time gained."""

    bits: int = option(4, "bits of a weight")
    per: str = option("channel", "a table of entries for each", PER)
    dim: int = option(1, "weights that an entry stands for, with --per layer", DIMS)
    edge_bits: int = option(8, "bits of the first layer and the head, a table for each convolution")
    images: int = option(32, "calibration images that it is fitted to; 0: to the weights alone")

    def __post_init__(self) -> None:
        super().__post_init__()
        one = "1 with --per channel: more needs --per layer"
        require(self.per == "layer" or self.dim == 1, "--dim", self.dim, one)
        most = MOST_BITS // self.dim
        want = f"1 to {most}" + (f" with --dim {self.dim}" if self.dim > 1 else "")
        require(1 <= self.bits <= most, "--bits", self.bits, want)
        inside = 1 <= self.edge_bits <= MOST_BITS
        require(inside, "--edge-bits", self.edge_bits, f"1 to {MOST_BITS}")
        require(self.images >= 0, "--images", self.images, "0 (none) or more")
