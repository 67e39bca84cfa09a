"""Weights for the other activation before anything is trained: each convolution makes up, as far as
one linear map can, for what the new activations before it give.

Least squares with a ridge, layer by layer in the order of the pass, as `quant/refine/gptq.py` does
for rounded inputs; here the bias is fitted too.
"""

import copy
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import nn

from yoloq.base.say import progress
from yoloq.models.layered import LayeredNet
from yoloq.models.load import LoadedModel
from yoloq.quant.refine.apply import batches_of
from yoloq.quant.refine.patches import fitted, grouped, moments_of, parts_of
from yoloq.quant.refine.walk import Block, walk
from yoloq.quant.trace import trace

RIDGES = (1e-5, 1e-4, 1e-3, 0.01, 0.1, 1.0)  # of the mean of the diagonal


def fit_weights(
    model: LoadedModel, changed: LoadedModel, files: Sequence[Path], imgsz: int, seed: int
) -> None:
    """Change the weights of `changed` in place, so that it gives what `model` does.

    Args:
        model, changed: fused float models of the same layers, on one device.
        files: images, without labels.
        imgsz: side of the square in pixels.
    """
    # in one layout of memory, whatever ran before: another rounds otherwise
    reference = copy.deepcopy(model.net).to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    net = changed.net
    assert isinstance(net, LayeredNet) and isinstance(reference, LayeredNet)
    device = next(net.parameters()).device
    batches, count = tuple(batches_of(files, imgsz, device)), len(reference.model)
    with progress("fit", count, "blocks") as advance:
        done = 0
        for block in walk(reference, net, convolutions(net), batches, model.head, seed):
            advance(block.position - done)
            done = block.position
            for name in block.layers:
                fit_conv(block, name)
        advance(count - done)


def convolutions(net: nn.Module) -> list[str]:
    """Names of a network's convolutions, in the order of the pass."""
    return list(dict.fromkeys(op.name for op in trace(net) if op.kind == "conv"))


def fit_conv(block: Block, name: str) -> None:
    """Fit weights and bias of one convolution; with nothing to make up for they stay."""
    conv = block.quantized.get_submodule(name)
    assert isinstance(conv, nn.Conv2d)
    weight = grouped(conv)
    bias = torch.zeros(len(conv.weight)).to(weight) if conv.bias is None else conv.bias.detach()
    bias = bias.to(weight).unflatten(0, (conv.groups, -1)).clone()
    both = moments_of(block, name, conv, with_bias=True)
    for (group, columns), (first, second) in zip(parts_of(conv), both, strict=True):
        own = torch.cat((weight[group, :, columns], bias[group, :, None]), 1)
        made = fitted(own, first.double(), second.double(), RIDGES)
        weight[group, :, columns], bias[group] = made[:, :-1], made[:, -1]
    with torch.no_grad():
        conv.weight.copy_(weight.view_as(conv.weight))
        if conv.bias is not None:
            conv.bias.copy_(bias.flatten())
