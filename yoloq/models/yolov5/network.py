"""Classic anchor-based YOLOv5 (v5.0 to v7.0): the network that a model yaml describes.

Parameter names follow the published checkpoints, so that a state dict of the official files loads
as it is. The forward pass ends at the raw head: decoding lives in `models/heads/`.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from yoloq.base.errors import CheckpointError
from yoloq.models.activations import activation
from yoloq.models.layered import LayeredNet
from yoloq.models.yolov5.blocks import (
    BN_EPS,
    C3,
    SPP,
    SPPF,
    Bottleneck,
    Concat,
    Conv,
    Detect,
    Focus,
)

ANCHORS = (
    (10, 13, 16, 30, 33, 23),
    (30, 61, 62, 45, 59, 119),
    (116, 90, 156, 198, 373, 326),
)
SIZES = {  # name -> (depth multiple, width multiple)
    "n": (0.33, 0.25),
    "s": (0.33, 0.50),
    "m": (0.67, 0.75),
    "l": (1.00, 1.00),
    "x": (1.33, 1.25),
}


class YOLOv5(LayeredNet):
    """The network of a model yaml.

    Args:
        spec: the parsed yaml: `nc`, `depth_multiple`, `width_multiple`, `anchors`, `backbone`,
            `head`; each layer is `[from, repeats, module, arguments]`. Two optional keys:
            `activation`, such as `nn.LeakyReLU(0.1)`, and `bn_eps`.
        channels: channels of the image.

    `forward` takes (N, channels, H, W) floats in 0..1 with H and W multiples of the largest stride
    and returns the raw head: a list of (N, na * (5 + nc), H / stride, W / stride).

    Raises:
        CheckpointError: the yaml names a module or activation that this file does not define.
    """

    def __init__(self, spec: Mapping[str, Any], channels: int = 3) -> None:
        blocks, sources = parse_layers(spec, channels)
        super().__init__(nn.Sequential(*blocks), sources)
        self.spec = dict(spec)
        for module in self.modules():
            if isinstance(module, Conv):
                module.act = activation(spec.get("activation", "nn.SiLU()"))
            if isinstance(module, nn.BatchNorm2d):
                module.eps = spec.get("bn_eps", BN_EPS)

    @property
    def detect(self) -> Detect:
        return self.model[-1]  # type: ignore[return-value]


def parse_layers(
    spec: Mapping[str, Any], channels: int
) -> tuple[list[nn.Module], list[int | list[int]]]:
    """Build the layers of a yaml; returns them and, for each, what it reads (`LayeredNet`).

    Channels are scaled by `width_multiple` and rounded up to a multiple of 8, repeats by
    `depth_multiple`, as YOLOv5 does.
    """
    depth, width = spec["depth_multiple"], spec["width_multiple"]
    layers: list[nn.Module] = []
    sources: list[int | list[int]] = []
    widths: list[int] = []
    strides: list[float] = []
    for index, (source, repeats, name, arguments) in enumerate([*spec["backbone"], *spec["head"]]):
        read = [source] if isinstance(source, int) else list(source)
        inputs = [channels if index == 0 else widths[i] for i in read]
        steps = [1.0 if index == 0 else strides[i] for i in read]
        repeats = max(round(repeats * depth), 1) if repeats > 1 else repeats
        name = str(name).rsplit(".", 1)[-1]
        if name == "Detect":
            layer, out = _detect(spec, inputs, steps), 0
        else:
            layer, out = _build_layer(name, list(arguments), inputs, repeats, width)
        layers.append(layer)
        widths.append(out)
        strides.append(steps[0] * _step(name, arguments))
        sources.append(source if isinstance(source, int) else read)
    return layers, sources


def _detect(spec: Mapping[str, Any], inputs: list[int], strides: list[float]) -> nn.Module:
    return Detect(spec["nc"], spec["anchors"], inputs, strides)


def _step(name: str, arguments: Sequence[Any]) -> float:
    """By what a layer multiplies the stride of the map it reads."""
    if name == "Conv":
        return arguments[2] if len(arguments) > 2 else 1
    return {"Focus": 2, "Upsample": 0.5}.get(name, 1)


def _build_layer(
    name: str, arguments: list[Any], inputs: list[int], repeats: int, width: float
) -> tuple[nn.Module, int]:
    """One layer and its number of output channels."""
    if name == "Concat":
        return Concat(*arguments), sum(inputs)
    if name == "Upsample":
        return nn.Upsample(None, arguments[1], arguments[2]), inputs[0]
    if name not in SCALED:
        raise CheckpointError(
            f"layer {name!r} of the model yaml is not a classic YOLOv5 detection layer; "
            f"known: {', '.join(sorted([*SCALED, 'Concat', 'Upsample', 'Detect']))}"
        )
    out = math.ceil(arguments[0] * width / 8) * 8
    if name == "C3":
        return C3(inputs[0], out, repeats, *arguments[1:]), out
    module = SCALED[name]
    if repeats > 1:
        copies = [module(inputs[0] if i == 0 else out, out, *arguments[1:]) for i in range(repeats)]
        return nn.Sequential(*copies), out
    return module(inputs[0], out, *arguments[1:]), out


SCALED: dict[str, type[nn.Module]] = {
    "Conv": Conv,
    "Bottleneck": Bottleneck,
    "C3": C3,
    "SPP": SPP,
    "SPPF": SPPF,
    "Focus": Focus,
}


def v6_spec(size: str, nc: int) -> dict[str, Any]:
    """The published YOLOv5 v6.0 layout (also v7.0) for a size of `SIZES` and `nc` classes."""
    depth, width = SIZES[size]
    backbone = [
        [-1, 1, "Conv", [64, 6, 2, 2]],
        [-1, 1, "Conv", [128, 3, 2]],
        [-1, 3, "C3", [128]],
        [-1, 1, "Conv", [256, 3, 2]],
        [-1, 6, "C3", [256]],
        [-1, 1, "Conv", [512, 3, 2]],
        [-1, 9, "C3", [512]],
        [-1, 1, "Conv", [1024, 3, 2]],
        [-1, 3, "C3", [1024]],
        [-1, 1, "SPPF", [1024, 5]],
    ]
    head = [
        [-1, 1, "Conv", [512, 1, 1]],
        [-1, 1, "nn.Upsample", [None, 2, "nearest"]],
        [[-1, 6], 1, "Concat", [1]],
        [-1, 3, "C3", [512, False]],
        [-1, 1, "Conv", [256, 1, 1]],
        [-1, 1, "nn.Upsample", [None, 2, "nearest"]],
        [[-1, 4], 1, "Concat", [1]],
        [-1, 3, "C3", [256, False]],
        [-1, 1, "Conv", [256, 3, 2]],
        [[-1, 14], 1, "Concat", [1]],
        [-1, 3, "C3", [512, False]],
        [-1, 1, "Conv", [512, 3, 2]],
        [[-1, 10], 1, "Concat", [1]],
        [-1, 3, "C3", [1024, False]],
        [[17, 20, 23], 1, "Detect", ["nc", "anchors"]],
    ]
    return {
        "nc": nc,
        "depth_multiple": depth,
        "width_multiple": width,
        "anchors": [list(row) for row in ANCHORS],
        "backbone": backbone,
        "head": head,
    }
