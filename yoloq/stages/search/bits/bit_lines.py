"""The lines of its journal, beside the search's `Profiled`, which here is of layers."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from yoloq.stages.search.trial_lines import Profiled


@dataclass(frozen=True)
class Sensed:
    """What a layer, which gives the name, loses: by sensitivity and width."""

    part: ClassVar[str] = "losses"

    name: str
    losses: Mapping[str, Mapping[str, float]]


@dataclass(frozen=True)
class BitsTested:
    """A choice that was calibrated, repaired and run on the images.

    Each accuracy is the figure itself, then those of the resamples. `size_bytes` is of its packed
    file, `ms` of its engine, None where time is not what is saved; `predicted` is the loss of
    fidelity that was expected, None where nothing was.
    """

    part: ClassVar[str] = "bits"

    name: str
    fidelity: tuple[float, ...]
    map50_95: tuple[float, ...]
    size_bytes: int
    ms: float | None
    predicted: float | None


LINES = (Sensed, BitsTested, Profiled)
