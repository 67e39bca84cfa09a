"""Classic anchor-based YOLOv5 (v5.0 to v7.0): its modules, and the network built from a model yaml.

Module and parameter names follow the published checkpoints, so that a state dict of the official
files loads as it is. The forward pass ends at the raw head: decoding lives in `heads.py`.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import CheckpointError
from ..quant.modules import Add
from .activations import activation

BN_EPS = 1e-3  # YOLOv5 sets these two on every BatchNorm2d; torch's defaults differ
BN_MOMENTUM = 0.03

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


def autopad(kernel: int, pad: int | None = None) -> int:
    """Padding that keeps the size at stride 1."""
    return kernel // 2 if pad is None else pad


class Conv(nn.Module):
    """Convolution, batch norm, activation; after fusing, `bn` is an identity."""

    def __init__(
        self, c1: int, c2: int, k: int = 1, s: int = 1, p: int | None = None, g: int = 1
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(c1, c2, k, s, autopad(k, p), groups=g, bias=False)
        self.bn: nn.Module = nn.BatchNorm2d(c2, eps=BN_EPS, momentum=BN_MOMENTUM)
        self.act: nn.Module = nn.SiLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.bn(self.conv(x)))


class Bottleneck(nn.Module):
    """1x1 and 3x3 convolution with an optional residual."""

    def __init__(self, c1: int, c2: int, shortcut: bool = True, e: float = 0.5) -> None:
        super().__init__()
        hidden = int(c2 * e)
        self.cv1 = Conv(c1, hidden, 1)
        self.cv2 = Conv(hidden, c2, 3)
        self.add = Add() if shortcut and c1 == c2 else None

    def forward(self, x: Tensor) -> Tensor:
        y = self.cv2(self.cv1(x))
        return y if self.add is None else self.add(x, y)


class C3(nn.Module):
    """Cross-stage block with three convolutions."""

    def __init__(self, c1: int, c2: int, n: int = 1, shortcut: bool = True, e: float = 0.5) -> None:
        super().__init__()
        hidden = int(c2 * e)
        self.cv1 = Conv(c1, hidden, 1)
        self.cv2 = Conv(c1, hidden, 1)
        self.cv3 = Conv(2 * hidden, c2, 1)
        self.m = nn.Sequential(*(Bottleneck(hidden, hidden, shortcut, e=1.0) for _ in range(n)))

    def forward(self, x: Tensor) -> Tensor:
        return self.cv3(torch.cat((self.m(self.cv1(x)), self.cv2(x)), 1))


class SPP(nn.Module):
    """Spatial pyramid pooling of v5.0: parallel max pools."""

    def __init__(self, c1: int, c2: int, k: Sequence[int] = (5, 9, 13)) -> None:
        super().__init__()
        hidden = c1 // 2
        self.cv1 = Conv(c1, hidden, 1)
        self.cv2 = Conv(hidden * (len(k) + 1), c2, 1)
        self.m = nn.ModuleList(nn.MaxPool2d(x, 1, x // 2) for x in k)

    def forward(self, x: Tensor) -> Tensor:
        x = self.cv1(x)
        return self.cv2(torch.cat([x, *(m(x) for m in self.m)], 1))


class SPPF(nn.Module):
    """Spatial pyramid pooling of v6.0 and later: one max pool applied three times."""

    def __init__(self, c1: int, c2: int, k: int = 5) -> None:
        super().__init__()
        hidden = c1 // 2
        self.cv1 = Conv(c1, hidden, 1)
        self.cv2 = Conv(hidden * 4, c2, 1)
        self.m = nn.MaxPool2d(k, 1, k // 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.cv1(x)
        y1 = self.m(x)
        y2 = self.m(y1)
        return self.cv2(torch.cat((x, y1, y2, self.m(y2)), 1))


class Focus(nn.Module):
    """Space to depth and a convolution: the stem of v5.0."""

    def __init__(self, c1: int, c2: int, k: int = 1, s: int = 1, p: int | None = None) -> None:
        super().__init__()
        self.conv = Conv(c1 * 4, c2, k, s, p)

    def forward(self, x: Tensor) -> Tensor:
        corners = (x[..., ::2, ::2], x[..., 1::2, ::2], x[..., ::2, 1::2], x[..., 1::2, 1::2])
        return self.conv(torch.cat(corners, 1))


class Concat(nn.Module):
    """Concatenation along one axis."""

    def __init__(self, dimension: int = 1) -> None:
        super().__init__()
        self.d = dimension

    def forward(self, x: list[Tensor]) -> Tensor:
        return torch.cat(x, self.d)


class Detect(nn.Module):
    """One 1x1 convolution a level; gives the raw head, `na * (5 + nc)` channels a level.

    The buffer `anchors` has shape (levels, anchors, 2) in units of the level's stride, as in the
    published checkpoints.
    """

    anchors: Tensor

    def __init__(
        self,
        nc: int,
        anchors: Sequence[Sequence[float]],
        channels: Sequence[int],
        strides: Sequence[float],
    ) -> None:
        super().__init__()
        self.nc = nc
        self.na = len(anchors[0]) // 2
        self.stride = torch.tensor(strides, dtype=torch.float32)
        pixels = torch.tensor(anchors, dtype=torch.float32).view(len(anchors), -1, 2)
        self.register_buffer("anchors", pixels / self.stride.view(-1, 1, 1))
        self.m = nn.ModuleList(nn.Conv2d(c, self.na * (nc + 5), 1) for c in channels)
        self._set_prior()

    @torch.no_grad()
    def _set_prior(self) -> None:
        """Start from 8 objects in an image of 640 and a class score of 0.6 / nc, as YOLOv5 does.

        The prior of focal loss (arXiv 1708.02002, section 3.3) with YOLOv5's numbers.
        """
        for conv, stride in zip(self.m, self.stride.tolist(), strict=True):
            bias = conv.bias.view(self.na, -1)  # type: ignore[union-attr, operator]
            bias[:, 4] += math.log(8 / (640 / stride) ** 2)
            bias[:, 5:] += math.log(0.6 / (self.nc - 0.99999))

    def forward(self, x: list[Tensor]) -> list[Tensor]:
        return [conv(level) for conv, level in zip(self.m, x, strict=True)]


class YOLOv5(nn.Module):
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
        super().__init__()
        self.spec = dict(spec)
        layers, sources = parse_layers(spec, channels)
        self.model = nn.Sequential(*layers)
        self.sources = sources
        self.kept = {i for source in sources for i in source if i != -1}
        for module in self.modules():
            if isinstance(module, Conv):
                module.act = activation(spec.get("activation", "nn.SiLU()"))
            if isinstance(module, nn.BatchNorm2d):
                module.eps = spec.get("bn_eps", BN_EPS)

    @property
    def detect(self) -> Detect:
        return self.model[-1]  # type: ignore[return-value]

    def forward(self, x: Tensor) -> list[Tensor]:
        outputs: dict[int, Tensor] = {}
        y: Any = x
        for index, (layer, source) in enumerate(zip(self.model, self.sources, strict=True)):
            inputs = [y if i == -1 else outputs[i] for i in source]
            y = layer(inputs if isinstance(layer, Concat | Detect) else inputs[0])
            if index in self.kept:
                outputs[index] = y
        return y


def parse_layers(
    spec: Mapping[str, Any], channels: int
) -> tuple[list[nn.Module], list[tuple[int, ...]]]:
    """Build the layers of a yaml; returns them and, for each, the absolute indices it reads.

    Index -1 stands for the previous layer. Channels are scaled by `width_multiple` and rounded up
    to a multiple of 8, repeats by `depth_multiple`, as YOLOv5 does.
    """
    depth, width = spec["depth_multiple"], spec["width_multiple"]
    layers: list[nn.Module] = []
    sources: list[tuple[int, ...]] = []
    widths: list[int] = []
    strides: list[float] = []
    for index, (source, repeats, name, arguments) in enumerate([*spec["backbone"], *spec["head"]]):
        source = [source] if isinstance(source, int) else list(source)
        inputs = [channels if index == 0 else widths[i] for i in source]
        steps = [1.0 if index == 0 else strides[i] for i in source]
        repeats = max(round(repeats * depth), 1) if repeats > 1 else repeats
        name = str(name).rsplit(".", 1)[-1]
        if name == "Detect":
            layer, out = _detect(spec, inputs, steps), 0
        else:
            layer, out = _build_layer(name, list(arguments), inputs, repeats, width)
        layers.append(layer)
        widths.append(out)
        strides.append(steps[0] * _step(name, arguments))
        sources.append(tuple(i if i == -1 else i % index for i in source))
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
