"""The package's Detect head without its inference: its convolutions, live and as pickled."""

from typing import Any

import torch
from torch import Tensor, nn

from yoloq.base.errors import CheckpointError
from yoloq.models import pickled
from yoloq.models.unpickle import Stub


class RawDetect(nn.Module):
    """The convolutions of the package's Detect head: box sides (`cv2`) and classes (`cv3`).

    `stride` holds the pixels a cell of each level.
    """

    cv2: nn.ModuleList
    cv3: nn.ModuleList
    nc: int
    reg_max: int
    stride: tuple[int, ...]

    def __init__(self, detect: Any) -> None:
        super().__init__()
        self.cv2, self.cv3 = detect.cv2, detect.cv3
        self.nc, self.reg_max = int(detect.nc), int(detect.reg_max)
        self.stride = tuple(int(s) for s in detect.stride)

    def forward(self, x: list[Tensor]) -> list[Tensor]:
        return [self.level(index, y) for index, y in enumerate(x)]

    def level(self, index: int, x: Tensor) -> Tensor:
        """The raw map of one of the maps that the head reads."""
        return torch.cat((self.cv2[index](x), self.cv3[index](x)), 1)


def raw_head(layer: Stub) -> Stub:
    """The pickled head reduced to what `RawDetect` holds, once its parts agree.

    Raises:
        CheckpointError: they contradict each other, or the one-to-many branch is gone.
    """
    state, parts = layer.state, layer.state.get("_modules", {})
    nc, reg_max = pickled.whole(state, "nc"), pickled.whole(state, "reg_max")
    boxes, classes = parts.get("cv2"), parts.get("cv3")
    if _is_lost(boxes) or _is_lost(classes):
        raise CheckpointError(
            "its head has lost the one-to-many branch (`cv2`, `cv3`), as `fuse` of an end-to-end "
            "model does; give the checkpoint as it was trained"
        )
    _check_widths("cv2", boxes, 4 * reg_max)
    _check_widths("cv3", classes, nc)
    dfl = pickled.tensors(layer).get("dfl.conv.weight")
    if dfl is not None and dfl.flatten().tolist() != list(range(reg_max)):
        raise CheckpointError("its head's `dfl` does not count bins; it comes from changed code")
    stride = pickled.whole_strides(state.get("stride"))
    for name, branches in (("cv2", boxes), ("cv3", classes)):
        if (levels := len(pickled.children(branches, name))) != len(stride):
            raise CheckpointError(
                f"its head has {len(stride)} strides and {levels} levels in {name}: it comes from "
                "changed model code"
            )
    raw = type("RawDetect", (Stub,), {"path": "ultralytics.nn.modules.head.RawDetect"})()
    raw.state = {
        "nc": nc,
        "reg_max": reg_max,
        "stride": stride,
    }
    raw.state["_modules"] = {"cv2": boxes, "cv3": classes}
    return raw


def _is_lost(branches: Stub | None) -> bool:
    """Whether a branch of the head was left out, or has identities in its place (8.3's v10)."""
    kept = () if branches is None else pickled.children(branches, "cv2 or cv3")
    return all(pickled.class_of(branch) == "Identity" for branch in kept)


def _check_widths(name: str, branches: Stub, width: int) -> None:
    for level, branch in enumerate(pickled.children(branches, name)):
        *_, last = [branch, *pickled.children(branch, f"{name}.{level}")]
        found = pickled.channels(last, f"{name}.{level}")
        if found != width:
            raise CheckpointError(
                f"its head's {name}.{level} has {found} channels where the rest of the head "
                f"says {width}: it comes from changed model code"
            )
