"""Ranges while a network is trained: frozen, learned or averaged; those of weights follow them."""

from typing import Literal, TypeVar

import torch
from torch import nn

from yoloq.quant.modules import QuantAdd, QuantConv2d, quantizers
from yoloq.quant.quantizer import TensorQuantizer
from yoloq.train.qat.batch_norm import weight_of
from yoloq.train.qat.quantizers import (
    AveragedQuantizer,
    FixedQuantizer,
    FollowingQuantizer,
    LearnedQuantizer,
)

Q = TypeVar("Q", bound=TensorQuantizer)
Mode = Literal["frozen", "learned", "ema"]


def trainable_ranges(net: nn.Module, mode: Mode, image_reader: str = "") -> None:
    """Replace every calibrated quantizer of `net`, in place, by one for training.

    The range of what `image_reader` reads is exact and stays.
    """
    new: dict[TensorQuantizer, FixedQuantizer] = {}
    for name, module in net.named_modules():
        if isinstance(module, QuantConv2d):
            if isinstance(module.weight_quantizer, TensorQuantizer):
                module.weight_quantizer = _of_weight(module, mode)
            if isinstance(old := module.input_quantizer, TensorQuantizer):
                if old in new:
                    new[old].shared = True
                else:
                    new[old] = _of_activation(old, "frozen" if name == image_reader else mode)
                module.input_quantizer = new[old]
    for module in net.modules():
        if isinstance(module, QuantAdd):
            module.residual_quantizer = new[module.residual_quantizer]
            module.residual_quantizer.shared = True


def _of_weight(conv: QuantConv2d, mode: Mode) -> TensorQuantizer:
    old = conv.weight_quantizer
    assert isinstance(old, TensorQuantizer)
    if mode == "learned":
        return _learned(old)
    new = _as(FollowingQuantizer, old)
    new.follow(weight_of(conv))
    return new


def _of_activation(old: TensorQuantizer, mode: Mode) -> FixedQuantizer:
    if mode == "learned":
        learned = _learned(old)
        learned.batched = True
        return learned
    if mode == "frozen":
        return _as(FixedQuantizer, old)
    new = _as(AveragedQuantizer, old)
    assert new.low is not None and new.high is not None and new.amax is not None
    pair = (-new.amax, new.amax) if new.spec.symmetric else (new.low, new.high)
    new.register_buffer("bounds", torch.stack(pair))
    new.register_buffer("ratios", torch.zeros_like(new.bounds))
    return new


def _learned(old: TensorQuantizer) -> LearnedQuantizer:
    new = _as(LearnedQuantizer, old)
    assert new.scale is not None
    channels = new.spec.granularity.channels
    new.step = nn.Parameter(new.scale[::channels].clone() if channels else new.scale.clone())
    return new


def _as(kind: type[Q], old: TensorQuantizer) -> Q:
    """A quantizer of another kind with the range of a calibrated one."""
    new = kind(old.spec)
    assert old.low is not None and old.high is not None
    new.set_range(old.low, old.high)
    return new


def learned_steps(net: nn.Module) -> list[nn.Parameter]:
    """The scales that are trained."""
    found = (q.step for q in quantizers(net).values() if isinstance(q, LearnedQuantizer))
    return [step for step in found if step.requires_grad]


def forget(net: nn.Module) -> None:
    """Let go of the tensors that quantizers keep for siblings; call after each forward pass."""
    for quantizer in quantizers(net).values():
        if isinstance(quantizer, FixedQuantizer):
            quantizer.remembered = None
