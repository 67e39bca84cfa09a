"""The answer to a question about latency and loss."""

import math
from collections.abc import Sequence

from yoloq.measure.pareto import Spot, pareto


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
