"""Start values of a fresh detection head."""

import math
from typing import cast

import torch
from torch import Tensor

from yoloq.models.yolov5.blocks import Detect

OBJECTS = 8.0  # expected in an image of 640 x 640: YOLOv5's prior
SURE = 0.6  # share of the class probability


@torch.no_grad()
def set_prior(detect: Detect) -> None:
    """Biases that predict the usual rarity of objects (arXiv 1708.02002, section 3.3)."""
    for conv, stride in zip(detect.m, detect.stride.tolist(), strict=True):
        bias = cast(Tensor, conv.bias).view(detect.na, -1)
        bias[:, 4] += math.log(OBJECTS / (640 / stride) ** 2)
        bias[:, 5:] += math.log(SURE / (detect.nc - 0.99999))
