"""The pixel contract: uint8 RGB images, what a network makes of them, in torch and in ONNX.

An engine takes uint8 (N, H, W, 3) RGB; a network takes (N, 3, H, W) floats in 0..1. An exported
graph has the division in its first weights, so that pixels stay whole numbers.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

WHITE = 255  # the largest pixel, 1.0 to a network


def to_input(images: NDArray[np.uint8], device: torch.device | str = "cpu") -> Tensor:
    """uint8 (N, H, W, 3) RGB -> floats (N, 3, H, W) in 0..1 on a device."""
    return scaled(torch.from_numpy(images).permute(0, 3, 1, 2), device)


def scaled(images: Tensor, device: torch.device | str) -> Tensor:
    """uint8 (N, 3, H, W) -> floats in 0..1 on a device."""
    return images.to(device).float() / WHITE


@torch.no_grad()
def take_pixels(first: nn.Conv2d) -> None:
    """Let a first convolution read pixels 0..255 in the place of 0..1, in place."""
    first.weight /= WHITE


def pixels_first(images: Tensor) -> Tensor:
    """uint8 (N, H, W, 3) -> floats (N, 3, H, W) in 0..255, behind which is `take_pixels`."""
    return images.float().permute(0, 3, 1, 2)  # TensorRT's parser has uint8 read by a Cast alone
