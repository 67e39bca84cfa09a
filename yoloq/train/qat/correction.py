"""Quantization correction: what training leaves wrong, taken off channel by channel.

Gupta and Asthana 2023, arXiv 2311.05109: weights that turned back and forth end beside their best
integer. Then all integers stay, and a scale and a shift of each convolution's output are learned
for an epoch; both go into the scales of the weight and into the bias, so that nothing is computed
that was not before.
"""

import copy
from collections.abc import Sequence
from dataclasses import replace
from typing import cast

import torch
from torch import Tensor, nn

from yoloq.quant.modules import QuantConv2d
from yoloq.quant.policy import replace as put
from yoloq.quant.quantized import QuantizedModel
from yoloq.quant.quantizer import TensorQuantizer
from yoloq.train.qat.quantizers import FollowingQuantizer
from yoloq.train.qat.student import is_chosen, make_student

LEAST = 1e-3  # of a factor: a channel does not change its sign and is not switched off


class CorrectedConv2d(QuantConv2d):
    """A convolution of fixed integers whose scales and bias are trained.

    `factor` multiplies the weight's scales, and so the output before the bias: (), or one number
    for each output channel or group of them, as the weight is quantized.
    """

    factor: nn.Parameter

    @classmethod
    def around(cls, conv: QuantConv2d) -> "CorrectedConv2d":
        """Take over a convolution's parameters and quantizers; its weight is trained no more."""
        corrected = cast(CorrectedConv2d, cls.of(conv, conv.input_quantizer, conv.weight_quantizer))
        corrected.requires_grad_(False)
        if corrected.bias is not None:
            corrected.bias.requires_grad_(True)
        size, channels = corrected.shared, len(conv.weight)
        shape = (-(-channels // size),) if size else ()
        corrected.factor = nn.Parameter(conv.weight.new_ones(shape))
        return corrected

    @property
    def shared(self) -> int:
        """Output channels that share a factor; 0: all."""
        quantizer = self.weight_quantizer
        return quantizer.spec.granularity.channels if isinstance(quantizer, TensorQuantizer) else 1

    def factors(self) -> Tensor:
        """What multiplies the scales, () or (out,)."""
        factor = self.factor.clamp(min=LEAST)
        return factor.repeat_interleave(self.shared)[: len(self.weight)] if factor.ndim else factor

    def scaled_weight(self) -> Tensor:
        """The quantized weight (out, ...) with its scales corrected."""
        factors = self.factors()
        beside = (-1, *[1] * (self.weight.ndim - 1)) if factors.ndim else ()
        result: Tensor = self.weight_quantizer(self.weight) * factors.view(beside)
        return result

    def forward(self, x: Tensor) -> Tensor:
        return self._conv_forward(self.input_quantizer(x), self.scaled_weight(), self.bias)


def make_corrected(calibrated: QuantizedModel, only: Sequence[str] = ()) -> nn.Module:
    """A copy of a quantized network in which the corrections alone are trained.

    Args:
        calibrated: where it starts; not changed.
        only: patterns of the convolutions to correct; none: all that are quantized.
    """
    net = make_student(calibrated, "frozen").requires_grad_(False)
    for name, conv in list(net.named_modules()):
        if isinstance(conv, QuantConv2d) and is_chosen(name, only):
            put(net, name, CorrectedConv2d.around(conv))
    return net


def corrections(net: nn.Module) -> list[nn.Parameter]:
    """What is trained: factors and biases."""
    return [parameter for parameter in net.parameters() if parameter.requires_grad]


@torch.no_grad()
def folded(net: nn.Module, calibrated: QuantizedModel) -> QuantizedModel:
    """A plain quantized model that computes what the corrected network does, to float rounding.

    A weight becomes its integers times the corrected scale, so that it is rounded to the same.

    Args:
        net: made by `make_corrected` from `calibrated`, then trained.
        calibrated: gives the form; not changed. Its output ranges stay and are no longer exact.
    """
    plain = copy.deepcopy(calibrated.model.net)
    for name, conv in net.named_modules():
        if not isinstance(conv, CorrectedConv2d):
            continue
        target = cast(QuantConv2d, plain.get_submodule(name))
        target.weight.copy_(conv.scaled_weight())
        if target.bias is not None and conv.bias is not None:
            target.bias.copy_(conv.bias)
        if isinstance(conv.weight_quantizer, FollowingQuantizer):
            low, high = conv.weight_quantizer.range_of(conv.weight)
            quantizer = cast(TensorQuantizer, target.weight_quantizer)
            quantizer.set_range(*(bound.mul(conv.factors()).cpu() for bound in (low, high)))
    return replace(calibrated, model=replace(calibrated.model, net=plain))
