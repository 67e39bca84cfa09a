"""Float modules with quantizers on their inputs; parameter names stay those of the float model."""

import contextlib
from collections.abc import Iterable, Iterator
from typing import TypeGuard

from torch import Tensor, nn

from yoloq.models.residuals import Add
from yoloq.quant.quantizer import TensorQuantizer


class QuantConv2d(nn.Conv2d):
    """A convolution that reads a quantized input and a quantized weight.

    `weight` and `bias` are the same parameters as those of the convolution that it replaces.
    """

    input_quantizer: nn.Module
    weight_quantizer: nn.Module

    @classmethod
    def of(
        cls, conv: nn.Conv2d, input_quantizer: nn.Module, weight_quantizer: nn.Module
    ) -> "QuantConv2d":
        """Take over a convolution's parameters and geometry.

        A side that stays in float has `nn.Identity` for a quantizer. Padding of any mode is of
        quantized values: it comes behind the input's quantizer.
        """
        quantized = cls.__new__(cls)
        nn.Module.__init__(quantized)
        _take_over(quantized, conv)
        quantized.input_quantizer = input_quantizer
        quantized.weight_quantizer = weight_quantizer
        return quantized

    def forward(self, x: Tensor) -> Tensor:
        weight = self.weight_quantizer(self.weight)
        return self._conv_forward(self.input_quantizer(x), weight, self.bias)

    @property
    def both_quantized(self) -> bool:
        """Whether an engine can run it in int8."""
        return is_on(self.input_quantizer) and is_on(self.weight_quantizer)

    def float_conv(self) -> nn.Conv2d:
        """A plain convolution with the same parameters."""
        conv = nn.Conv2d.__new__(nn.Conv2d)
        nn.Module.__init__(conv)
        _take_over(conv, self)
        return conv


def _take_over(target: nn.Conv2d, source: nn.Conv2d) -> None:
    """Share parameters and copy the geometry."""
    target.__dict__.update({k: v for k, v in source.__dict__.items() if k[0] != "_"})
    target._reversed_padding_repeated_twice = source._reversed_padding_repeated_twice
    target.weight, target.bias = source.weight, source.bias


class QuantAdd(nn.Module):
    """A residual addition whose residual input, or both inputs, are quantized.

    Args:
        quantizer: that of `reader`'s input.
        both: quantize the other input as well.
        reader: name of a convolution that reads the same residual.
    """

    def __init__(self, quantizer: TensorQuantizer, both: bool, reader: str) -> None:
        super().__init__()
        self.residual_quantizer = quantizer
        self.both = both
        self.reader = reader

    def forward(self, residual: Tensor, y: Tensor) -> Tensor:
        if self.both:
            y = self.residual_quantizer(y)
        return self.residual_quantizer(residual) + y

    def float_add(self) -> Add:
        """The plain addition."""
        return Add()


def is_on(side: nn.Module) -> TypeGuard[TensorQuantizer]:
    """Whether a side of a module is quantized now."""
    return isinstance(side, TensorQuantizer) and side.enabled


def quantizers(net: nn.Module) -> dict[str, TensorQuantizer]:
    """Every quantizer once, by the first name it is reached by."""
    return {n: m for n, m in net.named_modules() if isinstance(m, TensorQuantizer)}


@contextlib.contextmanager
def switched(chosen: Iterable[TensorQuantizer], enabled: bool) -> Iterator[None]:
    """Switch quantizers on or off for a block; their former state returns with its end."""
    before = [(quantizer, quantizer.enabled) for quantizer in chosen]
    for quantizer, _ in before:
        quantizer.enabled = enabled
    try:
        yield
    finally:
        for quantizer, state in before:
            quantizer.enabled = state
