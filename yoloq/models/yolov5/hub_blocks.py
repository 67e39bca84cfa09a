"""Further modules that classic YOLOv5's published model yamls name, as in its repository's code."""

import math
from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from yoloq.models.yolov5.blocks import BN_EPS, BN_MOMENTUM, C3, SPP, Bottleneck, Conv, DWConv


class GhostConv(nn.Module):
    """Half of the channels by a convolution, half by a cheap one on it (arXiv 1911.11907)."""

    cv1: nn.Module
    cv2: nn.Module

    def __init__(
        self, c1: int, c2: int, k: int = 1, s: int = 1, g: int = 1, act: bool = True
    ) -> None:
        super().__init__()
        hidden = c2 // 2
        self.cv1 = Conv(c1, hidden, k, s, None, g, act=act)
        self.cv2 = Conv(hidden, hidden, 5, 1, None, hidden, act=act)

    def forward(self, x: Tensor) -> Tensor:
        y = self.cv1(x)
        return torch.cat((y, self.cv2(y)), 1)


class GhostBottleneck(nn.Module):
    """Two ghost convolutions with a residual."""

    conv: nn.Module
    shortcut: nn.Module

    def __init__(self, c1: int, c2: int, k: int = 3, s: int = 1) -> None:
        super().__init__()
        hidden = c2 // 2
        self.conv = nn.Sequential(
            GhostConv(c1, hidden, 1, 1),
            DWConv(hidden, hidden, k, s, act=False) if s == 2 else nn.Identity(),
            GhostConv(hidden, c2, 1, 1, act=False),
        )
        self.shortcut = (
            nn.Sequential(DWConv(c1, c1, k, s, act=False), Conv(c1, c2, 1, 1, act=False))
            if s == 2
            else nn.Identity()
        )

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.conv(x) + self.shortcut(x)
        return result


class C3Ghost(C3):
    """C3 of ghost bottlenecks."""

    def inner(self, c: int, n: int, shortcut: bool, g: int) -> nn.Module:
        return nn.Sequential(*(GhostBottleneck(c, c) for _ in range(n)))


class CrossConv(nn.Module):
    """A row convolution and a column convolution, with an optional residual."""

    cv1: nn.Module
    cv2: nn.Module
    add: bool

    def __init__(
        self,
        c1: int,
        c2: int,
        k: int = 3,
        s: int = 1,
        g: int = 1,
        e: float = 1.0,
        shortcut: bool = False,
    ) -> None:
        super().__init__()
        hidden = int(c2 * e)
        self.cv1 = Conv(c1, hidden, (1, k), (1, s))
        self.cv2 = Conv(hidden, c2, (k, 1), (s, 1), g=g)
        self.add = shortcut and c1 == c2

    def forward(self, x: Tensor) -> Tensor:
        y = self.cv2(self.cv1(x))
        return x + y if self.add else y


class C3x(C3):
    """C3 of cross convolutions."""

    def inner(self, c: int, n: int, shortcut: bool, g: int) -> nn.Module:
        return nn.Sequential(*(CrossConv(c, c, 3, 1, g, 1.0, shortcut) for _ in range(n)))


class C3SPP(C3):
    """C3 with spatial pyramid pooling in the place of the bottlenecks."""

    def __init__(
        self,
        c1: int,
        c2: int,
        k: Sequence[int] = (5, 9, 13),
        n: int = 1,
        shortcut: bool = True,
        g: int = 1,
        e: float = 0.5,
    ) -> None:
        super().__init__(c1, c2, n, shortcut, g, e)
        hidden = int(c2 * e)
        self.m = SPP(hidden, hidden, k)


