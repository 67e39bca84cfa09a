"""Ranges of activations that follow the image, simulated: to see when they would pay.

A calibrated range is the same for every image. Here each image has its own, found while the network
runs, or one of a few that were calibrated for kinds of image. Of the engines here only ONNX Runtime
has the former for convolutions (`graph/dynamic.py`), and none the latter: it costs a pass over each
tensor, or a scale that is no constant.
"""

import contextlib
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor, nn

from yoloq.quant.affine import fake_quantize, scale_and_zero_point
from yoloq.quant.modules import quantizers
from yoloq.quant.policy import Placement
from yoloq.quant.quantizer import TensorQuantizer
from yoloq.quant.spec import QuantSpec

SAMPLE = 2**14  # values of an image that a percentile is taken of
SIDES = ("input_quantizer", "residual_quantizer")

Maker = Callable[[str, TensorQuantizer], nn.Module]


class DynamicQuantizer(nn.Module):
    """Fake-quantizes each image of a batch (N, ...) to its own range.

    Args:
        clipped: part of an image's values that may lie outside; 0: the range is that of its
            extremes.
    """

    def __init__(self, spec: QuantSpec, clipped: float = 0.0) -> None:
        super().__init__()
        self.spec, self.clipped = spec, clipped

    def forward(self, x: Tensor) -> Tensor:
        low, high = self.ranges(x.flatten(1))
        return fake_quantize(x, *scale_and_zero_point(low, high, self.spec), self.spec)

    def ranges(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Low and high (N,) of images (N, values)."""
        if not self.clipped:
            return rows.amin(1), rows.amax(1)
        sample = rows[:, :: -(-rows.shape[1] // SAMPLE)].float()
        if self.spec.symmetric:
            amax = sample.abs().quantile(1 - self.clipped, 1)
            return -amax, amax
        ends = torch.tensor([self.clipped / 2, 1 - self.clipped / 2]).to(sample)
        low, high = sample.quantile(ends, 1)
        return low, high


class Scenes:
    """Tells kinds of image apart by brightness, contrast and sharpness.

    Args:
        examples: images (N, 3, H, W) of each kind.
    """

    def __init__(self, examples: Sequence[Tensor]) -> None:
        looks = [look(images) for images in examples]
        self.centres = torch.stack([each.mean(0) for each in looks])
        self.spread = torch.cat(looks).std(0).clamp(min=1e-6)
        self.kinds = torch.zeros(0, dtype=torch.long)

    def of(self, images: Tensor) -> Tensor:
        """The kind (N,) that each of images (N, 3, H, W) is next to."""
        apart = (look(images)[:, None] - self.centres) / self.spread
        return apart.square().sum(2).argmin(1)

    @contextlib.contextmanager
    def watching(self, net: nn.Module) -> Iterator[None]:
        """Keep the kinds of the images that a network runs on in `kinds` until the block ends."""

        def watch(_: nn.Module, args: tuple[Tensor, ...]) -> None:
            self.kinds = self.of(args[0])

        handle = net.register_forward_pre_hook(watch)
        try:
            yield
        finally:
            handle.remove()


def look(images: Tensor) -> Tensor:
    """Brightness, contrast and sharpness (N, 3) of images (N, 3, H, W)."""
    grey = images.mean(1)
    edges = grey.diff(dim=2).abs().mean((1, 2))
    return torch.stack((grey.mean((1, 2)), grey.std((1, 2)), edges), 1)


class SceneQuantizer(nn.Module):
    """Fake-quantizes each image of a batch to the range of its kind.

    Args:
        ranges: (kinds, 2), low and high.
        scenes: which the network runs under.
    """

    def __init__(self, spec: QuantSpec, ranges: Tensor, scenes: Scenes) -> None:
        super().__init__()
        self.spec, self.scenes = spec, scenes
        low, high = ranges.unbind(1)
        self.scale, self.zero_point = scale_and_zero_point(low, high, spec)

    def forward(self, x: Tensor) -> Tensor:
        kinds = self.scenes.kinds
        return fake_quantize(x, self.scale[kinds], self.zero_point[kinds], self.spec)


@contextlib.contextmanager
def adaptive(net: nn.Module, placement: Placement, make: Maker) -> Iterator[None]:
    """Put other quantizers in the place of those of activations until the block ends.

    That of the image stays: it is eight bits whatever its range.

    Args:
        make: from a quantizer, and its name as `modules.quantizers` has it, to what stands for it;
            called once for each.
    """
    image = f"{placement.image_reader}.{SIDES[0]}"
    made = {
        quantizer: make(name, quantizer)
        for name, quantizer in quantizers(net).items()
        if name.endswith(SIDES[0]) and name != image
    }
    places = [
        (module, side, before)
        for module in net.modules()
        for side in SIDES
        if (before := getattr(module, side, None)) in made
    ]
    try:
        for module, side, before in places:
            setattr(module, side, made[before])
        yield
    finally:
        for module, side, before in places:
            setattr(module, side, before)
