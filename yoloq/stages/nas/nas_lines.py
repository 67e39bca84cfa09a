"""The lines of the journal of `make nas`."""

from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True)
class Trained:
    """A network after its short training.

    `synflow` is the zero-cost score of its random weights, `map50_95` its accuracy in float.
    """

    part: ClassVar[str] = "training"

    name: str
    parameters: int
    synflow: float
    map50_95: float
    seconds: float


@dataclass(frozen=True)
class Clocked:
    """Median milliseconds of a network's int8 engine, and of `--weights` in turn with it."""

    part: ClassVar[str] = "time"

    name: str
    ms: float
    reference_ms: float


@dataclass(frozen=True)
class Judged:
    """A candidate in simulated integers, and bytes of its weights in a packed file."""

    part: ClassVar[str] = "candidate"

    name: str
    map50_95: float
    map50: float
    size_bytes: int


LINES = (Trained, Clocked, Judged)
