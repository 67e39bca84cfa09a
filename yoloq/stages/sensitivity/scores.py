"""How good a variant of the network is: against the FP32 model's detections and against labels."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from yoloq.base.ranks import WHOLE, Share
from yoloq.geometry.detections import Detections, GroundTruth
from yoloq.measure.ap import as_truth
from yoloq.measure.bootstrap import (
    Doubles,
    Interval,
    average_precision,
    interval,
    joined,
    resampled,
)
from yoloq.measure.match import Matches, match
from yoloq.stages.sensitivity.sweep_lines import Scored

FIGURES = ("fidelity", "map50_95", "map50")
DIGITS = 7  # of the resampled figures that are kept
CONFIDENT = 0.25  # score from which a detection of the FP32 model counts as truth


@dataclass(frozen=True)
class ResampledScore:
    """Accuracy of one variant, as fractions.

    Each has the figure itself first, then those of the resamples, which are the same for all
    variants.
    """

    fidelity: Doubles
    map50_95: Doubles
    map50: Doubles

    def line(self, name: str, snr: float, cosine: float) -> Scored:
        """As a line of the journal."""
        figures = {each: getattr(self, each).tolist() for each in FIGURES}
        rounded = {k: tuple(round(v, DIGITS) for v in values) for k, values in figures.items()}
        return Scored(name, snr, cosine, **rounded)

    @staticmethod
    def joined(shares: Sequence["ResampledScore"]) -> "ResampledScore":
        """The whole of what the processes scored, in the order of the ranks."""
        parts = {name: [getattr(share, name) for share in shares] for name in FIGURES}
        return ResampledScore(**{name: joined(each) for name, each in parts.items()})

    @staticmethod
    def of(line: Scored) -> "ResampledScore":
        """Read what `line` wrote."""
        return ResampledScore(**{name: np.asarray(getattr(line, name)) for name in FIGURES})


class Scorer:
    """Scores detections against labels and against those of the FP32 model.

    Args:
        truth: labels of the images.
        reference: detections of the FP32 model.
        nc: number of classes.
        seed: of the resamples.
        resamples: of the bootstrap.
    """

    def __init__(
        self, truth: GroundTruth, reference: Detections, nc: int, seed: int, resamples: int = 1000
    ) -> None:
        self.truth, self.reference = truth, as_truth(reference, CONFIDENT)
        self.nc, self.seed, self.resamples = nc, seed, resamples

    def __call__(self, found: Detections, share: Share = WHOLE) -> ResampledScore:
        """The score of detections on the same images; a share has every `world`-th figure of it."""
        labels = match(self.truth, found, self.nc)
        return ResampledScore(
            fidelity=self._resampled(match(self.reference, found, self.nc), share),
            map50_95=self._resampled(labels, share),
            map50=self._resampled(_at_50(labels), share),
        )

    def fidelity(self, found: Detections) -> float:
        """The fidelity alone."""
        return _point(match(self.reference, found, self.nc))

    def map50_95(self, found: Detections) -> float:
        """The mAP50-95 alone."""
        return _point(match(self.truth, found, self.nc))

    def _resampled(self, matches: Matches, share: Share) -> Doubles:
        return resampled(matches, self.resamples, self.seed, share)


def _point(matches: Matches) -> float:
    return float(average_precision(matches, np.ones((1, matches.images), np.float32))[0])


def _at_50(matches: Matches) -> Matches:
    """The matches at IoU 0.5 alone."""
    return replace(matches, matched=matches.matched[:1], ignored=matches.ignored[:1])


@dataclass(frozen=True)
class Gain:
    """What one score has over another, with 95% intervals."""

    fidelity: Interval
    map50_95: Interval
    map50: Interval


def gain(worse: ResampledScore, better: ResampledScore) -> Gain:
    """`better` minus `worse`, on the same images and resamples."""
    pairs = {name: (getattr(worse, name), getattr(better, name)) for name in FIGURES}
    return Gain(**{name: interval(a, b) for name, (a, b) in pairs.items()})


def spearman(a: Sequence[float], b: Sequence[float]) -> float | None:
    """Rank correlation; ties share their mean rank.

    None for fewer than three values, or where those of one side are all equal.
    """
    x, y = _ranks(a), _ranks(b)
    if len(a) < 3 or not x.std() or not y.std():
        return None
    return float(np.corrcoef(x, y)[0, 1])


def _ranks(values: Sequence[float]) -> NDArray[np.float64]:
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return (last - (counts - 1) / 2)[inverse]
