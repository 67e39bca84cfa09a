"""Checkpoints as YOLOv5 itself would pickle them: whole models of classes `models.yolo.Model`."""

import argparse
import copy
import sys
import types
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PosixPath
from typing import Any

import numpy as np
import torch
from torch import nn

from yoloq.models.residuals import Residual
from yoloq.models.yolov5.layout import v6_spec
from yoloq.models.yolov5.network import YOLOv5

CLASSES = {
    "models.common": [
        *("Conv", "DWConv", "Bottleneck", "C3", "SPP", "SPPF", "Focus", "Concat", "C3Ghost", "C3x"),
        *("GhostConv", "GhostBottleneck", "C3SPP", "C3TR", "TransformerBlock", "TransformerLayer"),
        "BottleneckCSP",
    ],
    "models.experimental": ["CrossConv", "MixConv2d", "Ensemble"],
    "models.yolo": [
        "Detect",
        "Segment",
        "Model",
        "DetectionModel",
        "SegmentationModel",
        "ClassificationModel",
    ],
}
V5_BACKBONE = [
    [-1, 1, "Focus", [64, 3]],
    [-1, 1, "Conv", [128, 3, 2]],
    [-1, 3, "C3", [128]],
    [-1, 1, "Conv", [256, 3, 2]],
    [-1, 9, "C3", [256]],
    [-1, 1, "Conv", [512, 3, 2]],
    [-1, 9, "C3", [512]],
    [-1, 1, "Conv", [1024, 3, 2]],
    [-1, 1, "SPP", [1024, [5, 9, 13]]],
    [-1, 3, "C3", [1024, False]],
]
P6_BACKBONE = [
    [-1, 1, "Conv", [64, 6, 2, 2]],
    [-1, 1, "Conv", [128, 3, 2]],
    [-1, 3, "C3", [128]],
    [-1, 1, "Conv", [256, 3, 2]],
    [-1, 6, "C3", [256]],
    [-1, 1, "Conv", [512, 3, 2]],
    [-1, 9, "C3", [512]],
    [-1, 1, "Conv", [768, 3, 2]],
    [-1, 3, "C3", [768]],
    [-1, 1, "Conv", [1024, 3, 2]],
    [-1, 3, "C3", [1024]],
    [-1, 1, "SPPF", [1024, 5]],
]
P6_HEAD = [
    [-1, 1, "Conv", [768, 1, 1]],
    [-1, 1, "nn.Upsample", ["None", 2, "nearest"]],
    [[-1, 8], 1, "Concat", [1]],
    [-1, 3, "C3", [768, False]],
    [-1, 1, "Conv", [512, 1, 1]],
    [-1, 1, "nn.Upsample", ["None", 2, "nearest"]],
    [[-1, 6], 1, "Concat", [1]],
    [-1, 3, "C3", [512, False]],
    [-1, 1, "Conv", [256, 1, 1]],
    [-1, 1, "nn.Upsample", ["None", 2, "nearest"]],
    [[-1, 4], 1, "Concat", [1]],
    [-1, 3, "C3", [256, False]],
    [-1, 1, "Conv", [256, 3, 2]],
    [[-1, 20], 1, "Concat", [1]],
    [-1, 3, "C3", [512, False]],
    [-1, 1, "Conv", [512, 3, 2]],
    [[-1, 16], 1, "Concat", [1]],
    [-1, 3, "C3", [768, False]],
    [-1, 1, "Conv", [768, 3, 2]],
    [[-1, 12], 1, "Concat", [1]],
    [-1, 3, "C3", [1024, False]],
    [[23, 26, 29, 32], 1, "Detect", ["nc", "anchors"]],
]
P6_ANCHORS = [
    [19, 27, 44, 40, 38, 94],
    [96, 68, 86, 152, 180, 137],
    [140, 301, 303, 264, 238, 542],
    [436, 615, 739, 380, 925, 792],
]


def tiny(nc: int) -> dict[str, Any]:
    """The published layout at an eighth of its width."""
    return {**v6_spec("n", nc), "width_multiple": 0.125}


def random_net(spec: dict[str, Any], seed: int = 0) -> YOLOv5:
    """A classic network with random weights and random batch norm statistics, in eval mode."""
    torch.manual_seed(seed)
    net = YOLOv5(spec)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
    return net.eval()


