"""How a tensor is quantized, as data: bits, granularity, symmetry."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar


@dataclass(frozen=True)
class PerTensor:
    """One scale for the whole tensor."""

    kind: ClassVar[str] = "tensor"
    channels: ClassVar[int] = 0  # output channels that share a scale; 0: all


@dataclass(frozen=True)
class PerChannel:
    """One scale for each output channel (axis 0)."""

    kind: ClassVar[str] = "channel"
    channels: ClassVar[int] = 1


@dataclass(frozen=True)
class PerGroup:
    """One scale for each run of consecutive output channels.

    Groups lie along the output axis so that every engine can run them as a per-channel vector with
    repeated values.

    Raises:
        ValueError: a group of no channel.
    """

    channels: int
    kind: ClassVar[str] = "group"

    def __post_init__(self) -> None:
        if self.channels < 1:
            raise ValueError(f"group size must be 1 or more, not {self.channels}")


Granularity = PerTensor | PerChannel | PerGroup
GRANULARITIES: dict[str, Callable[[int], Granularity]] = {  # name -> from the size of a group
    "tensor": lambda size: PerTensor(),
    "channel": lambda size: PerChannel(),
    "group": PerGroup,
}


def granularity_of(kind: str, group_size: int = 1) -> Granularity:
    """The granularity of a name; the size counts for groups alone.

    Raises:
        ValueError: there is none of that name.
    """
    if kind not in GRANULARITIES:
        raise ValueError(f"granularity {kind!r}: not one of {', '.join(GRANULARITIES)}")
    return GRANULARITIES[kind](group_size)


BITS = (*range(2, 9), 16)


@dataclass(frozen=True)
class QuantSpec:
    """How one tensor is quantized.

    `granularity` says how many elements share a scale. `narrow` leaves the lowest integer out
    ([-127, 127] at 8 bits), which TensorRT wants of weights. An asymmetric range needs a zero-point
    and is for activations only.

    Raises:
        ValueError: bits outside 2..8 and other than 16, or a combination that no engine has.
    """

    bits: int = 8
    granularity: Granularity = PerTensor()
    symmetric: bool = True
    narrow: bool = False

    def __post_init__(self) -> None:
        if self.bits not in BITS:
            raise ValueError(f"bits must be 2 to 8 or 16, not {self.bits!r}")
        if not (isinstance(self.symmetric, bool) and isinstance(self.narrow, bool)):
            raise ValueError("symmetric and narrow are true or false")
        if not self.symmetric and (self.granularity != PerTensor() or self.narrow):
            raise ValueError("an asymmetric range is per tensor and not narrow")

    def to_json(self) -> dict[str, Any]:
        """As plain data."""
        return {
            "bits": self.bits,
            "granularity": self.granularity.kind,
            "group_size": max(self.granularity.channels, 1),
            "symmetric": self.symmetric,
            "narrow": self.narrow,
        }

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> "QuantSpec":
        """Read what `to_json` wrote; what is left out has its default.

        Raises:
            ValueError, TypeError: a key is not known, or a value out of range.
        """
        rest = dict(data)
        kind, size = rest.pop("granularity", PerTensor.kind), rest.pop("group_size", 1)
        return QuantSpec(granularity=granularity_of(kind, size), **rest)

    @property
    def qmax(self) -> int:
        """Largest integer: 127 at 8 bits."""
        return 2 ** (self.bits - 1) - 1

    @property
    def qmin(self) -> int:
        """Smallest integer: -128 at 8 bits, -127 when narrow."""
        return -self.qmax if self.narrow else -self.qmax - 1


ACTIVATION = QuantSpec()
WEIGHT = QuantSpec(granularity=PerChannel(), narrow=True)
