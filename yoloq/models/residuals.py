"""Residual additions as modules: what has a name can be found in a trace and be quantized.

YOLOv5 and the ultralytics package add with an operator. The blocks here take over the children of
theirs under their names, so that checkpoints fit.
"""

from typing import Any

import torch
from torch import Tensor, nn

from yoloq.base.errors import CheckpointError
from yoloq.models.tree import AS_SAVED


class Add(nn.Module):
    """The residual addition as a module, so that a quantizer can sit on its inputs."""

    def forward(self, residual: Tensor, y: Tensor) -> Tensor:
        return residual + y


class Residual(nn.Module):
    """x + f(x), where f is a chain of a block's children by name."""

    def __init__(self, block: Any, *branch: str) -> None:
        super().__init__()
        self.branch = branch
        for name in branch:
            self.add_module(name, getattr(block, name))
        self.add = Add()

    def forward(self, x: Tensor) -> Tensor:
        y = x
        for name in self.branch:
            y = self.get_submodule(name)(y)
        return self.add(x, y)  # type: ignore[no-any-return]


class ResidualPair(nn.Module):
    """y = x + f(x), then y + g(y), where f and g are a block's children by name."""

    def __init__(self, block: Any, first: str, second: str) -> None:
        super().__init__()
        self.parts = (first, second)
        for name in self.parts:
            self.add_module(name, getattr(block, name))
        self.add = nn.ModuleList((Add(), Add()))

    def forward(self, x: Tensor) -> Tensor:
        for name, add in zip(self.parts, self.add, strict=True):
            x = add(x, self.get_submodule(name)(x))
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
    """Swap each block that adds what it reads for one of this module.

    Raises:
        CheckpointError: such a block lacks a part; named as in a network whose layers are `model`.
    """
    for place, parent in list(net.named_modules(prefix="model")):
        for name, child in parent.named_children():
            try:
                setattr(parent, name, _named(child))
            except AttributeError as error:
                raise CheckpointError(
                    f"'{place}.{name}' cannot be rebuilt ({error}); {AS_SAVED}"
                ) from None


def _named(block: Any) -> nn.Module:
    match type(block).__name__:
        case "Bottleneck" | "RepBottleneck" | "CrossConv" if block.add:
            return Residual(block, "cv1", "cv2")
        case "GhostBottleneck" if isinstance(block.shortcut, nn.Identity):
            return Residual(block, "conv")
        case "CIB" if block.add:
            return Residual(block, "cv1")
        case "PSABlock" if block.add:
            return ResidualPair(block, "attn", "ffn")
        case "ABlock":
            return ResidualPair(block, "attn", "mlp")
        case "PSA":
            return PartialAttention(block)
        case "SPPF" if getattr(block, "add", False):
            return ResidualPooling(block)
        case _:
            return block  # type: ignore[no-any-return]
