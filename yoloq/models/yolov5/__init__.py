"""The family of classic YOLOv5 (v5.0 to v7.0): its network, its head, its pickled checkpoints."""

import copy
import math
from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn

from yoloq.base.errors import CheckpointError
from yoloq.models import pickled, tree
from yoloq.models.heads.anchor import AnchorHead
from yoloq.models.unpickle import Stub
from yoloq.models.yolov5.layout import v6_spec
from yoloq.models.yolov5.network import BLOCKS, YOLOv5

CLASSES = ("models.yolo.Model", "models.yolo.DetectionModel")
DETECT = "models.yolo.Detect"


def build(spec: Mapping[str, Any]) -> nn.Module:
    """The network of a spec: its described layers, or a model yaml with anchors in pixels."""
    return YOLOv5(spec)


def head(net: nn.Module) -> AnchorHead:
    """The head, from the network's own anchors (which training may change) and strides."""
    detect = cast(YOLOv5, net).detect
    pixels = detect.anchors.cpu() * torch.tensor(detect.stride).view(-1, 1, 1)
    anchors = tuple(tuple((w, h) for w, h in level) for level in pixels.tolist())
    return AnchorHead(detect.stride, anchors, detect.nc)


def spec(size: str, nc: int) -> dict[str, Any]:
    """The spec of YOLOv5 v6.0 to v7.0 of a size."""
    return v6_spec(size, nc)


def with_classes(spec: Mapping[str, Any], nc: int) -> dict[str, Any]:
    """The spec of a network for another number of classes."""
    changed = copy.deepcopy(dict(spec))
    detect = changed["layers"][-1]
    detect["attributes"]["nc"] = nc
    for conv in detect["children"]["m"]["children"].values():
        conv["attributes"]["out_channels"] = detect["buffers"]["anchors"][1] * (5 + nc)
    return changed


def read(model: Stub) -> dict[str, Any]:
    """The spec of a pickled model: what its layers say of themselves, not what its yaml says.

    Raises:
        CheckpointError: a layer is not supported.
    """
    *layers, last = pickled.layers(model, (DETECT,))
    layers.append(_detect(last, f"model.{len(layers)}"))
    return {
        "layers": [
            {"from": layer.state.get("f", -1), **tree.describe(layer, f"model.{index}", BLOCKS)}
            for index, layer in enumerate(layers)
        ]
    }


def tensors(found: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors that the network has: v5.0 keeps the anchors twice."""
    return {name: value for name, value in found.items() if not name.endswith(".anchor_grid")}


def _detect(layer: Stub, name: str) -> Stub:
    """The pickled head without what is computed from the rest, once it agrees with it.

    The class is that of YOLOv5: it decodes with `na`, `no`, `stride` and `anchors`.

    Raises:
        CheckpointError: the parts contradict each other, by the attribute's name.
    """
    state = layer.state
    missing = [part for part in ("nc", "stride") if part not in state]
    missing += [part for part in ("m",) if part not in state.get("_modules", {})]
    missing += [part for part in ("anchors",) if part not in state.get("_buffers", {})]
    if missing:
        raise CheckpointError(
            f"{name!r}, a Detect, has no {missing[0]!r}: a head of that form is not supported"
        )
    anchors, nc = state["_buffers"]["anchors"], pickled.whole(state, "nc")
    if not isinstance(anchors, Tensor) or anchors.ndim != 3:
        raise CheckpointError(f"{name!r}: its 'anchors' are no sizes of levels and anchors")
    stride = pickled.whole_strides(state["stride"])
    convolutions = pickled.children(state["_modules"]["m"], f"{name}.m")
    widths = {pickled.channels(conv, f"{name}.m.{i}") for i, conv in enumerate(convolutions)}
    levels, each = len(convolutions), anchors.shape[1]
    _check_task(state, each, nc, widths)
    for attribute, wanted, fits in (
        ("nl", levels, pickled.whole(state, "nl", levels) == levels),
        ("na", each, pickled.whole(state, "na", each) == each),
        ("no", nc + 5, pickled.whole(state, "no", nc + 5) == nc + 5),
        ("anchors", f"{levels} levels", len(anchors) == levels),
        ("stride", f"{levels} levels", len(stride) == levels),
        ("m", f"{each * (nc + 5)} channels", widths == {each * (nc + 5)}),
        ("anchor_grid", "anchors * stride", _same_anchors(state, anchors, stride)),
    ):
        if not fits:
            raise CheckpointError(
                f"{name!r}: its {attribute!r} is not {wanted}, as the rest of the head says: "
                "it comes from changed model code"
            )
    kept = type("Detect", (Stub,), {"path": layer.path})()
    kept.state = {
        "f": state.get("f", -1),
        "nc": nc,
        "stride": stride,
        "_buffers": {"anchors": anchors},
        "_modules": state["_modules"],
    }
    return kept


def _check_task(state: Mapping[str, Any], anchors: int, nc: int, widths: set[int]) -> None:
    """Raise where each box has more numbers than a place, a size, an objectness and its classes.

    Forks for key points, faces and oriented boxes keep the class `Detect` and widen it.
    """
    more = pickled.whole(state, "no", nc + 5) - (nc + 5)
    if more > 0 and widths == {anchors * (nc + 5 + more)}:
        raise CheckpointError(
            f"its head gives {more} numbers a box besides place, size, objectness and {nc} "
            "classes: a model for key points or oriented boxes; yoloq quantizes detection models"
        )


def _same_anchors(state: Mapping[str, Any], anchors: Tensor, stride: tuple[int, ...]) -> bool:
    """Whether v5.0's second anchors, in pixels, are the first; both may be rounded to 16 bits."""
    grid = state["_buffers"].get("anchor_grid")
    if grid is None:
        return True
    pixels = anchors.float() * torch.tensor(stride).view(-1, 1, 1)
    return torch.allclose(grid.float().view_as(pixels), pixels, rtol=2e-3)


OBJECTS = 8.0  # expected in an image of 640 x 640: YOLOv5's prior
SURE = 0.6  # share of the class probability


@torch.no_grad()
def prior(net: nn.Module) -> None:
    """Biases that predict the usual rarity of objects (arXiv 1708.02002, section 3.3)."""
    detect = cast(YOLOv5, net).detect
    for conv, stride in zip(detect.m, detect.stride, strict=True):
        bias = cast(Tensor, conv.bias).view(detect.na, -1)
        bias[:, 4] += math.log(OBJECTS / (640 / stride) ** 2)
        bias[:, 5:] += math.log(SURE / (detect.nc - 0.99999))
