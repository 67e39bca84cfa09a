"""Blocks of the ultralytics package that add what they read, with the additions as modules.

The package adds with an operator, which no quantizer can sit on and which has no name. The blocks
here take over the package's children under their names, so that checkpoints fit.
"""

from typing import Any

import torch
from torch import Tensor, nn

from yoloq.models.residual_add import Add


class Residual(nn.Module):
    """x + f(x), for one branch or for several in turn; a branch is a chain of children by name."""

    def __init__(self, block: Any, *branches: tuple[str, ...]) -> None:
        super().__init__()
        self.branches = branches
        for name in sum(branches, ()):
            self.add_module(name, getattr(block, name))
        self.add = nn.ModuleList(Add() for _ in branches)

    def forward(self, x: Tensor) -> Tensor:
        for branch, add in zip(self.branches, self.add, strict=True):
            y = x
            for name in branch:
                y = self.get_submodule(name)(y)
            x = add(x, y)
        return x


class ResidualPooling(nn.Module):
    """The package's SPPF with shortcut: a max pool applied `n` times."""

    def __init__(self, block: Any) -> None:
        super().__init__()
        self.cv1, self.cv2, self.m, self.n = block.cv1, block.cv2, block.m, int(block.n)
        self.add = Add()

    def forward(self, x: Tensor) -> Tensor:
        maps = [self.cv1(x)]
        for _ in range(self.n):
            maps.append(self.m(maps[-1]))
        return self.add(x, self.cv2(torch.cat(maps, 1)))  # type: ignore[no-any-return]


class PartialAttention(nn.Module):
    """The package's PSA: attention and a feed-forward part, each residual, on half the channels."""

    def __init__(self, block: Any) -> None:
        super().__init__()
        self.cv1, self.cv2, self.attn, self.ffn = block.cv1, block.cv2, block.attn, block.ffn
        self.add = nn.ModuleList((Add(), Add()))

    def forward(self, x: Tensor) -> Tensor:
        kept, y = self.cv1(x).chunk(2, 1)
        y = self.add[0](y, self.attn(y))
        y = self.add[1](y, self.ffn(y))
        return self.cv2(torch.cat((kept, y), 1))  # type: ignore[no-any-return]


def name_residuals(net: nn.Module) -> None:
    """Swap each of the package's blocks that add what they read for one of this module."""
    for parent in list(net.modules()):
        for name, child in parent.named_children():
            setattr(parent, name, _named(child))


def _named(block: Any) -> nn.Module:
    match type(block).__name__:
        case "Bottleneck" | "RepBottleneck" if block.add:
            return Residual(block, ("cv1", "cv2"))
        case "GhostBottleneck" if isinstance(block.shortcut, nn.Identity):
            return Residual(block, ("conv",))
        case "CIB" if block.add:
            return Residual(block, ("cv1",))
        case "PSABlock" if block.add:
            return Residual(block, ("attn",), ("ffn",))
        case "ABlock":
            return Residual(block, ("attn",), ("mlp",))
        case "PSA":
            return PartialAttention(block)
        case "SPPF" if getattr(block, "add", False):
            return ResidualPooling(block)
        case _:
            return block  # type: ignore[no-any-return]
