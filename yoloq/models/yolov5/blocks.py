"""The modules of classic YOLOv5 (v5.0 to v7.0), named as in the published checkpoints.

What a class annotates is all that its forward pass reads: `models/tree.py` holds pickled modules
against it.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

BN_EPS = 1e-3  # YOLOv5 sets these two on every BatchNorm2d; torch's defaults differ
BN_MOMENTUM = 0.03
Size = int | tuple[int, int]


def autopad(kernel: Size, pad: Size | None = None, dilation: int = 1) -> Size:
    """Padding that keeps the size at stride 1."""
    if pad is not None:
        return pad
    if isinstance(kernel, int):
        return (dilation * (kernel - 1) + 1) // 2
    return tuple((dilation * (side - 1) + 1) // 2 for side in kernel)  # type: ignore[return-value]


class Conv(nn.Module):
    """Convolution, batch norm, activation; after fusing, `bn` is an identity."""

    conv: nn.Module
    bn: nn.Module
    act: nn.Module

    def __init__(
        self,
        c1: int,
        c2: int,
        k: Size = 1,
        s: Size = 1,
        p: Size | None = None,
        g: int = 1,
        d: int = 1,
        act: bool = True,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(c1, c2, k, s, autopad(k, p, d), groups=g, dilation=d, bias=False)
        self.bn = nn.BatchNorm2d(c2, eps=BN_EPS, momentum=BN_MOMENTUM)
        self.act = nn.SiLU() if act is True else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.bn(self.conv(x)))


class DWConv(Conv):
    """Depth-wise convolution."""

    def __init__(
        self, c1: int, c2: int, k: int = 1, s: int = 1, d: int = 1, act: bool = True
    ) -> None:
        super().__init__(c1, c2, k, s, g=math.gcd(c1, c2), d=d, act=act)


class Bottleneck(nn.Module):
    """1x1 and 3x3 convolution with an optional residual."""

    cv1: nn.Module
    cv2: nn.Module
    add: bool

    def __init__(self, c1: int, c2: int, shortcut: bool = True, g: int = 1, e: float = 0.5) -> None:
        super().__init__()
        hidden = int(c2 * e)
        self.cv1 = Conv(c1, hidden, 1)
        self.cv2 = Conv(hidden, c2, 3, g=g)
        self.add = shortcut and c1 == c2

    def forward(self, x: Tensor) -> Tensor:
        y = self.cv2(self.cv1(x))
        return x + y if self.add else y


class C3(nn.Module):
    """Cross-stage block with three convolutions."""

    cv1: nn.Module
    cv2: nn.Module
    cv3: nn.Module
    m: nn.Module

    def __init__(
        self, c1: int, c2: int, n: int = 1, shortcut: bool = True, g: int = 1, e: float = 0.5
    ) -> None:
        super().__init__()
        hidden = int(c2 * e)
        self.cv1 = Conv(c1, hidden, 1)
        self.cv2 = Conv(c1, hidden, 1)
        self.cv3 = Conv(2 * hidden, c2, 1)
        self.m = self.inner(hidden, n, shortcut, g)

    def inner(self, c: int, n: int, shortcut: bool, g: int) -> nn.Module:
        """What one of the two branches runs."""
        return nn.Sequential(*(Bottleneck(c, c, shortcut, g, e=1.0) for _ in range(n)))

    def forward(self, x: Tensor) -> Tensor:
        return self.cv3(torch.cat((self.m(self.cv1(x)), self.cv2(x)), 1))


class SPP(nn.Module):
    """Spatial pyramid pooling of v5.0: parallel max pools."""

    cv1: nn.Module
    cv2: nn.Module
    m: nn.ModuleList

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

    cv1: nn.Module
    cv2: nn.Module
    m: nn.Module

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

    conv: nn.Module

    def __init__(
        self,
        c1: int,
        c2: int,
        k: int = 1,
        s: int = 1,
        p: int | None = None,
        g: int = 1,
        act: bool = True,
    ) -> None:
        super().__init__()
        self.conv = Conv(c1 * 4, c2, k, s, p, g, act=act)

    def forward(self, x: Tensor) -> Tensor:
        corners = (x[..., ::2, ::2], x[..., 1::2, ::2], x[..., ::2, 1::2], x[..., 1::2, 1::2])
        return self.conv(torch.cat(corners, 1))


class Concat(nn.Module):
    """Concatenation along one axis."""

    d: int

    def __init__(self, dimension: int = 1) -> None:
        super().__init__()
        self.d = dimension

    def forward(self, x: list[Tensor]) -> Tensor:
        return torch.cat(x, self.d)


class Detect(nn.Module):
    """One 1x1 convolution a level; gives the raw head, `na * (5 + nc)` channels a level.

    The buffer `anchors` has shape (levels, anchors, 2) in units of the level's stride, as in the
    published checkpoints. `stride` holds the pixels a cell of each level.
    """

    nc: int
    stride: tuple[int, ...]
    anchors: Tensor
    m: nn.ModuleList

    def __init__(
        self, nc: int, anchors: Sequence[Sequence[float]], channels: Sequence[int]
    ) -> None:
        super().__init__()
        self.nc = nc
        self.stride = (1,) * len(channels)
        pixels = torch.tensor(anchors, dtype=torch.float32).view(len(anchors), -1, 2)
        self.register_buffer("anchors", pixels)
        self.m = nn.ModuleList(nn.Conv2d(c, self.na * (nc + 5), 1) for c in channels)

    @property
    def na(self) -> int:
        """Anchors a level."""
        return self.anchors.shape[1]

    def forward(self, x: list[Tensor]) -> list[Tensor]:
        return [self.level(index, y) for index, y in enumerate(x)]

    def level(self, index: int, x: Tensor) -> Tensor:
        """The raw map of one of the maps that the head reads."""
        raw: Tensor = self.m[index](x)
        return raw
