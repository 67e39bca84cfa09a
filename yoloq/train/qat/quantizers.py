"""Quantizers for training: each knows how its range changes.

A range stays a (low, high) pair all the time and the scale is derived from it, as in a calibrated
network, so that what is saved at the end is what was trained.
"""

import math
from typing import Any

import torch
from torch import Tensor, nn

from yoloq.quant.affine import fake_quantize, scale_and_zero_point, weight_range
from yoloq.quant.quantizer import TensorQuantizer
from yoloq.quant.spec import QuantSpec

MOMENTUM = 0.99  # of the moving average, a step
LEAST = 1e-8  # of a learned scale


class FollowingQuantizer(TensorQuantizer):
    """Of a weight: its range is always the same part of the weight's exact range, no gradient.

    `part` is that part, in the shape of the range: what calibration clipped stays clipped.
    """

    part: Tensor

    def follow(self, weight: Tensor) -> None:
        """Take the part from the calibrated range and the weight that it is of."""
        assert self.amax is not None
        exact = torch.stack(weight_range(weight.detach(), self.spec)).abs().amax(0)
        part = self.amax / torch.where(exact == 0, torch.ones_like(exact), exact)
        self.register_buffer("part", torch.where(exact == 0, torch.ones_like(part), part), False)

    def forward(self, x: Tensor) -> Tensor:
        if not self.enabled:
            return x
        return fake_quantize(x, *self.scale_of(x), self.spec)

    def scale_of(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        """Scale and zero-point of a weight as it is now."""
        return scale_and_zero_point(*self.range_of(weight), self.spec)

    def range_of(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        """(low, high) of a weight as it is now."""
        low, high = weight_range(weight.detach(), self.spec)
        return low * self.part, high * self.part


class FixedQuantizer(TensorQuantizer):
    """Of an activation: its range stays. In training, siblings quantize their tensor once."""

    shared = False
    remembered: tuple[Tensor, Tensor] | None = None

    def forward(self, x: Tensor) -> Tensor:
        if not self.enabled:
            return x
        if not (self.shared and torch.is_grad_enabled()):
            return self.quantized(x)
        if self.remembered is None or self.remembered[0] is not x:
            self.remembered = (x, self.quantized(x))
        return self.remembered[1]

    def quantized(self, x: Tensor) -> Tensor:
        """Fake-quantize."""
        assert self.scale is not None and self.zero_point is not None
        return fake_quantize(x, self.scale, self.zero_point, self.spec)

    def range_of(self, weight: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """(low, high) at present."""
        assert self.low is not None and self.high is not None
        return self.low, self.high


class AveragedQuantizer(FixedQuantizer):
    """Of an activation: in training its range follows a moving average of the batches' extremes.

    What calibration clipped stays clipped: the extremes are multiplied by the ratio of the
    calibrated range to the extremes of the first batch. The averages are part of the state dict.
    """

    bounds: Tensor  # (2,): low, high
    ratios: Tensor  # (2,), 0 before the first batch

    def quantized(self, x: Tensor) -> Tensor:
        if torch.is_grad_enabled():
            self.follow(x.detach())
        low, high = self.bounds
        return fake_quantize(x, *scale_and_zero_point(low, high, self.spec), self.spec)

    def follow(self, x: Tensor) -> None:
        """Move a step towards the extremes of `x`."""
        extremes = torch.stack(x.aminmax())
        if self.spec.symmetric:  # one bound: the side that is not used must not wander off
            extremes = extremes.abs().max() * torch.tensor([-1.0, 1.0], device=x.device)
        if not self.ratios.any():
            start = self.bounds / torch.where(extremes == 0, torch.ones_like(extremes), extremes)
            self.ratios.copy_(torch.where(start > 0, start, torch.ones_like(start)))
        self.bounds.lerp_(extremes * self.ratios, 1 - MOMENTUM)

    def range_of(self, weight: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return self.bounds[0].clone(), self.bounds[1].clone()


class LearnedQuantizer(FixedQuantizer):
    """Its scale is a parameter `step`: LSQ, Esser et al. 2020, arXiv 1902.08153.

    `step` is (), or one number for each output channel or group of them. A zero-point stays as it
    was calibrated. `batched` says that the tensor's first axis is one of images.
    """

    step: nn.Parameter
    batched = False

    def quantized(self, x: Tensor) -> Tensor:
        scale = 1 / math.sqrt(self.sharing(x) * self.spec.qmax)
        result: Tensor = _LearnedStep.apply(x, self.steps(), self.zero_point, self.spec, scale)
        return result

    def sharing(self, x: Tensor) -> int:
        """Elements that share a step: of one image, as in the paper, so that batches may differ."""
        channels = self.spec.granularity.channels
        if not channels:
            return x[0].numel() if self.batched else x.numel()
        return x[0].numel() * channels

    def steps(self) -> Tensor:
        """The scale in use, () or (channels,)."""
        step = self.step.clamp(min=LEAST)
        if step.ndim == 0:
            return step
        assert self.zero_point is not None
        channels = self.spec.granularity.channels
        return step.repeat_interleave(channels)[: len(self.zero_point)]

    def range_of(self, weight: Tensor | None = None) -> tuple[Tensor, Tensor]:
        assert self.zero_point is not None
        step = self.steps().detach()
        if self.spec.symmetric:
            return -step * self.spec.qmax, step * self.spec.qmax
        return step * (self.spec.qmin - self.zero_point), step * (self.spec.qmax - self.zero_point)


class _LearnedStep(torch.autograd.Function):
    """Fake quantization with LSQ's gradients (equations 3 and 5, and section 2.2).

    With v = x / s and limits Q: the gradient of x passes where qmin < v < qmax; that of s is
    round(v) - v there, else the limit, times g = 1 / sqrt(N * qmax), N the elements that share s.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, step: Tensor, zero_point: Tensor, spec: QuantSpec, scale: float
    ) -> Tensor:
        y = fake_quantize(x.detach(), *_derived(step, zero_point, spec), spec)
        ctx.save_for_backward(x, y, step, zero_point)
        ctx.spec, ctx.scale = spec, scale
        return y

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None, None, None]:
        x, y, step, zero_point = ctx.saved_tensors
        spec = ctx.spec
        limits = [(limit - zero_point) * step for limit in (spec.qmin, spec.qmax)]
        if step.ndim == 0 and x.device.type == "cpu":  # one pass over memory
            bounds = (float(limit) for limit in limits)
            passed = torch.ops.aten.hardtanh_backward(gradient, x, *bounds)
        else:
            shape = (-1, *[1] * (x.ndim - 1)) if step.ndim else ()
            lowest, highest = (limit.view(shape) for limit in limits)
            passed = gradient * ((x > lowest) & (x < highest))
        # s * (round(v) - v) is y - x inside, and s * limit is y outside
        products = torch.addcmul(gradient * y, passed, x, value=-1)
        sums = products.flatten(1).sum(1) if step.ndim else products.sum()
        return passed, sums / step * ctx.scale, None, None, None


def _derived(step: Tensor, zero_point: Tensor, spec: QuantSpec) -> tuple[Tensor, Tensor]:
    """Scale and zero-point as they will follow from the saved range."""
    if spec.symmetric:
        return scale_and_zero_point(-step * spec.qmax, step * spec.qmax, spec)
    low, high = step * (spec.qmin - zero_point), step * (spec.qmax - zero_point)
    return scale_and_zero_point(low, high, spec)
