"""A score of a network that was never trained: no images, no labels, a second."""

import copy
import math

import torch
from torch import nn


def synflow(net: nn.Module, imgsz: int = 64) -> float:
    """The logarithm of the synaptic flow: sum of w dR/dw over all weights.

    R is the sum of all outputs for an image of ones, with the absolute value of each weight: Tanaka
    et al., Pruning neural networks without any data by iteratively conserving synaptic flow, 2020;
    as a score of architectures Abdelfattah et al., Zero-Cost Proxies for Lightweight NAS, 2021. It
    sees how wide and how deep a network is; of its activation and its bits it sees next to nothing.

    Args:
        net: not changed; (N, 3, H, W) -> list of maps.
        imgsz: side of the image of ones, a multiple of the largest stride.
    """
    own = copy.deepcopy(net).cpu().double().eval().requires_grad_(True)
    with torch.no_grad():
        for parameter in own.parameters():
            parameter.abs_()
    raws = own(torch.ones(1, 3, imgsz, imgsz, dtype=torch.float64))
    torch.stack([raw.sum() for raw in raws]).sum().backward()
    flow = sum(float((p.detach() * p.grad).sum()) for p in own.parameters() if p.grad is not None)
    return math.log(flow)