@contextmanager
def original_classes(prefix: str = "") -> Iterator[dict[str, type[nn.Module]]]:
    """Classes that pickle under the names of YOLOv5's, importable while the block runs.

    `prefix` goes before the modules' names: `yolov5.` is that of the pip package.
    """
    made: dict[str, type[nn.Module]] = {}
    homes = [f"{prefix}{name}" for name in ("models", *CLASSES)]
    modules = {name: types.ModuleType(name) for name in [*filter(None, [prefix[:-1]]), *homes]}
    for module, names in CLASSES.items():
        for name in names:
            made[name] = type(name, (nn.Module,), {"__module__": f"{prefix}{module}"})
            setattr(modules[f"{prefix}{module}"], name, made[name])
    saved = {name: sys.modules.get(name) for name in modules}
    sys.modules.update(modules)
    try:
        yield made
    finally:
        for name, module in saved.items():
            sys.modules.pop(name)
            if module is not None:
                sys.modules[name] = module


def as_yolov5(
    net: YOLOv5, classes: dict[str, type[nn.Module]], kind: str = "DetectionModel"
) -> Any:
    """A twin of `net` of classes of `original_classes`, with what YOLOv5 keeps on a model."""
    model = classes[kind]()
    model.model = disguise(copy.deepcopy(net.model), classes)
    number_layers(model.model, net.sources)
    model.yaml = {"nc": net.detect.nc, "ch": 3}
    model.names = [f"n{i}" for i in range(net.detect.nc)]
    model.hyp = {"lr0": np.float64(0.01), "anchors": np.ones(3, np.float32)}
    model.save_dir = PosixPath("runs/train")
    model.stride = torch.tensor(net.detect.stride)
    return model


def save_as_yolov5(
    file: Path,
    net: YOLOv5,
    *,
    kind: str = "DetectionModel",
    detect: str = "Detect",
    names: Any = None,
    half: bool = True,
    keys: tuple[str, ...] = ("model",),
    anchor_grid: bool = False,
    attributes: dict[str, Any] | None = None,
    content: dict[str, Any] | None = None,
    **options: Any,
) -> None:
    """Write `net` as YOLOv5's training would; `options` go to `torch.save`.

    `attributes` are set on the model, `content` replaces entries of the checkpoint.
    """
    with original_classes() as classes:
        model = as_yolov5(net, {**classes, "Detect": classes[detect]}, kind)
        if anchor_grid:
            head = model.model[-1]
            pixels = head.anchors * head.stride.view(-1, 1, 1)
            head.register_buffer("anchor_grid", pixels.view(head.nl, 1, -1, 1, 1, 2))
        model.names = model.names if names is None else names
        model.__dict__.update(attributes or {})
        model = model.half() if half else model
        whole = {
            "epoch": -1,
            "best_fitness": np.array([0.5]),
            "fitness": np.float32(0.25),
            "opt": argparse.Namespace(imgsz=416, project=PosixPath("runs")),
            "optimizer": None,
            "model": None,
            "ema": None,
            **dict.fromkeys(keys, model),
            **(content or {}),
        }
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the legacy format asks for the classes' source
            torch.save(whole, file, **options)


def disguise(module: nn.Module, classes: dict[str, type[nn.Module]]) -> nn.Module:
    """A twin in which the layers of yoloq are of the classes given; torch's layers stay."""
    name = type(module).__name__
    if isinstance(module, Residual):
        name = "GhostBottleneck" if "conv" in module.branch else "Bottleneck"
    twin = nn.Module.__new__(classes.get(name, type(module)))
    twin.__dict__.update(module.__dict__)
    twin._parameters, twin._buffers = dict(module._parameters), dict(module._buffers)
    children = {k: v for k, v in module._modules.items() if k != "add"}
    twin._modules = {k: v and disguise(v, classes) for k, v in children.items()}
    if isinstance(module, Residual):
        del twin.branch
        if name == "GhostBottleneck":
            twin.shortcut = nn.Identity()
        else:
            twin.add = True
    if name == "Detect":
        twin.na, twin.nl, twin.no = module.na, len(module.m), module.nc + 5
        twin.stride = torch.tensor(module.stride).float()
    return twin


def number_layers(layers: nn.Module, sources: list[Any]) -> None:
    """Give each layer its place and what it reads, as YOLOv5's parser does."""
    for index, (layer, source) in enumerate(zip(layers.children(), sources, strict=True)):
        layer.i, layer.f = index, source
