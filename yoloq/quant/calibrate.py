"""Ranges for the quantizers of a network, from statistics; and the ranges as plain tensors."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from yoloq.quant.affine import clipped_weight_range, weight_range
from yoloq.quant.calibrators import CALIBRATORS, Range
from yoloq.quant.modules import QuantConv2d, quantizers
from yoloq.quant.policy import Placement
from yoloq.quant.quantizer import TensorQuantizer
from yoloq.quant.statistics import Statistics

ENGINE_BITS = 8
IMAGE: Range = (0.0, 1.0)  # black to white: known, and asymmetric in 8 bits exact


@dataclass(frozen=True)
class DeadChannels:
    """Output channels of a convolution whose weights are all zero (amax 0); they stay zero."""

    layer: str
    channels: tuple[int, ...]


def calibrate(
    net: nn.Module,
    placement: Placement,
    statistics: Mapping[str, Statistics],
    calibrator: str,
) -> list[DeadChannels]:
    """Set the range of every quantizer that `placement.apply` put into `net`.

    Weights of 8 bits take their exact range, of fewer the part with the least error. An input takes
    its calibrator's range; a group of several tensors takes the widest of its members', so that
    none of them is clipped more than alone. An image has the range that all images have.

    Args:
        statistics: of the input tensor of the first convolution of each sibling group.
        calibrator: a key of `CALIBRATORS`, for layers whose rule names none.

    Returns the dead channels that were found.

    Raises:
        ValueError: there are no statistics of a quantized input; names its convolution.
    """
    dead = []
    done: set[TensorQuantizer] = set()
    for name, plan in placement.layers.items():
        conv = net.get_submodule(name)
        if not isinstance(conv, QuantConv2d):
            continue
        if isinstance(conv.weight_quantizer, TensorQuantizer):
            dead += _calibrate_weight(name, conv)
        quantizer = conv.input_quantizer
        if isinstance(quantizer, TensorQuantizer) and quantizer not in done:
            done.add(quantizer)  # siblings share it
            chosen = CALIBRATORS[plan.calibrator or calibrator]
            members = [m for m in placement.members[plan.group] if m in statistics]
            if not members:
                raise ValueError(f"input of {name}: no statistics were collected of it")
            low, high = _widest([chosen(statistics[m], quantizer.spec) for m in members])
            if name == placement.image_reader:
                low, high = map(torch.tensor, IMAGE)
            quantizer.set_range(low.to(conv.weight.device), high.to(conv.weight.device))
    return dead


def _calibrate_weight(name: str, conv: QuantConv2d) -> list[DeadChannels]:
    quantizer = conv.weight_quantizer
    assert isinstance(quantizer, TensorQuantizer)
    chosen = weight_range if quantizer.spec.bits == ENGINE_BITS else clipped_weight_range
    quantizer.set_range(*chosen(conv.weight.detach(), quantizer.spec))
    zero = conv.weight.detach().flatten(1).abs().amax(1) == 0
    return [DeadChannels(name, tuple(zero.nonzero().flatten().tolist()))] if zero.any() else []


def _widest(ranges: list[Range]) -> tuple[Tensor, Tensor]:
    low = min(low for low, _ in ranges)
    high = max(high for _, high in ranges)
    return torch.tensor(low), torch.tensor(high)


def get_ranges(net: nn.Module) -> dict[str, Tensor]:
    """The calibrated ranges: quantizer name -> (2,) or (2, channels), low then high."""
    ranges = {}
    for name, quantizer in quantizers(net).items():
        if quantizer.low is None or quantizer.high is None:
            raise RuntimeError(f"{name} is not calibrated (amax is None)")
        ranges[name] = torch.stack([quantizer.low, quantizer.high])
    return ranges


def set_ranges(net: nn.Module, ranges: Mapping[str, Tensor]) -> None:
    """Give every quantizer the range that `get_ranges` wrote.

    Raises:
        ValueError: a quantizer has no range, or a range has no quantizer; names them.
    """
    found = quantizers(net)
    if found.keys() != ranges.keys():
        odd = sorted(found.keys() ^ ranges.keys())
        raise ValueError(f"ranges do not fit the policy: {', '.join(odd[:3])}")
    for name, quantizer in found.items():
        low, high = ranges[name].to(next(net.parameters()).device)
        quantizer.set_range(low, high)
