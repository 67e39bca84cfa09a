"""Predictions: noise at the network's output and time, block by block, before anything is built.

Rounding errors of different layers are nearly independent, so that their powers at the output add
up: a placement's noise is the sum over its int8 blocks of what each makes alone. Time adds up as
well: what a block takes in float, more than in int8, is what keeping it in float costs.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from yoloq.stages.search.space import Point

LEAST_MS = 0.01  # a profile resolves no less


@dataclass(frozen=True)
class Forecast:
    """What is known of each block.

    Attributes:
        noise: power at the output over that of the signal, by symmetry, calibrator and block.
        blocks: milliseconds in int8 and in float.
        latency: of everything in int8 and everything in float.
    """

    noise: Mapping[tuple[bool, str, str], float]
    blocks: Mapping[str, tuple[float, float]]
    latency: tuple[float, float]

    def best(self, symmetric: bool, block: str, calibrators: Sequence[str]) -> str:
        """The calibrator with which a block makes the least noise; of equal ones the first."""
        return min(calibrators, key=lambda name: self.noise[symmetric, name, block])

    def noise_of(self, point: Point, calibrators: Mapping[str, str]) -> float:
        """Of a placement, whose blocks have these calibrators."""
        inside = (block for block in self.blocks if block not in point.floats)
        return sum(self.noise[point.symmetric, calibrators[block], block] for block in inside)

    def lost_ms(self, block: str) -> float:
        """What a block costs more in float, in milliseconds of a whole run."""
        int8, floats = self.latency
        total = sum(apart - inside for inside, apart in self.blocks.values())
        scale = (floats - int8) / total if total * (floats - int8) > 0 else 1.0
        inside, apart = self.blocks[block]
        return (apart - inside) * scale

    def ms_of(self, point: Point) -> float:
        """Latency of a placement."""
        return self.latency[0] + sum(self.lost_ms(block) for block in point.floats)

    def order(self, symmetric: bool, calibrators: Mapping[str, str]) -> list[str]:
        """Blocks by the noise that float spares for a millisecond, the most first."""

        def worth(block: str) -> float:
            noise = self.noise[symmetric, calibrators[block], block]
            return noise / max(self.lost_ms(block), LEAST_MS)

        return sorted(self.blocks, key=worth, reverse=True)


@dataclass(frozen=True)
class LossOfNoise:
    """Loss = factor x noise ** power, through the engines that were measured so far."""

    factor: float
    power: float

    def __call__(self, noise: float) -> float:
        """The loss of fidelity that is expected."""
        return self.factor * noise**self.power if noise > 0 else 0.0


def fit(pairs: Sequence[tuple[float, float]]) -> LossOfNoise | None:
    """Least squares of log loss on log noise; one pair gives a square root.

    Fidelity falls with the size of the error, which is the root of its power: that is the power
    taken where measurements do not tell. None where there is no pair of positive numbers.
    """
    logs = [(math.log(noise), math.log(loss)) for noise, loss in pairs if noise > 0 and loss > 0]
    if not logs:
        return None
    x, y = np.array(logs).T
    power = 0.5
    if len(logs) > 2 and x.std() > 0.1:
        power = float(np.clip(np.polyfit(x, y, 1)[0], 0.1, 1.0))
    return LossOfNoise(math.exp(float(y.mean() - power * x.mean())), power)
