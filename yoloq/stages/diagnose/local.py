"""Errors that a convolution makes by itself, on the input that it has in the float network."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from yoloq.measure.compare import decibels, squares
from yoloq.quant.modules import QuantConv2d, is_on
from yoloq.quant.observer import Observer, observed, sample_size
from yoloq.quant.quantizer import TensorQuantizer
from yoloq.quant.statistics import Statistics


@dataclass(frozen=True)
class LocalError:
    """What quantizing one convolution alone costs; SNRs in dB, within +-150.

    `weight`, `activation` and `both` are of its output conv(x, w) with that side quantized; what a
    repair changed of the weight counts as its error. `input` is of the input itself; `clipped` is
    the share of that error's squares made by values beyond the range, the rest is rounding;
    `clipped_values` is the share of values there.
    """

    layer: str
    weight: float
    activation: float
    both: float
    input: float
    clipped: float
    clipped_values: float


class LocalSum:
    """Adds up the local errors of one convolution, batch by batch."""

    def __init__(self, layer: str, quantized: QuantConv2d, reference: nn.Module) -> None:
        assert isinstance(reference, nn.Conv2d)
        self.layer = layer
        self.quantized, self.reference = quantized, reference
        self.signal = self.weight = self.activation = self.both = 0.0  # sums of squares, output
        self.input = self.noise = self.clipped = 0.0  # the same of the input and its error
        self.values = self.beyond = 0

    def add(self, x: Tensor, y: Tensor) -> None:
        """Add a batch: what the float convolution read and gave."""
        conv, floats = self.quantized, self.reference
        weight, read = conv.weight_quantizer(conv.weight), conv.input_quantizer(x)
        self.signal += squares(y)
        self.weight += squares(conv._conv_forward(x, weight, conv.bias) - y)
        self.activation += squares(conv._conv_forward(read, floats.weight, floats.bias) - y)
        self.both += squares(conv._conv_forward(read, weight, conv.bias) - y)
        if is_on(conv.input_quantizer):
            self._add_input(x, read - x, conv.input_quantizer)

    def _add_input(self, x: Tensor, error: Tensor, quantizer: TensorQuantizer) -> None:
        low, high = covered(quantizer)
        beyond = (x < low) | (x > high)
        self.input += squares(x)
        self.noise += squares(error)
        self.clipped += squares(error[beyond])
        self.values += x.numel()
        self.beyond += int(beyond.sum())

    def error(self) -> LocalError:
        """The figures of all batches."""
        return LocalError(
            self.layer,
            decibels(self.signal, self.weight),
            decibels(self.signal, self.activation),
            decibels(self.signal, self.both),
            decibels(self.input, self.noise),
            self.clipped / self.noise if self.noise else 0.0,
            self.beyond / self.values if self.values else 0.0,
        )


def covered(quantizer: TensorQuantizer) -> tuple[float, float]:
    """Values that are rounded and not clipped: half a step beyond the outermost integers."""
    assert quantizer.scale is not None and quantizer.zero_point is not None
    spec, scale, zero = quantizer.spec, float(quantizer.scale), float(quantizer.zero_point)
    return (spec.qmin - zero - 0.5) * scale, (spec.qmax - zero + 0.5) * scale


def measure(
    reference: nn.Module,
    other: nn.Module,
    groups: Iterable[Iterable[str]],
    batches: Iterable[Tensor],
    images: int,
    seed: int = 0,
    layers: Collection[str] | None = None,
) -> tuple[dict[str, LocalError], dict[str, Statistics]]:
    """Local errors of every quantized convolution, and statistics of what each group reads.

    One pass of the float network. A tensor that holds NaN or infinite values has no statistics.

    Args:
        reference: the float network.
        other: its quantized counterpart.
        groups: convolutions that read one tensor; its statistics go by the first name.
        batches: (N, 3, H, W) floats as the network takes them.
        images: how many images the batches hold together.
        seed: of the samples.
        layers: convolutions to measure; None: all that are quantized.
    """
    modules = dict(reference.named_modules())
    sums = {
        name: LocalSum(name, module, modules[name])
        for name, module in other.named_modules()
        if isinstance(module, QuantConv2d) and (layers is None or name in layers)
    }
    handles = [
        modules[name].register_forward_hook(lambda _, args, y, own=own: own.add(args[0], y))
        for name, own in sums.items()
    ]
    first = [next(iter(group)) for group in groups]
    observers = {name: Observer(sample_size(images), seed + i) for i, name in enumerate(first)}
    try:
        with torch.inference_mode(), observed(modules, observers, {}):
            for batch in batches:
                reference(batch)
    finally:
        for handle in handles:
            handle.remove()
    return {name: own.error() for name, own in sums.items()}, _readable(observers)


def _readable(observers: dict[str, Observer]) -> dict[str, Statistics]:
    """Statistics of the tensors that are finite."""
    found = {}
    for name, observer in observers.items():
        if observer.extremes.finite:
            found[name] = observer.statistics()
    return found
