"""What a build can be told beyond its precision; `make engine` has these as flags."""

import re
from dataclasses import dataclass

from yoloq.base.config import option, require
from yoloq.quant.amax_flag import parse_amax

IMPLICIT = "int8-implicit"  # int8 with ranges that TensorRT 10.x calibrates itself
DYNAMIC = "int8-dynamic"  # int8 with ranges that are taken from each image
PLACED = ("int8", DYNAMIC)  # precisions whose convolutions in int8 are those of the policy
LARGEST = 1 << 20  # GiB; the bytes of more, or of inf, are no number that a library takes


def capabilities(text: str) -> tuple[str, ...]:
    """Compute capabilities as in 8.9, from words such as 89 or 8.9 with blanks or commas between.

    Raises:
        ValueError: a word is none.
    """
    words = text.replace(",", " ").split()
    if not words or not all(re.fullmatch(r"\d{1,2}\.?\d", word) for word in words):
        raise ValueError("must be compute capabilities of GPUs, such as 75,86,120")
    digits = (word.replace(".", "") for word in words)
    return tuple(dict.fromkeys(f"{each[:-1]}.{each[-1]}" for each in digits))


@dataclass(frozen=True)
class BuildOptions:
    """What a build can be told beyond its precision; an engine names those that it understands.

    Raises:
        UserError: a value is out of range; the text names the flag.
    """

    batch: int = option(1, "images at once, in the engine and when it is timed")
    max_batch: int = option(0, "take 1 to N images, fastest at --batch; timed at both")
    workspace: float = option(0.0, "GiB of scratch memory; 0: all that there is")
    tf32: bool = option(False, "let FP32 convolutions round their inputs to TF32")
    level: int = option(3, "how long to search for fast kernels, 0 to 5")
    calibrator: str = option(
        "", f"of {IMPLICIT}, the engine's own; none: entropy", ("entropy", "minmax")
    )
    fp16_layers: tuple[str, ...] = option((), f"patterns of what {IMPLICIT} keeps in FP16")
    ranges: tuple[str, ...] = option((), f"ranges for {IMPLICIT}: model.8.cv1=4.2 is +-4.2")
    compute: tuple[str, ...] = option(
        (),
        "compute capabilities to build for, such as 75,86,120; none: the GPU here, else all",
        reader=capabilities,
    )
    dynamic: bool = option(False, f"{DYNAMIC} as well: ranges from each image, at run time")
    dla: int = option(-1, "core of a Jetson's DLA to run on, the rest on its GPU; -1: none")

    def __post_init__(self) -> None:
        require(self.batch >= 1, "--batch", self.batch, "1 or more")
        most = self.max_batch
        require(most == 0 or most >= self.batch, "--max-batch", most, "0, or --batch or more")
        want = f"0 (all there is) to {LARGEST} GiB"
        require(0 <= self.workspace <= LARGEST, "--workspace", self.workspace, want)
        require(0 <= self.level <= 5, "--level", self.level, "0 to 5")
        parse_amax(self.ranges, "--ranges")
        require(self.dla >= -1, "--dla", self.dla, "the number of a core, or -1 (none)")
        fixed = self.dla < 0 or most <= self.batch
        require(fixed, "--max-batch", most, "left out with --dla, whose sizes are fixed")


def dla_core(core: int, precision: str) -> int | None:
    """The core of a DLA that a precision runs on, of the one that was asked for (`--dla`).

    None: the GPU alone, as in FP32, which no DLA has.
    """
    return None if core < 0 or precision == "fp32" else core
