"""The lines of a sweep's journal: one for each finished part."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar


@dataclass(frozen=True)
class Screened:
    """The first pass on a candidate: how like its raw maps are to those of the FP32 network.

    `apart` is how far boxes and scores are off at their places (`measure.places.PlaceError`).
    """

    part: ClassVar[str] = "screen"

    name: str
    snr: float
    cosine: float
    apart: float


@dataclass(frozen=True)
class Scored:
    """The full score of a candidate or of the base.

    Each accuracy is the figure itself, then those of the resamples (`scores.Score`).
    """

    part: ClassVar[str] = "score"

    name: str
    snr: float
    cosine: float
    fidelity: tuple[float, ...]
    map50_95: tuple[float, ...]
    map50: tuple[float, ...]


@dataclass(frozen=True)
class Timed:
    """Milliseconds of each convolution on an engine, which gives the name, in int8 and in float.

    `taken` says on which machine and how.
    """

    part: ClassVar[str] = "times"

    name: str
    costs: Mapping[str, tuple[float, float]]
    taken: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        costs = {name: tuple(pair) for name, pair in self.costs.items()}  # lists, read from JSON
        object.__setattr__(self, "costs", costs)


@dataclass(frozen=True)
class Tried:
    """Accuracy with a set of candidates in float; their names, joined, are the name."""

    part: ClassVar[str] = "set"

    name: str
    fidelity: float
    map50_95: float


LINES = (Screened, Scored, Timed, Tried)
