"""What activations and weights look like, and how well a range fits them."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from yoloq.measure.compare import decibels
from yoloq.quant.affine import quantize
from yoloq.quant.calibrators import Range, squared_error
from yoloq.quant.quantizer import TensorQuantizer
from yoloq.quant.spec import QuantSpec
from yoloq.quant.statistics import Statistics

BULK = 99.9  # percentile of |x| below which the bulk of a tensor lies


@dataclass(frozen=True)
class ActivationFigures:
    """One tensor that convolutions read, and the range of its quantizer.

    `low` and `high` are exact; the rest follows from a sample. `bulk` is the 99.9 percentile of
    |x| and `outliers` the largest |x| over it. Of a quantized tensor, `amax` is the calibrated
    bound, `range_used` the part of it up to `bulk` (1 where it is clipped), and `codes_used` the
    share of the integers that occur. None, 0 and 0 in float.
    """

    low: float
    high: float
    mean: float
    deviation: float
    bulk: float
    outliers: float
    amax: float | None = None
    range_used: float = 0.0
    codes_used: float = 0.0


def activation_figures(
    statistics: Statistics, quantizer: TensorQuantizer | None = None
) -> ActivationFigures:
    """Figures of a tensor with the range of its quantizer, which has to be calibrated."""
    centers, counts = statistics.centers, statistics.counts
    mean = float(np.average(centers, weights=counts))
    deviation = float(np.average((centers - mean) ** 2, weights=counts)) ** 0.5
    bulk = _percentile(statistics)
    largest = max(abs(statistics.low), abs(statistics.high))
    outliers = largest / bulk if bulk else 1.0
    shape = (statistics.low, statistics.high, mean, deviation, bulk, outliers)
    if quantizer is None or quantizer.amax is None:
        return ActivationFigures(*shape)
    amax = float(quantizer.amax)
    used = min(1.0, bulk / amax) if amax else 0.0
    return ActivationFigures(*shape, amax, used, codes_used(statistics, quantizer))


def _percentile(statistics: Statistics) -> float:
    """The 99.9 percentile of |x|, to the middle of a bin."""
    magnitudes = np.abs(statistics.centers)
    order = np.argsort(magnitudes, kind="stable")
    below = np.cumsum(statistics.counts[order])
    position = int(np.searchsorted(below, below[-1] * BULK / 100))
    return float(magnitudes[order[position]])


def codes_used(statistics: Statistics, quantizer: TensorQuantizer) -> float:
    """Share of the integers of a quantizer that the values of a sample become."""
    assert quantizer.scale is not None and quantizer.zero_point is not None
    spec = quantizer.spec
    values = torch.from_numpy(statistics.centers[statistics.counts > 0]).float()
    codes = quantize(values, quantizer.scale.cpu(), quantizer.zero_point.cpu(), spec)
    return len(codes.unique()) / (spec.qmax - spec.qmin + 1)


def range_snr(statistics: Statistics, bounds: Range, spec: QuantSpec) -> float:
    """SNR in dB of a tensor that is quantized to a range (low, high)."""
    used = statistics.counts > 0
    values, counts = statistics.centers[used], statistics.counts[used]
    signal = float((counts * values**2).sum())
    return decibels(signal, squared_error(values, counts, *bounds, spec))


@dataclass(frozen=True)
class WeightFigures:
    """The weight of one convolution (out, in, height, width).

    `outlier` is the largest channel amax over the median one, of channels that are not dead, and
    `channel` the output channel that has it. `dead` channels are all zeros. `bad` counts values
    that are NaN or infinite; where there are any, the rest is of the others.
    """

    low: float
    high: float
    mean: float
    deviation: float
    channel: int
    outlier: float
    dead: tuple[int, ...]
    bad: int


def weight_figures(weight: Tensor) -> WeightFigures:
    """Figures of a weight."""
    weight = weight.detach().float().cpu()
    finite = weight.isfinite()
    values = weight[finite] if finite.any() else torch.zeros(1)
    amax = torch.where(finite, weight, 0).flatten(1).abs().amax(1)
    dead = (weight.flatten(1) == 0).all(1)
    alive = amax[amax > 0]
    median = float(alive.median()) if len(alive) else 1.0
    return WeightFigures(
        low=float(values.min()),
        high=float(values.max()),
        mean=float(values.mean()),
        deviation=float(values.std(correction=0)),
        channel=int(amax.argmax()),
        outlier=float(amax.max()) / median if len(alive) else 1.0,
        dead=tuple(dead.nonzero().flatten().tolist()),
        bad=int((~finite).sum()),
    )
