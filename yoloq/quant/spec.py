"""How a tensor is quantized, as data: bits, granularity, symmetry."""

from dataclasses import dataclass
from typing import Literal, get_args

Granularity = Literal["tensor", "channel", "group"]


@dataclass(frozen=True)
class QuantSpec:
    """How one tensor is quantized.

    `granularity` says how many elements share a scale: the whole tensor, one output channel
    (axis 0), or `group_size` consecutive output channels. Groups lie along the output axis so that
    every engine can run them as a per-channel vector with repeated values. `narrow` leaves the
    lowest integer out ([-127, 127] at 8 bits), which TensorRT wants of weights. An asymmetric range
    needs a zero-point and is for activations only.

    Raises:
        ValueError: bits outside 2..8, or a combination that no engine has.
    """

    bits: int = 8
    granularity: Granularity = "tensor"
    group_size: int = 1
    symmetric: bool = True
    narrow: bool = False

    def __post_init__(self) -> None:
        if self.bits not in range(2, 9):
            raise ValueError(f"bits must be 2 to 8, not {self.bits!r}")
        if self.granularity not in get_args(Granularity):
            raise ValueError(
                f"granularity {self.granularity!r}: not one of {get_args(Granularity)}"
            )
        if not (isinstance(self.symmetric, bool) and isinstance(self.narrow, bool)):
            raise ValueError("symmetric and narrow are true or false")
        if self.group_size < 1:
            raise ValueError(f"group size must be 1 or more, not {self.group_size}")
        if not self.symmetric and (self.granularity != "tensor" or self.narrow):
            raise ValueError("an asymmetric range is per tensor and not narrow")

    @property
    def qmax(self) -> int:
        """Largest integer: 127 at 8 bits."""
        return 2 ** (self.bits - 1) - 1

    @property
    def qmin(self) -> int:
        """Smallest integer: -128 at 8 bits, -127 when narrow."""
        return -self.qmax if self.narrow else -self.qmax - 1


ACTIVATION = QuantSpec()
WEIGHT = QuantSpec(granularity="channel", narrow=True)
