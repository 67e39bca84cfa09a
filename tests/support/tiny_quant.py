"""Small networks with sensible activations, calibrated in a second."""

import copy
import functools
import itertools
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from yoloq.models import FAMILIES
from yoloq.models.family import get_family
from yoloq.models.load import LoadedModel, fused, new_model
from yoloq.models.ultralytics import package_spec
from yoloq.quant.calibrate import calibrate
from yoloq.quant.observer import Collected, collect
from yoloq.quant.policy import Policy, conv_layers, default_policy
from yoloq.quant.quantized import QuantizedModel, quantize_model
from yoloq.quant.trace import sibling_groups, trace

USUAL: dict[str, Any] = {"float_head": True, "float_first": 2}  # as `make ptq` places
NAMES = ("a", "b", "c")
SIZE = 64
NARROW = {  # an eighth of the published widths
    "yolov5": {"width_multiple": 0.125},
    "ultralytics": {"scales": {"n": [0.33, 0.125, 1024]}},
}
ACTIVATIONS = (  # that people put behind convolutions
    *("SiLU", "ReLU", "LeakyReLU", "ReLU6", "Hardswish", "Hardsigmoid", "Mish", "GELU", "ELU"),
    *("PReLU", "Identity"),
)
FOCUS_STEM = [[-1, 1, "Focus", [64, 3]], [-1, 1, "Conv", [128, 3, 2]], [-1, 1, "SPP", [1024]]]


def pictures(count: int, seed: int = 0) -> NDArray[np.uint8]:
    """uint8 (count, 64, 64, 3): noise over coarse blocks, up to 255 as in photographs.

    (Up to 254 the symmetric scale of an image is two steps, and every odd value a tie.)
    """
    random = np.random.default_rng(seed)
    blocks = random.integers(0, 200, (count, 8, 8, 3)).repeat(8, 1).repeat(8, 2)
    images = blocks + random.integers(0, 56, (count, SIZE, SIZE, 3))
    images[:, 0, 0] = 255
    return images.astype(np.uint8)


def as_input(images: NDArray[np.uint8]) -> Tensor:
    """What the network takes: floats in 0..1, channels first."""
    return torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255


def tiny_model(family: str = "yolov5", stem: str = "conv", act: str = "SiLU") -> LoadedModel:
    """A fused model of a family with random weights; `stem` "focus" is that of YOLOv5 v5.0.

    `family` may also be one of the ultralytics package's models, such as `yolo11n`, in full width.

    Its activations are small, where SiLU is nearly linear: deep random networks of other scales are
    chaotic, and then no two correct engines agree on one.
    """
    return copy.deepcopy(_model(family, stem, act))


@functools.cache
def _model(family: str, stem: str, act: str) -> LoadedModel:
    torch.manual_seed(0)
    spec: dict[str, Any]
    if family in FAMILIES:
        spec = get_family(family).spec("n", len(NAMES)) | NARROW[family]
    else:
        spec, family = package_spec(family, len(NAMES)), "ultralytics"
    if stem == "focus":
        first, second, pool = FOCUS_STEM
        spec["backbone"] = [first, second, *spec["backbone"][2:-1], pool]
    model = new_model(family, spec, NAMES)
    activate(model.net, act)
    norms = [module for module in model.net.modules() if isinstance(module, nn.BatchNorm2d)]
    hooks = [norm.register_forward_pre_hook(_scale_to_a_tenth) for norm in norms]
    with torch.no_grad():
        model.net(as_input(pictures(8, seed=1)))
        for module in model.net.get_submodule("model")[-1].modules():
            if isinstance(module, nn.Conv2d) and module.bias is not None:
                module.bias.zero_()  # it would drown the signal
    for hook in hooks:
        hook.remove()
    return fused(model)


def activate(net: nn.Module, activation: str) -> None:
    """Put torch's activation of a name in the place of every SiLU; `mixed`: one after another."""
    names = itertools.cycle(ACTIVATIONS if activation == "mixed" else [activation])
    for module in net.modules():
        for name, child in list(module.named_children()):
            if isinstance(child, nn.SiLU):
                setattr(module, name, getattr(nn, next(names))())


def _scale_to_a_tenth(norm: nn.BatchNorm2d, args: tuple[Tensor]) -> None:
    norm.running_var = args[0].square().mean((0, 2, 3)) * 100


@functools.cache
def statistics(family: str = "yolov5", stem: str = "conv", act: str = "SiLU") -> Collected:
    """Of `tiny_model` over eight pictures."""
    net = _model(family, stem, act).net
    return collect(net, sibling_groups(trace(net)), as_input(pictures(8)).split(4), images=8)


def tiny_quantized(
    family: str = "yolov5",
    stem: str = "conv",
    policy: Policy | None = None,
    calibrator: str = "max",
    act: str = "SiLU",
    **placement: Any,
) -> QuantizedModel:
    """A calibrated tiny model; `placement` goes to `default_policy`."""
    model = tiny_model(family, stem, act)
    policy = policy or default_policy(conv_layers(model.net), **USUAL | placement)
    quantized = quantize_model(model, policy)
    collected = statistics(family, stem, act)
    calibrate(model.net, quantized.placement, collected.inputs, calibrator)
    return replace(quantized, outputs=collected.outputs)


def signal_to_noise(reference: list[NDArray[Any]], other: list[NDArray[Any]]) -> float:
    """Decibels: 20 is a tenth of the signal's amplitude, 40 a hundredth."""
    signal = sum(float((a**2).sum()) for a in reference)
    noise = sum(float(((a - b) ** 2).sum()) for a, b in zip(reference, other, strict=True))
    return float(10 * np.log10(signal / max(noise, 1e-30)))
