"""A shallow network with everything that has placement rules of its own, and policies for it."""

import sys
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from rounding import MANY
from tiny_quant import activate, as_input, pictures
from torch import Tensor, nn

from yoloq.graph.integer import Ranges
from yoloq.models.fuse import fuse_batch_norm
from yoloq.models.residuals import name_residuals
from yoloq.models.ultralytics.package import import_ultralytics
from yoloq.models.yolov5.blocks import C3, SPPF, Conv, Focus
from yoloq.quant.calibrate import calibrate
from yoloq.quant.observer import collect
from yoloq.quant.policy import Policy, Rule, apply, resolve
from yoloq.quant.spec import ACTIVATION, WEIGHT, PerGroup, PerTensor, QuantSpec
from yoloq.quant.trace import sibling_groups, trace

ALL = Rule("*", WEIGHT, ACTIVATION)
ASYMMETRIC = QuantSpec(symmetric=False)
PER_TENSOR = replace(WEIGHT, granularity=PerTensor())
PER_GROUP = replace(WEIGHT, granularity=PerGroup(3))
POLICIES = {
    "everything": Policy((ALL,)),
    "float stem and head": Policy((ALL, Rule("stem", None, None), Rule("head", None, None))),
    "asymmetric": Policy((Rule("*", WEIGHT, ASYMMETRIC),)),
    "asymmetric, residual both": Policy((Rule("*", WEIGHT, ASYMMETRIC),), residual="both"),
    "weights per tensor": Policy((Rule("*", PER_TENSOR, ACTIVATION),)),
    "weights per group": Policy((Rule("*", PER_GROUP, ACTIVATION),)),
    "4-bit weights": Policy((Rule("*", replace(WEIGHT, bits=4), ACTIVATION),)),
    "residual input": Policy((ALL,), residual="input"),
    "residual both": Policy((ALL,), residual="both"),
    "concat": Policy((ALL,), sharing="concat", residual="both"),
    "weights alone": Policy((Rule("*", WEIGHT, None),)),
    "inputs alone": Policy((Rule("*", None, ACTIVATION),), residual="both"),
    "siblings of two specs": Policy((ALL, Rule("*.cv2", WEIGHT, ASYMMETRIC)), residual="both"),
    "weight of one sibling alone": Policy((ALL, Rule("c3.cv2", WEIGHT, None))),
    "nothing": Policy((Rule("*", None, None),)),
}
SYMMETRIC = {
    name: policy
    for name, policy in POLICIES.items()
    if all(rule.activation != ASYMMETRIC for rule in policy.rules)
}


class Shallow(nn.Module):
    """Everything that has rules of its own, eight convolutions deep."""

    def __init__(self, stem: str) -> None:
        super().__init__()
        self.stem = Conv(3, 8, 6, 2, 2) if stem == "conv" else Focus(3, 8, 3)
        self.c3, self.pool, self.head = C3(8, 8), SPPF(8, 8), nn.Conv2d(8, 4, 1)
        name_residuals(self)

    def forward(self, x: Tensor) -> list[Tensor]:
        return [self.head(self.pool(self.c3(self.stem(x))))]


class Attentive(nn.Module):
    """Residual branches that begin with other names than a bottleneck's."""

    def __init__(self) -> None:
        super().__init__()
        import_ultralytics()
        blocks = sys.modules["ultralytics.nn.modules.block"]
        self.stem, self.head = Conv(3, 64, 6, 4, 2), nn.Conv2d(64, 4, 1)
        self.blocks = nn.Sequential(blocks.C2PSA(64, 64), blocks.CIB(64, 64))
        name_residuals(self.blocks)

    def forward(self, x: Tensor) -> list[Tensor]:
        return [self.head(self.blocks(self.stem(x)))]


def shallow(
    policy: Policy | None, stem: str = "conv", activation: str = "SiLU"
) -> tuple[nn.Module, Ranges]:
    """A float or calibrated network, and its output ranges."""
    torch.manual_seed(0)
    net = (Attentive() if stem == "attention" else Shallow(stem)).eval()
    activate(net, activation)
    fuse_batch_norm(net)
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.normal_(module.weight, std=1.5 / module.weight[0].numel() ** 0.5)
            nn.init.normal_(module.bias, std=0.1)
    ops = trace(net)
    images = as_input(pictures(4))
    seen = collect(net, sibling_groups(ops), [images], images=len(images))
    if policy:
        placement = resolve(policy, ops)
        apply(net, placement, policy.residual)
        calibrate(net, placement, seen.inputs, "max")
    return net, seen.outputs


def outputs(net: nn.Module) -> list[NDArray[np.float32]]:
    with torch.inference_mode():
        return [raw.numpy() for raw in net(as_input(MANY))]
