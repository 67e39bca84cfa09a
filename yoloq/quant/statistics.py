"""Statistics of a tensor, which every calibrator reads: exact extremes, a histogram of a sample."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Statistics:
    """Statistics of one activation tensor over the calibration images.

    `low` and `high` are exact over every element; `counts` (bins,) is the histogram of the sample
    between them; `means` and `deviations` (images,) are of each image's sample, in the order seen.
    """

    low: float
    high: float
    counts: NDArray[np.int64]
    means: NDArray[np.float32]
    deviations: NDArray[np.float32]

    @property
    def centers(self) -> NDArray[np.float64]:
        """Middle of each bin, (bins,)."""
        edges = np.linspace(self.low, self.high, len(self.counts) + 1)
        return (edges[:-1] + edges[1:]) / 2
