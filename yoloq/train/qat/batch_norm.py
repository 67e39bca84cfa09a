"""Batch norm kept as parameters, its statistics frozen, its effect folded into the convolution.

The weight that is quantized is the folded one, as an engine will have it, so nothing changes when
the training ends; what differs from training folded weights is the parametrisation.
"""

from typing import cast

import torch
from torch import Tensor, nn

from yoloq.quant.modules import QuantConv2d
from yoloq.quant.policy import replace

SMALLEST = 1e-6  # a channel of a smaller factor keeps its statistics: they cannot be told


class FoldedConv2d(QuantConv2d):
    """A convolution followed by a batch norm with frozen statistics, run as one convolution.

    `weight` is that before folding; the norm's parameters are in `bn`. A side that stays in float
    has `nn.Identity` for a quantizer.
    """

    bn: nn.BatchNorm2d
    seen: list[tuple[Tensor, Tensor]] | None  # means and variances while they are estimated

    @classmethod
    def join(cls, conv: nn.Conv2d, bn: nn.BatchNorm2d, quantized: nn.Conv2d) -> "FoldedConv2d":
        """Take over both, and the quantizers of their fused and quantized counterpart."""
        sides = (getattr(quantized, f"{s}_quantizer", nn.Identity()) for s in ("input", "weight"))
        folded = cast(FoldedConv2d, cls.of(conv, *sides))
        folded.bn = bn
        folded.seen = None
        folded._start_at(quantized)
        return folded

    @torch.no_grad()
    def _start_at(self, fused: nn.Conv2d) -> None:
        """Take weights that PTQ repaired: as they have to be before folding.

        Weights that it left alone fold to the very same numbers and stay as they are.
        """
        weight, bias = self.folded()
        if not torch.equal(weight, fused.weight):
            factor = self.factor()
            known = factor.abs() > SMALLEST
            unfolded = fused.weight / torch.where(known, factor, torch.ones_like(factor))
            self.weight = nn.Parameter(torch.where(known, unfolded, self.weight))
        if fused.bias is not None and not torch.equal(bias, fused.bias):
            self.bn.bias.add_(fused.bias - bias)

    def folded(self) -> tuple[Tensor, Tensor]:
        """Weight and bias as an engine has them, by the arithmetic of `fuse_batch_norm`."""
        bn, factor = self.bn, self.factor()
        inverse = torch.rsqrt(self.variance() + bn.eps)
        bias = torch.zeros_like(inverse) if self.bias is None else self.bias
        return self.weight * factor, (bias - self.mean()) * inverse * bn.weight + bn.bias

    def factor(self) -> Tensor:
        """What folding multiplies the weight (out, ...) by: (out, 1, ...)."""
        factor = self.bn.weight * torch.rsqrt(self.variance() + self.bn.eps)
        return factor.reshape(-1, *[1] * (self.weight.ndim - 1))

    def forward(self, x: Tensor) -> Tensor:
        weight, bias = self.folded()
        weight, x = self.weight_quantizer(weight), self.input_quantizer(x)
        if self.seen is None:
            return self._conv_forward(x, weight, bias)
        return self._estimating(self._conv_forward(x, weight, None))

    def mean(self) -> Tensor:
        return cast(Tensor, self.bn.running_mean)

    def variance(self) -> Tensor:
        return cast(Tensor, self.bn.running_var)

    def _estimating(self, y: Tensor) -> Tensor:
        """Normalise `y`, the output without bias, by its own statistics, and note them."""
        assert self.seen is not None
        bn = self.bn
        factor = self.factor().flatten()
        known = factor.abs() > SMALLEST
        safe = torch.where(known, factor, torch.ones_like(factor))
        variance, mean = torch.var_mean(y, (0, 2, 3), correction=0)
        mean = torch.where(known, mean / safe, self.mean())
        variance = torch.where(known, variance / safe**2, self.variance())
        if self.bias is not None:
            mean = torch.where(known, mean + self.bias, mean)
        self.seen.append((mean, variance))
        scale = torch.rsqrt(variance + bn.eps) / torch.rsqrt(self.variance() + bn.eps)
        bias = 0 if self.bias is None else self.bias
        shift = (bias - mean) * torch.rsqrt(variance + bn.eps) * bn.weight + bn.bias
        return y * scale.view(1, -1, 1, 1) + shift.view(1, -1, 1, 1)


def keep_batch_norm(quantized: nn.Module, unfused: nn.Module) -> int:
    """Put the convolutions of the unfused network, with their norms, into the quantized one.

    Args:
        quantized: fused, with calibrated quantizers; changes in place.
        unfused: the network of the same checkpoint before fusing.

    Returns how many convolutions have a norm.
    """
    joined = 0
    for name, block in list(unfused.named_modules()):
        conv, bn = getattr(block, "conv", None), getattr(block, "bn", None)
        if isinstance(conv, nn.Conv2d) and isinstance(bn, nn.BatchNorm2d):
            inner = f"{name}.conv"
            fused = cast(nn.Conv2d, quantized.get_submodule(inner))
            replace(quantized, inner, FoldedConv2d.join(conv, bn, fused))
            joined += 1
    return joined


def weight_of(conv: QuantConv2d) -> Tensor:
    """The weight that is quantized: after folding, where batch norm is kept."""
    return conv.folded()[0] if isinstance(conv, FoldedConv2d) else conv.weight
