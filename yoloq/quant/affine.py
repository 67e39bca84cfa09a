"""From a calibrated range to a scale, and fake quantization on torch's kernels."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from yoloq.quant.spec import QuantSpec

RATIOS = tuple(1 - step / 50 for step in range(36))  # of a weight's range that are tried, to 0.3
TINY = torch.finfo(torch.float32).tiny  # the inverse of a smaller scale overflows


def scale_and_zero_point(low: Tensor, high: Tensor, spec: QuantSpec) -> tuple[Tensor, Tensor]:
    """Scale (float32) and zero-point (int32) of the calibrated range [low, high].

    Symmetric: scale = amax / qmax with amax = max(|low|, |high|), zero-point 0 (the rule of
    TensorRT's explicit quantization). Asymmetric: the range is widened to hold 0, so that zero
    padding stays exact. A range of zero width (a dead channel), or too narrow for a float32 scale,
    gets scale 1: it holds only zeros.
    """
    if spec.symmetric:
        amax = torch.maximum(low.abs(), high.abs()).float()
        scale = _usable(amax / spec.qmax)
        return scale, torch.zeros_like(scale, dtype=torch.int32)
    low, high = low.float().clamp(max=0), high.float().clamp(min=0)
    scale = _usable((high - low) / (spec.qmax - spec.qmin))
    zero_point = (spec.qmin - low / scale).round().clamp(spec.qmin, spec.qmax)
    return scale, zero_point.to(torch.int32)


def _usable(scale: Tensor) -> Tensor:
    return torch.where(scale >= TINY, scale, torch.ones_like(scale))


def fake_quantize(x: Tensor, scale: Tensor, zero_point: Tensor, spec: QuantSpec) -> Tensor:
    """Round `x` to the integers of `spec` and back to float, straight-through in the gradient.

    The gradient is 1 where round(x / scale) + zero_point lies in [qmin, qmax] and 0 elsewhere
    (torch's kernels). `scale` is () per tensor, or (channels,) along axis 0.
    """
    if not (torch.is_grad_enabled() and x.requires_grad):
        return _round_trip(x, scale, zero_point, spec)
    if scale.ndim == 1:
        return torch.fake_quantize_per_channel_affine(x, scale, zero_point, 0, spec.qmin, spec.qmax)
    if x.device.type == "cpu":
        return straight_through(x, scale, zero_point, spec)
    return torch.fake_quantize_per_tensor_affine(x, scale, zero_point, spec.qmin, spec.qmax)


def _round_trip(x: Tensor, scale: Tensor, zero_point: Tensor, spec: QuantSpec) -> Tensor:
    """What torch's kernel gives, several times faster: it also writes a mask for the gradient."""
    scale, zero_point = _along_channels(x, scale, zero_point)
    values = torch.mul(x, 1.0 / scale).round_()
    if spec.symmetric:
        values.clamp_(spec.qmin, spec.qmax)
    else:  # shifted bounds save adding and subtracting the zero-point on every element
        values.clamp_(spec.qmin - zero_point, spec.qmax - zero_point)
    return values.mul_(scale)


def _along_channels(x: Tensor, scale: Tensor, zero_point: Tensor) -> tuple[Tensor, Tensor]:
    """Scale and zero-point of each channel in a shape that broadcasts along axis 0 of `x`."""
    if scale.ndim == 0:
        return scale, zero_point
    shape = (-1, *[1] * (x.ndim - 1))
    return scale.view(shape), zero_point.view(shape)


class _StraightThrough(torch.autograd.Function):
    """Torch's per-tensor kernel on a CPU, forty times faster: that one is not vectorised."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: Tensor, zero_point: Tensor, spec: QuantSpec) -> Tensor:
        ctx.save_for_backward(x)
        ctx.inside = _open_interval(float(scale), int(zero_point), spec)
        return _round_trip(x, scale, zero_point, spec)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        (x,) = ctx.saved_tensors
        # keeps the gradient where x lies strictly inside, in one pass over memory
        return torch.ops.aten.hardtanh_backward(gradient, x, *ctx.inside), None, None, None


def straight_through(x: Tensor, scale: Tensor, zero_point: Tensor, spec: QuantSpec) -> Tensor:
    """`fake_quantize` per tensor with a gradient, on a CPU."""
    result: Tensor = _StraightThrough.apply(x, scale, zero_point, spec)
    return result


def _open_interval(scale: float, zero_point: int, spec: QuantSpec) -> tuple[float, float]:
    """The float32 values next beyond those whose rounded quotient is an integer of `spec`."""
    inverse = np.float32(1) / np.float32(scale)

    def beyond(limit: int, direction: float) -> float:
        """Nearest x on the far side of an integer limit, by trying neighbours of its edge."""

        def leaves(x: np.float32) -> bool:
            return bool((np.rint(x * inverse) - limit) * np.sign(direction) > 0)

        with np.errstate(over="ignore"):
            x = np.float32(limit + np.sign(direction) * 0.5) * np.float32(scale)
            while not leaves(x):
                x = np.nextafter(x, np.float32(direction))
            while leaves(inner := np.nextafter(x, np.float32(-direction))):
                x = inner
        return float(x)

    return beyond(spec.qmin - zero_point, -np.inf), beyond(spec.qmax - zero_point, np.inf)


def quantize(x: Tensor, scale: Tensor, zero_point: Tensor, spec: QuantSpec) -> Tensor:
    """The integers that `fake_quantize` stands for, int8, or int16 of more bits; same shapes."""
    scale, zero_point = _along_channels(x, scale, zero_point)
    # torch's kernels multiply by the inverse: dividing would round some ties the other way.
    integers = torch.round(x.float() * (1.0 / scale)) + zero_point
    return integers.clamp(spec.qmin, spec.qmax).to(torch.int8 if spec.bits <= 8 else torch.int16)


def clipped_weight_range(weight: Tensor, spec: QuantSpec) -> tuple[Tensor, Tensor]:
    """The part of `weight_range` with the least squared error of rounding, of each scale.

    With few bits a step of the exact range is coarse: clipping the few largest weights costs less.
    """
    low, high = weight_range(weight, spec)
    best, least = torch.ones_like(high), torch.full_like(high, math.inf)
    for ratio in RATIOS:
        error = _rounding_error(weight, low * ratio, high * ratio, spec)
        better = error < least
        best = torch.where(better, torch.full_like(best, ratio), best)
        least = torch.where(better, error, least)
    return low * best, high * best


def _rounding_error(weight: Tensor, low: Tensor, high: Tensor, spec: QuantSpec) -> Tensor:
    """Squared error summed over the weights of each scale, in the shape of `low`."""
    rounded = fake_quantize(weight, *scale_and_zero_point(low, high, spec), spec)
    errors = (rounded - weight).double().square()
    channels = spec.granularity.channels
    if not channels:
        return errors.sum()
    return _share(errors.flatten(1).sum(1), channels, torch.Tensor.sum)


def weight_range(weight: Tensor, spec: QuantSpec) -> tuple[Tensor, Tensor]:
    """Exact (low, high) of a weight (out, ...) at the granularity of `spec`.

    Per tensor the shapes are (); else (out,), where the channels of a group repeat its value.
    """
    channels = spec.granularity.channels
    if not channels:
        low, high = weight.aminmax()
        return low, high
    low, high = weight.flatten(1).aminmax(dim=1)
    if channels > 1:
        low, high = (
            _share(low, channels, torch.Tensor.min),
            _share(high, channels, torch.Tensor.max),
        )
    return low, high


def _share(values: Tensor, size: int, joined: Callable[[Tensor], Tensor]) -> Tensor:
    """Give each run of `size` values what they come to together; the last run may be shorter."""
    if size == 1:
        return values
    return torch.cat([joined(run).expand(len(run)) for run in values.split(size)])
