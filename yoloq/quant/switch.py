"""Running chosen convolutions of a quantized network in float, for a while."""

import contextlib
from collections.abc import Collection, Iterator

from torch import nn

from yoloq.quant.modules import QuantAdd, QuantConv2d
from yoloq.quant.policy import Placement, replace


@contextlib.contextmanager
def in_float(
    net: nn.Module,
    placement: Placement,
    layers: Collection[str],
    reference: nn.Module | None = None,
) -> Iterator[None]:
    """Run the named convolutions of a quantized network in float until the block ends.

    Switches a convolution's weight and its own input edge; a residual Add follows its bottleneck's
    first convolution, as it does in a policy. Quantizers that others share keep their range. Names
    of convolutions that are in float anyway are allowed.

    Args:
        reference: the float network, whose weights a convolution has in float: a repair or training
            changed those of `net`. None: its own.
    """
    chosen = set(layers)
    quantized = dict(net.named_modules())
    plain: dict[str, nn.Module] = {}
    for name in chosen:
        if isinstance(conv := quantized[name], QuantConv2d):
            plain[name] = conv.float_conv() if reference is None else reference.get_submodule(name)
    for name, first in placement.adds.items():
        if first in chosen and isinstance(add := quantized[name], QuantAdd):
            plain[name] = add.float_add()
    try:
        for name, module in plain.items():
            replace(net, name, module)
        yield
    finally:
        for name in plain:
            replace(net, name, quantized[name])
