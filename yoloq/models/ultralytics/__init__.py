"""Detection models of the ultralytics package: YOLOv5u, v8, 11, 26 and others with its Detect head.

The package's layers are kept and its inference code is dropped, so that `forward` gives the raw
head in training and evaluation alike. Of a head with two branches (v10, 26) the one-to-many branch
stays, which wants NMS as all others do.
"""

import contextlib
import copy
import importlib
import os
import sys
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn

from yoloq.base.errors import CheckpointError
from yoloq.models import pickled, tree
from yoloq.models.activations import activation
from yoloq.models.heads.dfl import DflHead
from yoloq.models.layered import LayeredNet
from yoloq.models.residuals import name_residuals
from yoloq.models.ultralytics.raw_detect import RawDetect, raw_head
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
        *("C1", "C2", "C2f", "C3", "C3x", "C3Ghost", "C3TR", "C3k2", "C2fCIB", "RepC3", "A2C2f"),
        *("SPP", "SPPF", "SPPELAN", "ELAN1", "RepNCSPELAN4", "ADown", "AConv", "SCDown"),
        *("PSA", "C2PSA", "C2fPSA", "CBLinear", "CBFuse", "Concat", "Detect", "v10Detect"),
        *("nn.Upsample", "nn.Identity", "nn.MaxPool2d", "nn.ZeroPad2d"),
    ]
)
# What those are made of.
PARTS = frozenset(
    [
        *("LightConv", "ConvTranspose", "RepConv", "C3k", "C3f", "RepBottleneck"),
        *("RepCSP", "RepVGGDW", "CIB", "Attention", "PSABlock", "AAttn", "ABlock"),
        *("TransformerLayer", "TransformerBlock"),
    ]
)
HEADS = ("Detect", "v10Detect")


class UltralyticsNet(LayeredNet):
    """A network of the package, ending at the raw head: maps (N, 4 * reg_max + nc, H, W).

    Args:
        spec: `layers`: a `tree.Node` each with `from`, the layers that it reads; the last one a
            RawDetect. Or a model yaml of the package, with `nc` and `scale`.
    """

    def __init__(self, spec: Mapping[str, Any]) -> None:
        if "layers" in spec:
            self_spec, layers = dict(spec), _described_layers(spec)
        else:
            layers, sources = _package_layers(spec)
            self_spec = {"layers": describe_layers(layers, sources)}
        super().__init__(nn.Sequential(*layers), [node["from"] for node in self_spec["layers"]])
        self.spec = self_spec
        name_residuals(self.model)

    @property
    def detect(self) -> RawDetect:
        return cast(RawDetect, self.model[-1])


def build(spec: Mapping[str, Any]) -> nn.Module:
    """The network of a spec: its described layers, or a model yaml with `nc` and `scale`.

    Raises:
        CheckpointError: it asks for a layer or activation that a detection model has not.
    """
    return UltralyticsNet(spec)


def head(net: nn.Module) -> DflHead:
    """The head of a network of this family."""
    detect = cast(UltralyticsNet, net).detect
    return DflHead(detect.stride, detect.nc, detect.reg_max)


def read(model: Stub) -> dict[str, Any]:
    """The spec of a pickled model: what its layers say of themselves, not what its yaml says.

    Raises:
        CheckpointError: a layer is not supported.
    """
    layers = pickled.children(model.state.get("_modules", {}).get("model"), "model")
    if layers[-1].path.rpartition(".")[2] not in HEADS:
        raise CheckpointError(f"ends in a {layers[-1].path}; yoloq knows {', '.join(HEADS)}")
    sources = [layer.state.get("f", -1) for layer in layers]
    return {"layers": describe_layers([*layers[:-1], raw_head(layers[-1])], sources)}


def tensors(found: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors that the network has: a head's other branch and its bins are left out."""
    unused = (".dfl.", ".one2one_cv2.", ".one2one_cv3.")
    return {
        name: value
        for name, value in found.items()
        if not any(part in f".{name.split('.', 2)[-1]}" for part in unused)
    }


def spec(size: str, nc: int) -> dict[str, Any]:
    """The spec of YOLOv5u of a size."""
    return package_spec(f"yolov5{size}", nc)


def with_classes(spec: Mapping[str, Any], nc: int) -> dict[str, Any]:
    """The spec of a network for another number of classes."""
    changed = copy.deepcopy(dict(spec))
    detect = changed["layers"][-1]
    detect["attributes"]["nc"] = nc
    for branch in detect["children"]["cv3"]["children"].values():
        *_, last = branch["children"].values()
        last["attributes"]["out_channels"] = nc
    return changed


def prior(net: nn.Module) -> None:
    """Nothing: the package's networks set their own start values."""


def package_spec(name: str, nc: int) -> dict[str, Any]:
    """The spec of one of the package's own models, such as `yolov5n` (YOLOv5u-n) or `yolo11s`."""
    return {**import_ultralytics().yaml_model_load(f"{name}.yaml"), "nc": nc}


def describe_layers(layers: list[Any], sources: list[Any]) -> list[tree.Node]:
    """The data of layers, pickled or live, the last of which is a raw head."""
    blocks = _blocks()
    nodes = (tree.describe(layer, f"model.{i}", blocks) for i, layer in enumerate(layers))
    return [{"from": s, **node} for s, node in zip(sources, nodes, strict=True)]


def _described_layers(spec: Mapping[str, Any]) -> list[nn.Module]:
    blocks = _blocks()
    return [tree.build(node, blocks, f"model.{i}") for i, node in enumerate(spec["layers"])]


def _blocks() -> dict[str, type[nn.Module]]:
    """The package's classes by name."""
    import_ultralytics()
    package = importlib.import_module("ultralytics.nn.modules")
    homes = [getattr(package, name) for name in ("block", "conv", "transformer")]
    found = {
        name: getattr(home, name)
        for home in homes
        for name in (LAYERS | PARTS) - set(HEADS)
        if hasattr(home, name)
    }
    return {**found, "RawDetect": RawDetect}


def _package_layers(spec: Mapping[str, Any]) -> tuple[list[nn.Module], list[Any]]:
    """The layers that the package makes of a yaml, and what each reads."""
    _check(spec)
    tasks = import_ultralytics()
    package = tasks.DetectionModel(copy.deepcopy(dict(spec)), ch=3, nc=spec["nc"], verbose=False)
    layers = list(package.model)
    return [*layers[:-1], RawDetect(layers[-1])], [layer.f for layer in layers]


def _check(spec: Mapping[str, Any]) -> None:
    """Raise unless a yaml names only layers and an activation of detection models."""
    for _, _, name, _ in [*spec["backbone"], *spec["head"]]:
        if name not in LAYERS:
            raise CheckpointError(f"layer {name!r} of the model yaml is not one that yoloq knows")
    if spec["head"][-1][2] not in HEADS:
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
