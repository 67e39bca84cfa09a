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
CANDIDATES = 100  # clipping ratios that the search of `mse` tries
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
    used = statistics.counts > 0
    values, weights = statistics.centers[used], statistics.counts[used]
    ratios = np.linspace(1 / CANDIDATES, 1, CANDIDATES)[::-1]
    errors = [
        squared_error(values, weights, statistics.low * ratio, statistics.high * ratio, spec)
        for ratio in ratios
    ]
    best = float(ratios[int(np.argmin(errors))])
    return statistics.low * best, statistics.high * best


def calibrate_places(statistics: Statistics, spec: QuantSpec) -> Range:
    """The two ends with the least squared error, weighted by its influence on the boxes found.

    One end after the other, twice. As `mse` where no box depends on the tensor, or influence was
    not collected.
    """
    used = statistics.influence > 0
    if not used.any():
        return calibrate_mse(statistics, spec)
    values, weights = statistics.middles(len(used))[used], statistics.influence[used]

    def error(pair: Range) -> float:
        return squared_error(values, weights, *pair, spec)

    ratios = np.linspace(1 / CANDIDATES, 1, CANDIDATES)[::-1]
    if spec.symmetric:
        amax = max(abs(statistics.low), abs(statistics.high))
        return min((_clipped(statistics, amax * ratio) for ratio in ratios), key=error)
    low, high = statistics.low, statistics.high
    for _ in range(2):
        low, high = min(((low, statistics.high * ratio) for ratio in ratios), key=error)
        low, high = min(((statistics.low * ratio, high) for ratio in ratios), key=error)
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
    levels = spec.qmax + 1
    ends = np.arange(levels, ENTROPY_BINS + 1, 8)
    divergences = [_divergence(counts, int(end), levels) for end in ends]
    return _clipped(statistics, float(edges[ends[int(np.argmin(divergences))]]))


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
    "places": calibrate_places,
    "entropy": calibrate_entropy,
    "ema": calibrate_ema,
}


def _clipped(statistics: Statistics, amax: float) -> Range:
    """The extremes, cut at +-amax."""
    return max(statistics.low, -amax), min(statistics.high, amax)


def _magnitudes(statistics: Statistics, edges: NDArray[np.float64]) -> NDArray[np.float64]:
    """Histogram of |x| between `edges`, with the values of a bin spread evenly over it.

    Counting bin centres instead would alias: now three, now four centres to a bin.
    """
    if statistics.low == statistics.high:
        centers = np.abs(statistics.centers)
        return np.histogram(centers, edges, weights=statistics.counts)[0].astype(np.float64)
    places = np.linspace(statistics.low, statistics.high, len(statistics.counts) + 1)
    below = np.concatenate(([0], np.cumsum(statistics.counts)))
    within = np.interp(edges, places, below) - np.interp(-edges, places, below)
    return np.diff(within)


def squared_error(
    values: NDArray[np.float64],
    weights: NDArray[Any],
    low: float,
    high: float,
    spec: QuantSpec,
) -> float:
    """Sum of the squared errors of quantizing `values`, each there `weights` times, to a range."""
    if spec.symmetric:
        scale, zero_point = max(abs(low), abs(high)) / spec.qmax, 0.0
    else:
        low, high = min(low, 0.0), max(high, 0.0)
        scale = (high - low) / (spec.qmax - spec.qmin)
        zero_point = round(spec.qmin - low / scale) if scale else 0.0
    if scale == 0:
        return float((weights * values**2).sum())
    integers = np.clip(np.round(values / scale) + zero_point, spec.qmin, spec.qmax)
    return float((weights * (values - (integers - zero_point) * scale) ** 2).sum())


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
