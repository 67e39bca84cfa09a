"""How much of a network's work each of its blocks does."""

import torch
from torch import Tensor, nn

from yoloq.models.layered import LayeredNet


def block_work(net: LayeredNet, size: int = 64) -> list[float]:
    """Share of each block in the multiplications of the convolutions of a forward pass."""
    work = multiplications(net, size)
    return [share / sum(work) for share in work]


def multiplications(net: LayeredNet, size: int = 64) -> list[float]:
    """Multiplications of each block's convolutions in a forward pass over one image."""
    work = [0.0] * len(net.model)

    def count(index: int, conv: nn.Conv2d, output: Tensor) -> None:
        work[index] += output[0].numel() * conv.weight[0].numel()

    handles = [
        module.register_forward_hook(lambda conv, _, output, i=i: count(i, conv, output))
        for i, block in enumerate(net.model)
        for module in block.modules()
        if isinstance(module, nn.Conv2d)
    ]
    try:
        with torch.inference_mode():
            net(torch.zeros(1, 3, size, size, device=next(net.parameters()).device))
    finally:
        for handle in handles:
            handle.remove()
    return work
