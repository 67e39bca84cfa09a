"""The quantizer of one tensor: a calibrated range, applied or switched off."""

import torch
from torch import Tensor, nn

from yoloq.quant.affine import fake_quantize, scale_and_zero_point
from yoloq.quant.spec import QuantSpec


class TensorQuantizer(nn.Module):
    """Fake-quantizes a tensor to a calibrated range.

    The range is stored as `low` and `high`, () per tensor or (channels,); `amax` and the scale are
    derived. They are buffers that move with the model and stay out of its state dict, which so
    remains that of the float model. Two places that share a scale hold the same quantizer object.
    """

    low: Tensor | None
    high: Tensor | None
    scale: Tensor | None
    zero_point: Tensor | None

    def __init__(self, spec: QuantSpec) -> None:
        super().__init__()
        self.spec = spec
        self.enabled = True
        for name in ("low", "high", "scale", "zero_point"):
            self.register_buffer(name, None, persistent=False)

    def set_range(self, low: Tensor, high: Tensor) -> None:
        """Set the calibrated range.

        Raises:
            ValueError: a bound is NaN or infinite, or low is above high.
        """
        if not bool(torch.isfinite(low).all() and torch.isfinite(high).all()):
            raise ValueError("a calibrated range must be finite")
        if bool((low > high).any()):
            raise ValueError("a calibrated range must have low <= high")
        self.low, self.high = low.detach().float(), high.detach().float()
        self.scale, self.zero_point = scale_and_zero_point(self.low, self.high, self.spec)

    @property
    def amax(self) -> Tensor | None:
        """Bound of |x|, or None before calibration."""
        if self.low is None or self.high is None:
            return None
        return torch.maximum(self.low.abs(), self.high.abs())

    def forward(self, x: Tensor) -> Tensor:
        """Fake-quantize, or return `x` itself when switched off.

        Raises:
            RuntimeError: the quantizer is on and was not calibrated.
        """
        if not self.enabled:
            return x
        if self.scale is None or self.zero_point is None:
            raise RuntimeError("the quantizer is not calibrated (amax is None)")
        return fake_quantize(x, self.scale, self.zero_point, self.spec)

    def extra_repr(self) -> str:
        amax = self.amax
        bound = "None" if amax is None else f"{float(amax.max()):.4g}"
        return f"bits={self.spec.bits}, {self.spec.granularity.kind}, amax={bound}"
