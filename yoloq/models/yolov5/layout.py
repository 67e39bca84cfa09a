"""Model yamls of classic YOLOv5: how their rows are read, and the published layout."""

import ast
import math
from collections.abc import Mapping
from typing import Any

from torch import nn

from yoloq.base.errors import CheckpointError
from yoloq.models.activations import activation
from yoloq.models.yolov5.blocks import BN_EPS, Conv

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
REPEATING = ("BottleneckCSP", "C3", "C3TR", "C3Ghost", "C3x")  # take their repeats as an argument
PLAIN: dict[str, type[nn.Module]] = {  # torch's layers that keep the number of channels
    "Upsample": nn.Upsample,
    "MaxPool2d": nn.MaxPool2d,
    "ZeroPad2d": nn.ZeroPad2d,
    "Identity": nn.Identity,
}


def parse_layers(
    spec: Mapping[str, Any], blocks: Mapping[str, type[nn.Module]]
) -> tuple[list[nn.Module], list[int | list[int]]]:
    """Build the layers of a yaml; returns them and, for each, what it reads (`LayeredNet`).

    Channels are scaled by `width_multiple` and rounded up to a multiple of 8, but for those that
    equal the head's; repeats are scaled by `depth_multiple`. (Rules of YOLOv5, `parse_model`.)
    """
    anchors = _anchors(spec)
    head_width = len(anchors[0]) // 2 * (spec["nc"] + 5)
    layers: list[nn.Module] = []
    sources: list[int | list[int]] = []
    widths: list[int] = []
    for index, (source, repeats, name, arguments) in enumerate([*spec["backbone"], *spec["head"]]):
        read = [source] if isinstance(source, int) else list(source)
        inputs = [3 if index == 0 else widths[i] for i in read]
        repeats = max(round(repeats * spec["depth_multiple"]), 1) if repeats > 1 else repeats
        name = str(name).rsplit(".", 1)[-1]
        values = [_argument(value) for value in arguments]
        if name == "Detect":
            layer: nn.Module = blocks[name](spec["nc"], anchors, inputs)
            width = 0
        elif name == "Concat":
            layer, width = blocks[name](*values), sum(inputs)
        elif name in PLAIN:
            layer, width = _repeated(PLAIN[name], repeats, values), inputs[0]
        else:
            width = _width(values[0], spec["width_multiple"], head_width)
            layer = _block(name, blocks, inputs[0], width, repeats, values[1:])
        layers.append(layer)
        widths.append(width)
        sources.append(source if isinstance(source, int) else read)
    _set_activation(layers, spec)
    return layers, sources


def _anchors(spec: Mapping[str, Any]) -> list[list[float]]:
    """Anchors of each level; a number of them stands for start values, as in YOLOv5."""
    anchors: Any = spec["anchors"]
    if isinstance(anchors, int):
        levels = len(spec["head"][-1][0])
        return [list(map(float, range(anchors * 2)))] * levels
    return [list(level) for level in anchors]


def _argument(value: Any) -> Any:
    """A yaml's argument; texts such as `None` or `False` mean the Python value."""
    if not isinstance(value, str):
        return value
    try:
        return ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return value


def _width(channels: int, multiple: float, head_width: int) -> int:
    return channels if channels == head_width else math.ceil(channels * multiple / 8) * 8


def _block(
    name: str,
    blocks: Mapping[str, type[nn.Module]],
    read: int,
    width: int,
    repeats: int,
    arguments: list[Any],
) -> nn.Module:
    """One block, or several in a row."""
    if name not in blocks:
        known = sorted({*blocks, *PLAIN})
        raise CheckpointError(
            f"layer {name!r} of the model yaml is not supported; known: {', '.join(known)}"
        )
    if name in REPEATING:
        return blocks[name](read, width, repeats, *arguments)
    # each copy has the channels of the first for its input, as in YOLOv5
    return _repeated(blocks[name], repeats, [read, width, *arguments])


def _repeated(module: type[nn.Module], repeats: int, arguments: list[Any]) -> nn.Module:
    if repeats == 1:
        return module(*arguments)
    return nn.Sequential(*(module(*arguments) for _ in range(repeats)))


def _set_activation(layers: list[nn.Module], spec: Mapping[str, Any]) -> None:
    """Give all convolutions that have one the yaml's activation, and batch norm its epsilon."""
    for module in (module for layer in layers for module in layer.modules()):
        if isinstance(module, Conv) and isinstance(module.act, nn.SiLU):
            module.act = activation(spec.get("activation", "nn.SiLU()"))
        if isinstance(module, nn.BatchNorm2d):
            module.eps = spec.get("bn_eps", BN_EPS)


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
