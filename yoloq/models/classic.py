"""The family of classic YOLOv5: network and head of a spec."""

from collections.abc import Mapping
from typing import Any, cast

from torch import nn

from .heads import AnchorHead
from .yolov5 import YOLOv5


def build(spec: Mapping[str, Any]) -> nn.Module:
    """The network of a spec: a model yaml with `nc` and with anchors in pixels."""
    return YOLOv5(spec)


def head(net: nn.Module) -> AnchorHead:
    """The head, from the network's own anchors (which training may change) and strides."""
    detect = cast(YOLOv5, net).detect
    pixels = detect.anchors.cpu() * detect.stride.view(-1, 1, 1)
    anchors = tuple(tuple((w, h) for w, h in level) for level in pixels.tolist())
    return AnchorHead(tuple(int(s) for s in detect.stride), anchors, detect.nc)
