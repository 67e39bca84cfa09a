"""Weights that jump between two integers: count and freeze them (Nagel et al. 2022, 2203.11086)."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from yoloq.quant.affine import quantize, scale_and_zero_point
from yoloq.quant.modules import QuantConv2d
from yoloq.quant.spec import QuantSpec
from yoloq.train.qat.batch_norm import FoldedConv2d, weight_of
from yoloq.train.qat.quantizers import FollowingQuantizer, LearnedQuantizer

MOMENTUM = 0.01  # of the moving averages, the paper's m
STATES = ("integers", "direction", "frequency", "average", "frozen")


def quantized_weights(net: nn.Module) -> Iterator[tuple[str, QuantConv2d]]:
    """The convolutions whose weights are quantized and trained, by name."""
    for name, module in net.named_modules():
        if (
            isinstance(module, QuantConv2d)
            and isinstance(module.weight_quantizer, FollowingQuantizer | LearnedQuantizer)
            and module.weight.requires_grad
        ):
            yield name, module


def scale_of(conv: QuantConv2d, weight: Tensor) -> tuple[Tensor, QuantSpec]:
    """The scale in use for a weight (out, ...), () or (out,), without a gradient; and the spec."""
    quantizer = conv.weight_quantizer
    assert isinstance(quantizer, FollowingQuantizer | LearnedQuantizer)
    low, high = quantizer.range_of(weight)
    return scale_and_zero_point(low, high, quantizer.spec)[0], quantizer.spec


def beside(scale: Tensor, weight: Tensor) -> Tensor:
    """The scale in a shape that multiplies the weight."""
    return scale.view(-1, *[1] * (weight.ndim - 1)) if scale.ndim else scale


@dataclass
class _Weight:
    """What is followed of one weight, each of its shape."""

    integers: Tensor  # int8 or int16, of the last step
    direction: Tensor  # sign of the last change
    frequency: Tensor  # moving average of oscillations a step
    average: Tensor  # moving average of the integers
    frozen: Tensor  # bool


class Oscillations:
    """Counts how often each integer weight turns back, and freezes what does so too often.

    An oscillation is a change of the integer weight against its previous change; a weight whose
    frequency exceeds `limit` stays at the rounded average of its integers (algorithm 1).
    """

    def __init__(self, net: nn.Module, limit: float) -> None:
        self.convs = dict(quantized_weights(net))
        self.limit = limit
        self.weights = {name: self._start(conv) for name, conv in self.convs.items()}

    @torch.no_grad()
    def update(self) -> None:
        """Look at the weights after a step of the optimizer; frozen ones are put back."""
        for name, conv in self.convs.items():
            self._hold(conv, self.weights[name])
            self._count(conv, self.weights[name])

    def share(self) -> dict[str, float]:
        """Shares of weights that are frozen, and that oscillate oftener than 1 step in 200."""
        total = max(sum(w.frozen.numel() for w in self.weights.values()), 1)
        frozen = sum(int(w.frozen.sum()) for w in self.weights.values())
        moving = sum(int((w.frequency > 0.005).sum()) for w in self.weights.values())
        return {"oscillating": moving / total, "frozen": frozen / total}

    def state_dict(self) -> dict[str, dict[str, Tensor]]:
        """Everything that has to survive an interruption."""
        return {
            name: {state: getattr(weight, state).cpu() for state in STATES}
            for name, weight in self.weights.items()
        }

    def load_state_dict(self, saved: dict[str, dict[str, Tensor]]) -> None:
        """Go back to what `state_dict` gave."""
        for name, states in saved.items():
            device = self.convs[name].weight.device
            self.weights[name] = _Weight(**{s: t.to(device) for s, t in states.items()})

    @torch.no_grad()
    def _start(self, conv: QuantConv2d) -> _Weight:
        integers = _integers(conv)
        zeros = torch.zeros_like(conv.weight)
        none = torch.zeros_like(integers)
        return _Weight(integers, none, zeros, integers.float(), none.bool())

    def _hold(self, conv: QuantConv2d, kept: _Weight) -> None:
        """Put frozen weights back to their integer, at the scale of now."""
        if not kept.frozen.any():
            return
        weight = weight_of(conv)
        wanted = kept.average.round() * beside(scale_of(conv, weight)[0], weight)
        if isinstance(conv, FoldedConv2d):
            wanted = wanted / conv.factor()
        held = kept.frozen & torch.isfinite(wanted)  # a norm may have switched the channel off
        conv.weight.copy_(torch.where(held, wanted, conv.weight))

    def _count(self, conv: QuantConv2d, kept: _Weight) -> None:
        now = _integers(conv)
        change = (now - kept.integers).sign()
        turned = (change != 0) & (change == -kept.direction)
        kept.frequency.lerp_(turned.float(), MOMENTUM)
        kept.average = torch.where(
            kept.frozen, kept.average, kept.average.lerp(now.float(), MOMENTUM)
        )
        kept.direction = torch.where(change != 0, change, kept.direction)
        kept.integers = now
        if self.limit > 0:
            kept.frozen |= kept.frequency > self.limit


def _integers(conv: QuantConv2d) -> Tensor:
    weight = weight_of(conv)
    scale, spec = scale_of(conv, weight)
    return quantize(weight, scale, torch.zeros_like(scale, dtype=torch.int32), spec)
