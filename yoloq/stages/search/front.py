"""Latency against loss: the points that no other beats, and the answer to a question."""

import math
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


def knee(front: Sequence[Spot]) -> Spot:
    """Where the front bends most: furthest below the line between its ends, both axes from 0 to 1.

    Of a front without a bend it is the end that loses least.
    """
    first, last = front[0], front[-1]
    width, height = last.ms - first.ms, first.loss - last.loss
    if not (width and height):
        return last

    def below(spot: Spot) -> float:
        return 1 - (spot.ms - first.ms) / width - (spot.loss - last.loss) / height

    best = max(front, key=below)
    return best if below(best) > 0 else last


def answer(
    spots: Sequence[Spot], max_drop: float | None = None, max_latency: float | None = None
) -> Spot | None:
    """The fastest within a loss, or the best within a latency, or the knee; None: there is none.

    What is slower than the fastest float engine is not worth trading for, and no part of the front
    that has the knee.
    """
    if max_drop is not None:
        within = [spot for spot in spots if spot.loss <= max_drop]
        return min(within, key=lambda spot: (spot.ms, spot.loss), default=None)
    if max_latency is not None:
        within = [spot for spot in spots if spot.ms <= max_latency]
        return min(within, key=lambda spot: (spot.loss, spot.ms), default=None)
    limit = min((spot.ms for spot in spots if not spot.int8), default=math.inf)
    return knee(pareto([spot for spot in spots if spot.ms <= limit]))
