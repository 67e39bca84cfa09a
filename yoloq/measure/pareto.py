"""Engines that no other beats in both latency and loss."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Spot:
    """An engine that was measured: `ms` of one image, `loss` as a fraction, int8 or float."""

    name: str
    ms: float
    loss: float
    int8: bool = True


def pareto(spots: Sequence[Spot]) -> list[Spot]:
    """Those that no other is both as fast and as good as, the fastest first."""
    kept: list[Spot] = []
    for spot in sorted(spots, key=lambda spot: (spot.ms, spot.loss)):
        if not kept or spot.loss < kept[-1].loss:
            kept.append(spot)
    return kept
