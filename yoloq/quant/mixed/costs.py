"""What a layer costs at a width: bytes, bit operations; milliseconds are an engine's to tell."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from yoloq.quant.mixed.width import EDGE, FLOAT, Width
from yoloq.quant.observer import observed
from yoloq.quant.policy import Placement, block_of, conv_layers
from yoloq.quant.trace import Op, conv_inputs

BYTES = 4  # of a scale or a bias, which stay in FP32


@dataclass(frozen=True)
class Layer:
    """A convolution whose width is to be chosen.

    Attributes:
        name: of its module.
        group: convolutions of one group share the quantizer of their input.
        weights: how many it has.
        scales, biases: numbers that stay in FP32, the first only of integers.
        macs: products of one image.
        widths: what it may have, the narrowest first.
    """

    name: str
    group: str
    weights: int
    scales: int
    biases: int
    macs: int
    widths: tuple[Width, ...]


def layers_of(
    net: nn.Module, ops: Sequence[Op], placement: Placement, imgsz: int, widths: Sequence[Width]
) -> list[Layer]:
    """The convolutions of a float network in the order of the pass.

    The first layer and the head have 8 bits or float, whatever the others have.

    Args:
        ops: its trace.
        placement: of everything in integers, which says who shares a quantizer.
        imgsz: side of the image in pixels.
        widths: of the others.
    """
    names = list(conv_inputs(ops))
    macs = products(net, names, imgsz)
    blocks = conv_layers(net)
    edges = {blocks[0], blocks[-1]}
    found = []
    for name in names:
        conv = net.get_submodule(name)
        assert isinstance(conv, nn.Conv2d)
        layer = Layer(
            name=name,
            group=placement.layers[name].group,
            weights=conv.weight.numel(),
            scales=conv.out_channels,
            biases=0 if conv.bias is None else conv.out_channels,
            macs=macs[name],
            widths=(EDGE, FLOAT) if block_of(name) in edges else tuple(sorted(widths)),
        )
        found.append(layer)
    return found


def products(net: nn.Module, names: Sequence[str], imgsz: int) -> dict[str, int]:
    """Multiplications of each convolution for one image, over all its calls in a pass."""
    counts = dict.fromkeys(names, 0)

    def counter(name: str) -> Callable[[Tensor], None]:
        weights = net.get_parameter(f"{name}.weight").numel()

        def count(output: Tensor) -> None:
            counts[name] += output[0, 0].numel() * weights

        return count

    device = next(net.parameters()).device
    watching = {name: counter(name) for name in names}
    with torch.inference_mode(), observed(dict(net.named_modules()), {}, watching):
        net(torch.zeros(1, 3, imgsz, imgsz, device=device))
    return counts


def size(layer: Layer, width: Width) -> float:
    """Bytes in a packed file: weights at their bits, FP16 in float, scales and biases in FP32."""
    scales = layer.scales if width.quantized else 0
    return math.ceil(layer.weights * width.weight / 8) + BYTES * (scales + layer.biases)


def bit_operations(layer: Layer, width: Width) -> float:
    """Products of one image, times the bits of both factors."""
    return float(layer.macs * width.weight * width.activation)
