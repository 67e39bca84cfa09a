"""The networks to choose from, and which of them to try next."""

import itertools
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from yoloq.models.yolov5.layout import v6_spec
from yoloq.stages.nas import ACTIVATIONS, NasConfig

Place = tuple[int, ...]  # a number of each axis
NOMINAL = 2  # the axis whose values have no order: the activation


@dataclass(frozen=True)
class Architecture:
    """A network of YOLOv5's layout."""

    width: float
    depth: float
    activation: str

    @property
    def name(self) -> str:
        """Such as w0.25-d0.33-silu."""
        return f"w{self.width:g}-d{self.depth:g}-{self.activation}"

    def spec(self, nc: int) -> dict[str, Any]:
        """What builds it for so many classes."""
        return v6_spec("n", nc) | {
            "width_multiple": self.width,
            "depth_multiple": self.depth,
            "activation": ACTIVATIONS[self.activation],
        }


@dataclass(frozen=True)
class Candidate:
    """A network with weights of so many bits."""

    architecture: Architecture
    bits: int

    @property
    def name(self) -> str:
        """Such as w0.25-d0.33-silu-8bit."""
        return f"{self.architecture.name}-{self.bits}bit"


class NetworkSpace:
    """All candidates, as places on axes: width, depth, activation, bits."""

    def __init__(self, config: NasConfig) -> None:
        ordered = (sorted(set(config.widths)), sorted(set(config.depths)))
        bits = sorted(set(config.bits))
        self.axes: tuple[Sequence[Any], ...] = (
            *ordered,
            tuple(dict.fromkeys(config.activations)),
            bits,
        )
        self.places: list[Place] = list(itertools.product(*(range(len(a)) for a in self.axes)))
        order = np.random.default_rng(config.seed).permutation(len(self.places))
        self.order = [self.places[index] for index in order]

    def candidate(self, place: Place) -> Candidate:
        """What stands at a place."""
        width, depth, activation, bits = (
            axis[index] for axis, index in zip(self.axes, place, strict=True)
        )
        return Candidate(Architecture(width, depth, activation), bits)

    def next(self, tried: Sequence[Place], front: Collection[Place], wide: int) -> Place | None:
        """Which to try next; None: all were tried.

        The first `wide` lie as far apart as they can, the others beside the best.

        Args:
            tried: in the order in which they were.
            front: those of them that no other beats.
        """
        left = [place for place in self.order if place not in set(tried)]
        if not left:
            return None
        beside = [p for p in left if any(self._steps(p, best) == 1 for best in front)]
        chosen = beside if beside and len(tried) >= wide else left
        if not tried:
            return chosen[0]
        return max(chosen, key=lambda place: min(self.apart(place, other) for other in tried))

    def apart(self, first: Place, second: Place) -> float:
        """Distance of two places, each axis from 0 to 1."""
        return sum(
            float(a != b) if axis == NOMINAL else abs(a - b) / max(len(self.axes[axis]) - 1, 1)
            for axis, (a, b) in enumerate(zip(first, second, strict=True))
        )

    def _steps(self, first: Place, second: Place) -> int:
        """Steps from one to the other, one axis at a time; of activations any is one step."""
        pairs = enumerate(zip(first, second, strict=True))
        return sum(int(a != b) if axis == NOMINAL else abs(a - b) for axis, (a, b) in pairs)
