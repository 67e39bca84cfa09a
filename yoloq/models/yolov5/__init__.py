"""The family of classic YOLOv5 (v5.0 to v7.0): its network, its head, its pickled checkpoints."""

import json
import math
from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn

from yoloq.base.errors import CheckpointError
from yoloq.models import checkpoint
from yoloq.models.activations import ACTIVATIONS
from yoloq.models.heads.anchor import AnchorHead
from yoloq.models.unpickle import Stub
from yoloq.models.yolov5.network import YOLOv5, v6_spec

CLASSES = ("models.yolo.Model", "models.yolo.DetectionModel")


def build(spec: Mapping[str, Any]) -> nn.Module:
    """The network of a spec: a model yaml with `nc` and with anchors in pixels."""
    return YOLOv5(spec)


def head(net: nn.Module) -> AnchorHead:
    """The head, from the network's own anchors (which training may change) and strides."""
    detect = cast(YOLOv5, net).detect
    pixels = detect.anchors.cpu() * detect.stride.view(-1, 1, 1)
    anchors = tuple(tuple((w, h) for w, h in level) for level in pixels.tolist())
    return AnchorHead(tuple(int(s) for s in detect.stride), anchors, detect.nc)


def spec(size: str, nc: int) -> dict[str, Any]:
    """The spec of YOLOv5 v6.0 to v7.0 of a size."""
    return v6_spec(size, nc)


def read(model: Stub) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The spec and the tensors of a pickled model.

    The pickled yaml gives the layout; classes, anchors, activation and epsilon are the model's own,
    because training may have changed them since the yaml.

    Raises:
        CheckpointError: the model has another head, activation or number of input channels.
    """
    yaml = model.state["yaml"]
    if yaml.get("ch", 3) != 3:
        raise CheckpointError(f"takes images of {yaml['ch']} channels; yoloq handles 3 (RGB)")
    parts = dict(checkpoint.modules(model))
    detect = next((part for part in parts.values() if part.path == "models.yolo.Detect"), None)
    if detect is None:
        raise CheckpointError("has no models.yolo.Detect head; yoloq quantizes detection models")
    anchors = detect.state["_buffers"]["anchors"].double()
    pixels = anchors * detect.state["stride"].double().view(-1, 1, 1)
    spec = {
        "nc": int(detect.state["nc"]),
        **{key: yaml[key] for key in ("depth_multiple", "width_multiple", "backbone", "head")},
        "anchors": pixels.flatten(1).tolist(),
        "activation": _activation(parts),
        "bn_eps": next((p.state["eps"] for p in parts.values() if "eps" in p.state), 1e-3),
    }
    tensors = checkpoint.tensors(model)
    # v5.0 keeps the anchors twice; the second is (anchors * stride) in another shape.
    kept = {name: value for name, value in tensors.items() if not name.endswith(".anchor_grid")}
    return json.loads(json.dumps(spec)), kept


def _activation(parts: Mapping[str, Stub]) -> str:
    """The activation of the first convolution, as a yaml writes it."""
    act = next(part for name, part in parts.items() if name.endswith(".act"))
    name = checkpoint.class_of(act)
    if name not in ACTIVATIONS:
        raise CheckpointError(
            f"has activation {act.path}, which yoloq does not know: {', '.join(ACTIVATIONS)}"
        )
    return f"nn.{name}({act.state.get('negative_slope', '')})"


OBJECTS = 8.0  # expected in an image of 640 x 640: YOLOv5's prior
SURE = 0.6  # share of the class probability


@torch.no_grad()
def prior(net: nn.Module) -> None:
    """Biases that predict the usual rarity of objects (arXiv 1708.02002, section 3.3)."""
    detect = cast(YOLOv5, net).detect
    for conv, stride in zip(detect.m, detect.stride.tolist(), strict=True):
        bias = cast(Tensor, conv.bias).view(detect.na, -1)
        bias[:, 4] += math.log(OBJECTS / (640 / stride) ** 2)
        bias[:, 5:] += math.log(SURE / (detect.nc - 0.99999))
