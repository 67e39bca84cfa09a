"""Detection models of the ultralytics package: YOLOv5u, v8, 11, 26 and others with its Detect head.

The package builds the network from its own yaml; this file keeps the layers and drops the
package's inference code, so that `forward` gives the raw head in training and evaluation alike. Of
a head with two branches (v10, 26) the one-to-many branch stays, which wants NMS as all others do.
"""

import contextlib
import copy
import importlib
import json
import os
import re
import sys
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn

from yoloq.base.errors import CheckpointError
from yoloq.models import checkpoint
from yoloq.models.activations import activation
from yoloq.models.heads.dfl import DflHead
from yoloq.models.layered import LayeredNet
from yoloq.models.ultralytics.residuals import name_residuals
from yoloq.models.unpickle import Stub

CLASSES = (
    "ultralytics.nn.tasks.DetectionModel",
    "ultralytics.nn.tasks.YOLOv10DetectionModel",
)
# The package looks layer names up among all its globals and evaluates the activation's text, so a
# yaml out of a file is checked against these before the package sees it.
LAYERS = frozenset(
    [
        *("Conv", "DWConv", "GhostConv", "Focus", "Bottleneck", "GhostBottleneck", "BottleneckCSP"),
        *("C1", "C2", "C2f", "C3", "C3x", "C3Ghost", "C3k2", "C2fCIB", "RepC3", "A2C2f"),
        *("SPP", "SPPF", "SPPELAN", "ELAN1", "RepNCSPELAN4", "ADown", "AConv", "SCDown"),
        *("PSA", "C2PSA", "C2fPSA", "CBLinear", "CBFuse", "Concat", "Detect", "v10Detect"),
        *("nn.Upsample", "nn.Identity", "nn.MaxPool2d", "nn.ZeroPad2d"),
    ]
)
# What the package's modules hold and the raw head does not use.
UNUSED = re.compile(r"model\.\d+\.(dfl|one2one_cv[23])\.")


class RawDetect(nn.Module):
    """The convolutions of the package's Detect head: box sides (`cv2`) and classes (`cv3`)."""

    def __init__(self, detect: Any) -> None:
        super().__init__()
        self.cv2, self.cv3 = detect.cv2, detect.cv3
        self.nc, self.reg_max = int(detect.nc), int(detect.reg_max)
        self.stride = detect.stride.clone()

    def forward(self, x: list[Tensor]) -> list[Tensor]:
        return [self.level(index, y) for index, y in enumerate(x)]

    def level(self, index: int, x: Tensor) -> Tensor:
        """The raw map of one of the maps that the head reads."""
        return torch.cat((self.cv2[index](x), self.cv3[index](x)), 1)


class UltralyticsNet(LayeredNet):
    """A network of the package, ending at the raw head: maps (N, 4 * reg_max + nc, H, W)."""

    @property
    def detect(self) -> RawDetect:
        return cast(RawDetect, self.model[-1])


def build(spec: Mapping[str, Any]) -> nn.Module:
    """The network of a spec: a model yaml of the package, with `nc` and `scale`.

    Raises:
        CheckpointError: the yaml asks for a layer or activation that a detection model has not.
    """
    _check(spec)
    tasks = import_ultralytics()
    package = tasks.DetectionModel(copy.deepcopy(dict(spec)), ch=3, nc=spec["nc"], verbose=False)
    layers = package.model
    sources = [layer.f for layer in layers]
    layers[-1] = RawDetect(layers[-1])
    name_residuals(layers)
    return UltralyticsNet(layers, sources)


def head(net: nn.Module) -> DflHead:
    """The head of a network of this family."""
    detect = cast(UltralyticsNet, net).detect
    return DflHead(tuple(int(s) for s in detect.stride), detect.nc, detect.reg_max)


def read(model: Stub) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The spec and the tensors of a pickled model.

    Raises:
        CheckpointError: it takes images of other than three channels.
    """
    spec = json.loads(json.dumps(model.state["yaml"]))
    channels = spec.get("channels", spec.get("ch", 3))
    if channels != 3:
        raise CheckpointError(f"takes images of {channels} channels; yoloq handles 3 (RGB)")
    tensors = checkpoint.tensors(model)
    return spec, {name: value for name, value in tensors.items() if not UNUSED.match(name)}


def spec(size: str, nc: int) -> dict[str, Any]:
    """The spec of YOLOv5u of a size."""
    return package_spec(f"yolov5{size}", nc)


def prior(net: nn.Module) -> None:
    """Nothing: the package's networks set their own start values."""


def package_spec(name: str, nc: int) -> dict[str, Any]:
    """The spec of one of the package's own models, such as `yolov5n` (YOLOv5u-n) or `yolo11s`."""
    return {**import_ultralytics().yaml_model_load(f"{name}.yaml"), "nc": nc}


def _check(spec: Mapping[str, Any]) -> None:
    """Raise unless a yaml names only layers and an activation of detection models."""
    for _, _, name, _ in [*spec["backbone"], *spec["head"]]:
        if name not in LAYERS:
            raise CheckpointError(f"layer {name!r} of the model yaml is not one that yoloq knows")
    if spec["head"][-1][2] not in ("Detect", "v10Detect"):
        raise CheckpointError("the model yaml does not end in a Detect head")
    if spec.get("activation"):
        activation(spec["activation"])


def import_ultralytics() -> Any:
    """The package's module `ultralytics.nn.tasks`, imported without its side effects.

    The import writes settings to the user's configuration folder, may look up hosts, replaces
    `torch.save` and changes environment variables, warnings, print options and OpenCV's threads;
    here it writes to a temporary folder, and the rest is put back.
    """
    if "ultralytics.nn.tasks" not in sys.modules:
        with _contained():
            importlib.import_module("ultralytics.nn.tasks")
    return sys.modules["ultralytics.nn.tasks"]


@contextlib.contextmanager
def _contained() -> Iterator[None]:
    """Give the package a temporary folder and put process-wide settings back at the end."""
    import cv2
    import numpy as np

    environment, threads = dict(os.environ), cv2.getNumThreads()
    patched = [(torch, "save"), (cv2, "imread"), (cv2, "imwrite"), (cv2, "imshow")]
    originals = [getattr(module, name) for module, name in patched]
    with (
        tempfile.TemporaryDirectory(prefix="yoloq-") as folder,
        np.printoptions(),
        warnings.catch_warnings(),
    ):
        os.environ.update(
            YOLO_OFFLINE="1",
            YOLO_AUTOINSTALL="false",
            YOLO_VERBOSE="false",
            YOLO_CONFIG_DIR=folder,
            MPLCONFIGDIR=folder,
        )
        try:
            yield
        finally:
            os.environ.clear()
            os.environ.update(environment)
            cv2.setNumThreads(threads)
            torch.set_printoptions(profile="default")
            for (module, name), original in zip(patched, originals, strict=True):
                setattr(module, name, original)
