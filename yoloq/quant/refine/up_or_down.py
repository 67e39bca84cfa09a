"""Learned rounding: whether each weight goes down or up is fitted to a module's float output.

Nagel et al., Up or Down? Adaptive Rounding for Post-Training Quantization, 2020 (AdaRound).
"""

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from yoloq.quant.modules import QuantConv2d, is_on, quantizers
from yoloq.quant.quantizer import TensorQuantizer

STRETCH, SHIFT = 1.2, -0.1  # of the sigmoid, so that 0 and 1 are reached: the paper's zeta, gamma
RATE = 1e-2
BATCH = 8  # images a step
WARMUP = 0.2  # of the steps without pressure to decide
SHARP = (20.0, 2.0)  # exponent of that pressure, from the first step with it to the last
PRESSURE = 0.01
DROP = 0.5


class LearnedRounding(nn.Module):
    """In the place of a weight's quantizer: rounds down, plus a fitted part of a step."""

    def __init__(self, weight: Tensor, quantizer: TensorQuantizer) -> None:
        super().__init__()
        assert quantizer.scale is not None
        self.spec = quantizer.spec
        self.scale = quantizer.scale.view(-1, *[1] * (weight.ndim - 1))
        steps = weight.detach() / self.scale
        self.down = steps.floor()
        part = (steps - self.down).clamp(0.01, 0.99)
        share = (part - SHIFT) / STRETCH
        self.logits = nn.Parameter(torch.log(share / (1 - share)))

    @property
    def up(self) -> Tensor:
        """How much of a step each weight goes up, 0 to 1."""
        return (torch.sigmoid(self.logits) * STRETCH + SHIFT).clamp(0, 1)

    def forward(self, weight: Tensor) -> Tensor:
        return self._on_grid(self.up)

    def decided(self) -> Tensor:
        """The weight with every step up or down."""
        return self._on_grid((self.up >= 0.5).float()).detach()

    def undecided(self, exponent: float) -> Tensor:
        """Sum over weights of 1 - |2 up - 1|^exponent: 0 where each goes up or down."""
        return (1 - (2 * self.up - 1).abs().pow(exponent)).sum()

    def _on_grid(self, up: Tensor) -> Tensor:
        return (self.down + up).clamp(self.spec.qmin, self.spec.qmax) * self.scale


@dataclass(frozen=True)
class Sample:
    """What a module reads in both networks and what it should give: (N, C, H, W).

    `weights` (N, H, W) is how much each place of the latter counts.
    """

    reference: Tensor
    read: Tensor
    target: Tensor
    weights: Tensor


def fit(module: nn.Module, sample: Sample, steps: int, drop: bool, random: torch.Generator) -> None:
    """Decide the rounding of a module's quantized convolutions by the error of its output.

    Args:
        drop: mix the quantized input with the float one and leave quantizers of activations out
            at random places, which keeps the fit from leaning on a few images' rounding: Wei et
            al., QDrop, 2022.
    """
    convs = [
        m for m in module.modules() if isinstance(m, QuantConv2d) and is_on(m.weight_quantizer)
    ]
    with _learning(convs) as roundings:
        optimizer = torch.optim.Adam([rounding.logits for rounding in roundings], RATE)
        for step in range(steps):
            chosen = torch.randperm(len(sample.read), generator=random)[:BATCH]
            read, target = sample.read[chosen], sample.target[chosen]
            if drop:
                read = _mixed(read, sample.reference[chosen], random)
            with torch.enable_grad(), _dropping(module, random if drop else None):
                apart = (module(read) - target).square().sum(1)
                error = (apart * sample.weights[chosen]).mean()
                loss = error + _pressure(roundings, step / steps)
                optimizer.zero_grad()
                loss.backward()
            optimizer.step()


def _pressure(roundings: Sequence[LearnedRounding], done: float) -> Tensor | float:
    if done < WARMUP:
        return 0.0
    first, last = SHARP
    exponent = first + (last - first) * (done - WARMUP) / (1 - WARMUP)
    return PRESSURE * sum(rounding.undecided(exponent) for rounding in roundings)


@contextlib.contextmanager
def _learning(convs: Sequence[QuantConv2d]) -> Iterator[list[LearnedRounding]]:
    """Put learned roundings in; at the end the weights are what was decided."""
    before = [conv.weight_quantizer for conv in convs]
    roundings = []
    for conv in convs:
        assert is_on(conv.weight_quantizer)
        roundings.append(LearnedRounding(conv.weight, conv.weight_quantizer))
        conv.weight_quantizer = roundings[-1]
    try:
        yield roundings
    finally:
        for conv, quantizer in zip(convs, before, strict=True):
            conv.weight_quantizer = quantizer
    for conv, rounding in zip(convs, roundings, strict=True):
        conv.weight.data.copy_(rounding.decided())


@contextlib.contextmanager
def _dropping(module: nn.Module, random: torch.Generator | None) -> Iterator[None]:
    """Leave quantizers of activations out at random places."""
    if random is None:
        yield
        return

    def drop(_: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> Tensor:
        return _mixed(output, args[0], random)

    handles = [q.register_forward_hook(drop) for q in quantizers(module).values()]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _mixed(first: Tensor, second: Tensor, random: torch.Generator) -> Tensor:
    kept = torch.rand(first.shape, generator=random) < DROP
    return torch.where(kept.to(first.device), first, second)
