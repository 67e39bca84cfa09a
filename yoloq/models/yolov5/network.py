"""Classic anchor-based YOLOv5 (v5.0 to v7.0): the network of a description or a model yaml.

Parameter names follow the published checkpoints, so that a state dict of the official files loads
as it is. The forward pass ends at the raw head: decoding lives in `models/heads/`.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from yoloq.models import tree
from yoloq.models.layered import LayeredNet
from yoloq.models.residuals import name_residuals
from yoloq.models.yolov5 import blocks, hub_blocks
from yoloq.models.yolov5.blocks import Detect
from yoloq.models.yolov5.layout import parse_layers

BLOCKS: dict[str, type[nn.Module]] = {
    block.__name__: block
    for block in (
        *(blocks.Conv, blocks.DWConv, blocks.Bottleneck, blocks.C3, blocks.SPP, blocks.SPPF),
        *(blocks.Focus, blocks.Concat, blocks.Detect),
        *(hub_blocks.GhostConv, hub_blocks.GhostBottleneck, hub_blocks.C3Ghost),
        *(hub_blocks.CrossConv, hub_blocks.C3x, hub_blocks.C3SPP, hub_blocks.C3TR),
        *(hub_blocks.TransformerBlock, hub_blocks.TransformerLayer),
        *(hub_blocks.BottleneckCSP, hub_blocks.MixConv2d),
    )
}
TRIAL = 256  # pixels a side of the image that shows the strides, as in YOLOv5


class YOLOv5(LayeredNet):
    """A classic network.

    Args:
        spec: `layers`: a `tree.Node` each with `from`, the layers that it reads. Or a parsed model
            yaml: `nc`, `depth_multiple`, `width_multiple`, `anchors` in pixels, `backbone`, `head`,
            each layer `[from, repeats, module, arguments]`; optional are `activation`, such as
            `nn.LeakyReLU(0.1)`, and `bn_eps`.

    `forward` takes (N, 3, H, W) floats in 0..1 with H and W multiples of the largest stride and
    returns the raw head: a list of (N, na * (5 + nc), H / stride, W / stride).

    Raises:
        CheckpointError: a module or activation that is not supported.
    """

    def __init__(self, spec: Mapping[str, Any]) -> None:
        described = "layers" in spec
        layers, sources = from_description(spec) if described else parse_layers(spec, BLOCKS)
        super().__init__(nn.Sequential(*layers), sources)
        if not described:
            _set_strides(self)
        self.spec = dict(spec) if described else _description(layers, sources)
        name_residuals(self.model)

    @property
    def detect(self) -> Detect:
        return self.model[-1]  # type: ignore[return-value]


def from_description(spec: Mapping[str, Any]) -> tuple[list[nn.Module], list[int | list[int]]]:
    """The layers of a description, and what each reads."""
    nodes = spec["layers"]
    layers = [tree.build(node, BLOCKS, f"model.{i}") for i, node in enumerate(nodes)]
    return layers, [node["from"] for node in nodes]


def _description(layers: list[nn.Module], sources: list[int | list[int]]) -> dict[str, Any]:
    nodes = (tree.describe(layer, f"model.{i}", BLOCKS) for i, layer in enumerate(layers))
    return {"layers": [{"from": s, **node} for s, node in zip(sources, nodes, strict=True)]}


@torch.no_grad()
def _set_strides(net: YOLOv5) -> None:
    """Strides as an image shows them, and anchors in units of them."""
    training = net.training
    maps = net.eval()(torch.zeros(1, 3, TRIAL, TRIAL))
    net.train(training)
    net.detect.stride = tuple(TRIAL // y.shape[-1] for y in maps)
    net.detect.anchors /= torch.tensor(net.detect.stride).view(-1, 1, 1)
