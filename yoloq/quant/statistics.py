"""Statistics of a tensor, which every calibrator reads: exact extremes, a histogram of a sample."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Statistics:
    """Statistics of one activation tensor over the calibration images.

    `low` and `high` are exact over every element; `counts` (bins,) is the histogram of the sample
    between them; `means` and `deviations` (images,) are of each image's sample, in the order seen.
    `influence` (bins,) is a histogram by `influence.influence`; empty where it was not asked for.
    """

    low: float
    high: float
    counts: NDArray[np.int64]
    means: NDArray[np.float32]
    deviations: NDArray[np.float32]
    influence: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))

    @property
    def centers(self) -> NDArray[np.float64]:
        """Middle of each bin of `counts`, (bins,)."""
        return self.middles(len(self.counts))

    def middles(self, bins: int) -> NDArray[np.float64]:
        """Middle of each of so many bins between the extremes."""
        edges = np.linspace(self.low, self.high, bins + 1)
        return (edges[:-1] + edges[1:]) / 2
