"""The lines of a search's journal, beside the sweep's `Screened`."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from yoloq.stages.sensitivity.sweep_lines import Screened


@dataclass(frozen=True)
class Profiled:
    """Milliseconds of each block in int8 and in the engine's float type, and of whole runs."""

    part: ClassVar[str] = "profile"

    name: str
    blocks: Mapping[str, tuple[float, float]]
    latency: tuple[float, float]

    def __post_init__(self) -> None:
        blocks = {name: tuple(pair) for name, pair in self.blocks.items()}  # lists, read from JSON
        object.__setattr__(self, "blocks", blocks)


@dataclass(frozen=True)
class Tested:
    """An engine that was built, run on the images and timed.

    `ms` is its median latency and `float_ms` that of the float engine in turn with it. Each
    accuracy is the figure itself, then those of the resamples. `predicted` has the time over
    that of the float engine and the loss of fidelity that were expected before, None where
    nothing was.
    """

    part: ClassVar[str] = "trial"

    name: str
    ms: float
    float_ms: float
    fidelity: tuple[float, ...]
    map50_95: tuple[float, ...]
    size_bytes: int
    predicted: tuple[float | None, float | None]


LINES = (Screened, Profiled, Tested)
