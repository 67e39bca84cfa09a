"""The pixel contract in its two forms: floats in 0..1, and pixels behind weights that divide."""

import numpy as np
import torch
from torch import nn

from yoloq.models.to_input import pixels_first, scaled, take_pixels, to_input

IMAGES = np.random.default_rng(0).integers(0, 256, (2, 5, 7, 3), np.uint8)


def test_pixels_become_floats_with_channels_first() -> None:
    found = to_input(IMAGES)
    assert found.dtype == torch.float32 and found.shape == (2, 3, 5, 7)
    np.testing.assert_array_equal(found.numpy(), IMAGES.transpose(0, 3, 1, 2) / np.float32(255))
    assert torch.equal(found, scaled(torch.from_numpy(IMAGES.transpose(0, 3, 1, 2).copy()), "cpu"))


def test_both_forms_are_one_convolution() -> None:
    conv = nn.Conv2d(3, 4, 3)
    with torch.no_grad():
        wanted = conv(to_input(IMAGES))
        take_pixels(conv)
        found = conv(pixels_first(torch.from_numpy(IMAGES)))
    torch.testing.assert_close(found, wanted)
