"""Pure functions from statistics to the range that an activation quantizer covers.

A calibrator takes the statistics and the spec and returns (low, high). For a symmetric spec only
amax = max(|low|, |high|) counts. To add one: write a function, add a row to `CALIBRATORS`.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from yoloq.quant.spec import QuantSpec
from yoloq.quant.statistics import Statistics

Range = tuple[float, float]
Calibrator = Callable[[Statistics, QuantSpec], Range]

PERCENTILE = 99.99  # the default of pytorch-quantization's histogram calibrator
RATIOS = np.linspace(1 / 100, 1, 100)[::-1]  # parts of the extremes that a search tries
POWERS = (1, 2, 3, 4, 5)  # norms that `lp` tries
EMA_MOMENTUM = 0.9
EMA_SIGMAS = 8.0  # SiLU outputs have long tails; fewer sigmas clip detections away
ENTROPY_BINS = 2048


def calibrate_max(statistics: Statistics, spec: QuantSpec) -> Range:
    """The exact extremes: nothing is clipped."""
    return statistics.low, statistics.high


def calibrate_percentile(statistics: Statistics, spec: QuantSpec) -> Range:
    """Clip the largest 0.01% of |x|; an asymmetric range clips half of that at either end."""
    total = statistics.counts.sum()
    if spec.symmetric:
        magnitudes = np.abs(statistics.centers)
        order = np.argsort(magnitudes)
        cumulative = np.cumsum(statistics.counts[order])
        position = np.searchsorted(cumulative, total * PERCENTILE / 100)
        amax = float(magnitudes[order[min(position, len(order) - 1)]])
        return _clipped(statistics, amax)
    cumulative = np.cumsum(statistics.counts)
    tail = total * (1 - PERCENTILE / 100) / 2
    last = len(cumulative) - 1
    low = statistics.centers[min(np.searchsorted(cumulative, tail), last)]
    high = statistics.centers[min(np.searchsorted(cumulative, total - tail), last)]
    return float(low), float(high)


def calibrate_mse(statistics: Statistics, spec: QuantSpec) -> Range:
    """The clipping ratio of the extremes with the least squared error of quantize-dequantize."""
    return _least(statistics, spec, 2)


def calibrate_mse_onesided(statistics: Statistics, spec: QuantSpec) -> Range:
    """The lower end where it is, and the top with the least squared error.

    Wang et al., Q-YOLO, 2023: SiLU ends at -0.278 in every image, and what is piled up there must
    not be clipped; only above is a tail.
    """
    low, high = statistics.low, statistics.high
    if high <= 0:
        return low, high  # no tail to cut
    used = statistics.counts > 0
    values, weights = statistics.centers[used], statistics.counts[used]

    def error(top: float) -> float:
        return squared_error(values, weights, low, top, spec)

    return low, min((high * float(ratio) for ratio in RATIOS), key=error)


def calibrate_lp(statistics: Statistics, spec: QuantSpec) -> Range:
    """Of the ranges with the least error in some norm, the one that moves the boxes found least.

    Niu et al., DetPTQ, 2023: the larger the power p of a value's error, the less is clipped, and
    which p serves detection differs from layer to layer. The paper takes the p with the least loss
    of the detector's output; that is estimated here as in `places`. As `mse`, p = 2, where no box
    depends on the tensor, or influence was not collected.
    """
    at_boxes = _error_at_boxes(statistics, spec)
    if at_boxes is None:
        return calibrate_mse(statistics, spec)
    return min((_least(statistics, spec, power) for power in POWERS), key=at_boxes)


def calibrate_places(statistics: Statistics, spec: QuantSpec) -> Range:
    """The two ends with the least squared error, weighted by its influence on the boxes found.

    One end after the other, twice. As `mse` where no box depends on the tensor, or influence was
    not collected.
    """
    error = _error_at_boxes(statistics, spec)
    if error is None:
        return calibrate_mse(statistics, spec)
    if spec.symmetric:
        amax = max(abs(statistics.low), abs(statistics.high))
        return min((_clipped(statistics, amax * ratio) for ratio in RATIOS), key=error)
    low, high = statistics.low, statistics.high
    for _ in range(2):
        low, high = min(((low, statistics.high * ratio) for ratio in RATIOS), key=error)
        low, high = min(((statistics.low * ratio, high) for ratio in RATIOS), key=error)
    return low, high


def calibrate_entropy(statistics: Statistics, spec: QuantSpec) -> Range:
    """The bound with the least Kullback-Leibler divergence between |x| before and after.

    The search of TensorRT's INT8 calibration (S. Migacz, GTC 2017): the clipped histogram of |x|
    against the same histogram merged to as many levels as the integers have, spread again over the
    bins that were not empty. An asymmetric range is cut at the same bound on both sides.
    """
    amax = max(abs(statistics.low), abs(statistics.high))
    if amax == 0:
        return statistics.low, statistics.high
    edges = np.linspace(0, amax, ENTROPY_BINS + 1)
    counts = _magnitudes(statistics, edges)
    counts[0] = counts[1]  # exact zeros carry no information on where to clip
    levels = min(spec.qmax + 1, ENTROPY_BINS)  # 16 bits have more than there are bins
    ends = np.arange(levels, ENTROPY_BINS + 1, 8)
    divergences = [_divergence(counts, int(end), levels) for end in ends]
    return _clipped(statistics, float(edges[ends[int(np.argmin(divergences))]]))


def calibrate_kl_onesided(statistics: Statistics, spec: QuantSpec) -> Range:
    """The lower end where it is, and the top with the least divergence of a signed histogram.

    The fixed end of `mse-onesided` with the measure of `entropy`: bins from the lower end up to the
    top are merged to as many levels as the integers have there.
    """
    low, high = statistics.low, statistics.high
    if high <= max(low, 0.0):
        return low, high  # constant, or no tail to cut
    edges = np.linspace(low, high, ENTROPY_BINS + 1)
    counts = np.diff(_below(statistics, edges))
    zero = int(np.searchsorted(edges, 0.0, "right")) - 1
    if 0 <= zero < ENTROPY_BINS - 1:
        counts[zero] = counts[zero + 1]  # exact zeros carry no information on where to clip

    def divergence(end: int) -> float:
        scale, _ = _grid(low, float(edges[end]), spec)
        return _divergence(counts, end, round((edges[end] - low) / scale) + 1)

    first = min(spec.qmax - spec.qmin + 1, ENTROPY_BINS)
    ends = (end for end in range(first, ENTROPY_BINS + 1, 8) if edges[end] > 0)
    return low, float(edges[min(ends, key=divergence)])


def calibrate_ema(statistics: Statistics, spec: QuantSpec) -> Range:
    """mu +- k sigma, both exponential moving averages over the images, within the extremes."""
    mean, deviation = float(statistics.means[0]), float(statistics.deviations[0])
    for m, d in zip(statistics.means[1:], statistics.deviations[1:], strict=True):
        mean = EMA_MOMENTUM * mean + (1 - EMA_MOMENTUM) * float(m)
        deviation = EMA_MOMENTUM * deviation + (1 - EMA_MOMENTUM) * float(d)
    spread = EMA_SIGMAS * deviation
    low, high = np.clip((mean - spread, mean + spread), statistics.low, statistics.high)
    return float(low), float(high)


CALIBRATORS: dict[str, Calibrator] = {
    "max": calibrate_max,
    "percentile": calibrate_percentile,
    "mse": calibrate_mse,
    "mse-onesided": calibrate_mse_onesided,
    "lp": calibrate_lp,
    "places": calibrate_places,
    "entropy": calibrate_entropy,
    "kl-onesided": calibrate_kl_onesided,
    "ema": calibrate_ema,
}


def _clipped(statistics: Statistics, amax: float) -> Range:
    """The extremes, cut at +-amax."""
    return max(statistics.low, -amax), min(statistics.high, amax)


def _least(statistics: Statistics, spec: QuantSpec, power: int) -> Range:
    """The part of the extremes, alike at both ends, with the least sum of |error|^power."""
    used = statistics.counts > 0
    values, weights = statistics.centers[used], statistics.counts[used]

    def error(pair: Range) -> float:
        return float((weights * np.abs(_errors(values, *pair, spec)) ** power).sum())

    low, high = statistics.low, statistics.high
    return min(((low * float(ratio), high * float(ratio)) for ratio in RATIOS), key=error)


def _error_at_boxes(statistics: Statistics, spec: QuantSpec) -> Callable[[Range], float] | None:
    """What a range does to the boxes found, by influence; None where that says nothing."""
    used = statistics.influence > 0
    if not used.any():
        return None
    values, weights = statistics.middles(len(used))[used], statistics.influence[used]
    return lambda pair: squared_error(values, weights, *pair, spec)


def _magnitudes(statistics: Statistics, edges: NDArray[np.float64]) -> NDArray[np.float64]:
    """Histogram of |x| between `edges`, with the values of a bin spread evenly over it.

    Counting bin centres instead would alias: now three, now four centres to a bin.
    """
    if statistics.low == statistics.high:
        centers = np.abs(statistics.centers)
        return np.histogram(centers, edges, weights=statistics.counts)[0].astype(np.float64)
    return np.diff(_below(statistics, edges) - _below(statistics, -edges))


def _below(statistics: Statistics, at: NDArray[np.float64]) -> NDArray[np.float64]:
    """How many values lie below each of some numbers, those of a bin spread evenly over it."""
    places = np.linspace(statistics.low, statistics.high, len(statistics.counts) + 1)
    return np.interp(at, places, np.concatenate(([0], np.cumsum(statistics.counts))))


def squared_error(
    values: NDArray[np.float64],
    weights: NDArray[Any],
    low: float,
    high: float,
    spec: QuantSpec,
) -> float:
    """Sum of the squared errors of quantizing `values`, each there `weights` times, to a range."""
    return float((weights * _errors(values, low, high, spec) ** 2).sum())


def _errors(
    values: NDArray[np.float64], low: float, high: float, spec: QuantSpec
) -> NDArray[np.float64]:
    """What quantizing each value to a range adds to it, with the sign turned."""
    scale, zero_point = _grid(low, high, spec)
    if scale == 0:
        return values
    integers = np.clip(np.round(values / scale) + zero_point, spec.qmin, spec.qmax)
    return values - (integers - zero_point) * scale


def _grid(low: float, high: float, spec: QuantSpec) -> tuple[float, float]:
    """Scale and zero-point of a range; scale 0 where it holds only 0."""
    if spec.symmetric:
        return max(abs(low), abs(high)) / spec.qmax, 0.0
    low, high = min(low, 0.0), max(high, 0.0)
    scale = (high - low) / (spec.qmax - spec.qmin)
    return scale, round(spec.qmin - low / scale) if scale else 0.0


def _divergence(counts: NDArray[np.float64], end: int, levels: int) -> float:
    """KL divergence when the histogram is clipped behind bin `end` and merged to `levels`."""
    clipped = counts[:end].copy()
    level = np.arange(end) * levels // end
    filled = clipped > 0
    sums = np.bincount(level, weights=clipped, minlength=levels)
    bins = np.bincount(level, weights=filled, minlength=levels)
    spread = np.where(filled, (sums / np.maximum(bins, 1))[level], 0.0)
    clipped[-1] += counts[end:].sum()
    p, q = clipped / clipped.sum(), spread / max(spread.sum(), 1e-12)
    with np.errstate(divide="ignore", invalid="ignore"):
        terms = np.where(p > 0, p * np.log(p / np.maximum(q, 1e-12)), 0.0)
    return float(terms.sum())
