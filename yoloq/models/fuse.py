"""Folding batch norm into the convolution before it."""

from typing import cast

from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights


def fuse_batch_norm(net: nn.Module) -> None:
    """Fold every `bn` into the `conv` beside it, in place, with the running statistics.

    Works on any module with a child `conv` (Conv2d) and a child `bn` (BatchNorm2d): `bn` becomes
    an identity, so the forward pass and all other names stay as they are, and `conv` gets a bias.
    """
    for module in net.modules():
        conv, bn = getattr(module, "conv", None), getattr(module, "bn", None)
        if isinstance(conv, nn.Conv2d) and isinstance(bn, nn.BatchNorm2d):
            mean, variance = cast(Tensor, bn.running_mean), cast(Tensor, bn.running_var)
            conv.weight, conv.bias = fuse_conv_bn_weights(
                conv.weight, conv.bias, mean, variance, bn.eps, bn.weight, bn.bias
            )
            module.bn = nn.Identity()
