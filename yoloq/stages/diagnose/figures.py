"""All figures of a quantized network that findings are drawn from."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from torch import Tensor, nn

from yoloq.measure.compare import LayerError
from yoloq.quant.amax_by_hand import sharing
from yoloq.quant.calibrators import CALIBRATORS, Range
from yoloq.quant.modules import QuantConv2d, is_on
from yoloq.quant.policy import Placement
from yoloq.quant.ptq import BY_INFLUENCE
from yoloq.quant.quantizer import TensorQuantizer
from yoloq.quant.statistics import Statistics
from yoloq.stages.diagnose.local import LocalError
from yoloq.stages.diagnose.tensors import (
    ActivationFigures,
    WeightFigures,
    activation_figures,
    range_snr,
    weight_figures,
)

ALIKE = 0.01  # of a range: as much as two may differ that are the same but for rounding
BEST = "mse"  # the calibrator that minimises the squared error, and so maximises the SNR


NEAR = 3.0  # dB, half a bit; a range this close to the best one needs no other


@dataclass(frozen=True)
class RangeFit:
    """How well a quantizer's range fits one tensor, in dB of the tensor's SNR.

    `layers` share the range. `snr` is the tensor's, `lost` what it lost against the range with the
    least squared error on the images measured on, whose bound is `best`. The rest is known where
    3 dB or more is lost: `lost_calibration` is the same on the calibration images (None without
    statistics of them); of all calibrators, `calibrator` gives the highest SNR on the images
    measured on, with `suggested` from the calibration images. `meant`: it is the range that a
    calibrator by influence gives, which clips what moves no box.
    """

    layers: tuple[str, ...]
    amax: float
    best: float
    snr: float
    lost: float
    lost_calibration: float | None = None
    calibrator: str = ""
    suggested: float | None = None
    meant: bool = False


@dataclass(frozen=True)
class CalibrationFigures:
    """Calibration images against those measured on.

    `reach` is the median over all tensors of the largest |x| on calibration images over that on
    the images measured on; `contrast` the same for the deviation within an image, of the images
    themselves.
    """

    images: int
    reach: float
    contrast: float


@dataclass(frozen=True)
class Figures:
    """What was measured; keys are convolutions, of tensors the first one that reads them.

    `errors` are of outputs in forward order, on the errors of all layers before; the rest is each
    layer's own. `ranges` has quantized tensors alone.
    """

    errors: tuple[LayerError, ...]
    local: dict[str, LocalError]
    weights: dict[str, WeightFigures]
    activations: dict[str, ActivationFigures]
    ranges: dict[str, RangeFit]
    calibration: CalibrationFigures | None


def gather(
    net: nn.Module,
    placement: Placement,
    groups: Sequence[Sequence[str]],
    errors: Sequence[LayerError],
    local: Mapping[str, LocalError],
    seen: Mapping[str, Statistics],
    calibrated: Mapping[str, Statistics],
) -> Figures:
    """Bring together what was measured of a quantized network.

    Args:
        net: with calibrated quantizers.
        groups: convolutions that read one tensor, in the order of the pass.
        seen: statistics by the first name of a group, over the images measured on.
        calibrated: the same over the calibration images; may be empty.
    """
    used = input_quantizers(net)
    convs = [name for group in groups for name in group]
    activations, ranges = {}, {}
    for first, *others in groups:
        readers = [name for name in (first, *others) if name in used]
        if first in seen:
            quantizer = used[readers[0]] if readers else None
            activations[first] = activation_figures(seen[first], quantizer)
            if quantizer:
                layers = sharing(placement, readers[0])
                tensors = [g[0] for g in groups if g[0] in seen and set(g) & set(layers)]
                ranges[first] = _fit(layers, quantizer, first, tensors, seen, calibrated)
    return Figures(
        errors=tuple(errors),
        local=dict(local),
        weights={name: weight_figures(_weight(net, name)) for name in convs},
        activations=activations,
        ranges=ranges,
        calibration=_calibration(groups[0][0], seen, calibrated),
    )


def _weight(net: nn.Module, name: str) -> Tensor:
    conv = net.get_submodule(name)
    assert isinstance(conv, nn.Conv2d)
    return conv.weight


def input_quantizers(net: nn.Module) -> dict[str, TensorQuantizer]:
    """Quantizer of the input of each convolution that has one."""
    return {
        name: module.input_quantizer
        for name, module in net.named_modules()
        if isinstance(module, QuantConv2d) and is_on(module.input_quantizer)
    }


def _fit(
    layers: tuple[str, ...],
    quantizer: TensorQuantizer,
    tensor: str,
    tensors: Sequence[str],
    seen: Mapping[str, Statistics],
    calibrated: Mapping[str, Statistics],
) -> RangeFit:
    """`tensors` share the range with `tensor`: each calibrator gives the widest of theirs."""
    spec = quantizer.spec
    assert quantizer.low is not None and quantizer.high is not None
    now = (float(quantizer.low), float(quantizer.high))

    def chosen(calibrator: str, source: Mapping[str, Statistics]) -> Range:
        return _widest(CALIBRATORS[calibrator](source[name], spec) for name in tensors)

    def lost(source: Mapping[str, Statistics], best: Range) -> float:
        return range_snr(source[tensor], best, spec) - range_snr(source[tensor], now, spec)

    best = chosen(BEST, seen)
    fit = RangeFit(
        layers=layers,
        amax=_amax(now),
        best=_amax(best),
        snr=range_snr(seen[tensor], now, spec),
        lost=lost(seen, best),
    )
    if fit.lost < NEAR:
        return fit
    known = all(name in calibrated for name in tensors)
    offers = {name: chosen(name, calibrated if known else seen) for name in CALIBRATORS}
    offer = max(offers, key=lambda name: range_snr(seen[tensor], offers[name], spec))
    return replace(
        fit,
        lost_calibration=lost(calibrated, offers[BEST]) if known else None,
        calibrator=offer,
        suggested=_amax(offers[offer]),
        meant=known and any(_alike(offers[name], now) for name in BY_INFLUENCE),
    )


def _alike(one: Range, other: Range) -> bool:
    apart = max(abs(a - b) for a, b in zip(one, other, strict=True))
    return apart <= ALIKE * (other[1] - other[0])


def _widest(ranges: Iterable[Range]) -> Range:
    lows, highs = zip(*ranges, strict=True)
    return min(lows), max(highs)


def _amax(bounds: Range) -> float:
    return max(abs(bounds[0]), abs(bounds[1]))


def _calibration(
    image: str, seen: Mapping[str, Statistics], calibrated: Mapping[str, Statistics]
) -> CalibrationFigures | None:
    """`image` is the convolution that reads the image."""
    both = [name for name in seen if name in calibrated]
    if image not in both:
        return None
    reaches = [_ratio(largest(calibrated[name]), largest(seen[name])) for name in both]
    deviations = (float(np.median(source[image].deviations)) for source in (calibrated, seen))
    return CalibrationFigures(
        images=len(calibrated[image].means),
        reach=float(np.median(reaches)),
        contrast=_ratio(*deviations),
    )


def largest(statistics: Statistics) -> float:
    """Largest |x|."""
    return max(abs(statistics.low), abs(statistics.high))


def _ratio(first: float, second: float) -> float:
    """1 for two zeros; a division by zero alone gives a number that is large, not infinite."""
    return first / second if second else (1.0 if first == second else 1e6)