class TransformerLayer(nn.Module):
    """Attention and a feed-forward part, each with a residual, without layer norm."""

    q: nn.Module
    k: nn.Module
    v: nn.Module
    ma: nn.Module
    fc1: nn.Module
    fc2: nn.Module

    def __init__(self, c: int, num_heads: int) -> None:
        super().__init__()
        self.q = nn.Linear(c, c, bias=False)
        self.k = nn.Linear(c, c, bias=False)
        self.v = nn.Linear(c, c, bias=False)
        self.ma = nn.MultiheadAttention(embed_dim=c, num_heads=num_heads)
        self.fc1 = nn.Linear(c, c, bias=False)
        self.fc2 = nn.Linear(c, c, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        x = self.ma(self.q(x), self.k(x), self.v(x))[0] + x
        result: Tensor = self.fc2(self.fc1(x)) + x
        return result


class TransformerBlock(nn.Module):
    """Transformer layers over the cells of a map, with a learned embedding of positions."""

    conv: nn.Module | None
    linear: nn.Module
    tr: nn.Module
    c2: int

    def __init__(self, c1: int, c2: int, num_heads: int, num_layers: int) -> None:
        super().__init__()
        self.conv = Conv(c1, c2) if c1 != c2 else None
        self.linear = nn.Linear(c2, c2)
        self.tr = nn.Sequential(*(TransformerLayer(c2, num_heads) for _ in range(num_layers)))
        self.c2 = c2

    def forward(self, x: Tensor) -> Tensor:
        if self.conv is not None:
            x = self.conv(x)
        n, _, height, width = x.shape
        cells = x.flatten(2).permute(2, 0, 1)
        y = self.tr(cells + self.linear(cells)).permute(1, 2, 0)
        result: Tensor = y.reshape(n, self.c2, height, width)
        return result


class C3TR(C3):
    """C3 with transformer layers in the place of the bottlenecks."""

    def inner(self, c: int, n: int, shortcut: bool, g: int) -> nn.Module:
        return TransformerBlock(c, c, 4, n)


class BottleneckCSP(nn.Module):
    """The block before C3: two bare convolutions, and batch norm behind the concatenation."""

    cv1: nn.Module
    cv2: nn.Module
    cv3: nn.Module
    cv4: nn.Module
    bn: nn.Module
    act: nn.Module
    m: nn.Module

    def __init__(
        self, c1: int, c2: int, n: int = 1, shortcut: bool = True, g: int = 1, e: float = 0.5
    ) -> None:
        super().__init__()
        hidden = int(c2 * e)
        self.cv1 = Conv(c1, hidden, 1)
        self.cv2 = nn.Conv2d(c1, hidden, 1, bias=False)
        self.cv3 = nn.Conv2d(hidden, hidden, 1, bias=False)
        self.cv4 = Conv(2 * hidden, c2, 1)
        self.bn = nn.BatchNorm2d(2 * hidden, eps=BN_EPS, momentum=BN_MOMENTUM)
        self.act = nn.SiLU()
        self.m = nn.Sequential(*(Bottleneck(hidden, hidden, shortcut, g, e=1.0) for _ in range(n)))

    def forward(self, x: Tensor) -> Tensor:
        y = torch.cat((self.cv3(self.m(self.cv1(x))), self.cv2(x)), 1)
        return self.cv4(self.act(self.bn(y)))


class MixConv2d(nn.Module):
    """Depth-wise convolutions with several kernels side by side (arXiv 1907.09595).

    Up to YOLOv5 v6.0 they were whole convolutions, and what was read was added to their result.
    """

    m: nn.ModuleList
    bn: nn.Module
    act: nn.Module

    def __init__(self, c1: int, c2: int, k: Sequence[int] = (1, 3), s: int = 1) -> None:
        super().__init__()
        owner = torch.linspace(0, len(k) - 1e-6, c2).floor().tolist()
        shares = [owner.count(index) for index in range(len(k))]
        self.m = nn.ModuleList(
            nn.Conv2d(c1, c, x, s, x // 2, groups=math.gcd(c1, c), bias=False)
            for x, c in zip(k, shares, strict=True)
        )
        self.bn = nn.BatchNorm2d(c2, eps=BN_EPS, momentum=BN_MOMENTUM)
        self.act = nn.SiLU()

    def forward(self, x: Tensor) -> Tensor:
        y = self.act(self.bn(torch.cat([m(x) for m in self.m], 1)))
        return x + y if self._adds() else y

    def _adds(self) -> bool:
        """Whether it is of the older form, which no attribute says."""
        convolutions = [cast(nn.Conv2d, m) for m in self.m]
        if all(m.groups == math.gcd(m.in_channels, m.out_channels) for m in convolutions):
            return False
        if all(m.groups == 1 for m in convolutions):
            return True
        raise ValueError("its convolutions are neither whole nor depth-wise")
