"""Modules that a learned rounding is fitted to, and what flows through them."""

import torch

from yoloq.models.layered import LayeredNet
from yoloq.quant.refine.up_or_down import Sample
from yoloq.quant.refine.walk import Block


def single(block: Block) -> list[str]:
    """Each quantized convolution of a block, with its activation where that is all beside it."""
    return list(dict.fromkeys(_wrapped(block.quantized, name) for name in block.layers))


def _wrapped(net: LayeredNet, layer: str) -> str:
    parent = layer.rpartition(".")[0]
    children = {name for name, _ in net.get_submodule(parent).named_children()}
    return parent if {"conv", "act"} <= children <= {"conv", "act", "bn"} else layer


def sample(block: Block, unit: str) -> Sample:
    """All that flows through a module of a block."""
    calls = list(block.calls(unit))
    return Sample(
        torch.cat([call.reference for call in calls]),
        torch.cat([call.read for call in calls]),
        torch.cat([call.target for call in calls]),
        torch.cat(block.weights.of(unit)),
    )
