"""Statistics of kept batch norms, estimated anew for the quantized network."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from yoloq.train.qat.batch_norm import FoldedConv2d


@torch.no_grad()
def reestimate(net: nn.Module, batches: Iterable[Tensor]) -> None:
    """Set the norms' statistics to those that the quantized network has on `batches`, in place.

    Each layer normalises by the batch's own statistics meanwhile, and gets their mean: the BN
    re-estimation of Nagel et al. 2022, arXiv 2203.11086, section 3.

    Args:
        net: with `FoldedConv2d` modules.
        batches: (N, 3, H, W) floats as the network takes them.
    """
    layers = [module for module in net.modules() if isinstance(module, FoldedConv2d)]
    for layer in layers:
        layer.seen = []
    try:
        for batch in batches:
            net(batch)
        for layer in layers:
            assert layer.seen
            means, variances = zip(*layer.seen, strict=True)
            layer.mean().copy_(torch.stack(means).mean(0))
            layer.variance().copy_(torch.stack(variances).mean(0))
    finally:
        for layer in layers:
            layer.seen = None
