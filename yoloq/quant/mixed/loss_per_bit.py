"""What each layer loses at each width, from one pass over images.

A layer alone at a width changes its output by an error e; the network's boxes and scores then move
by J e, with J their derivative by that output. `fisher` is the square of that: with signs v drawn
at random for each of them, one backward pass gives g = J'v, and the mean of (g e)^2 is |J e|^2
(Hutchinson, 1990). `snr` is the power of e over that of the output itself, which asks for no boxes.
Errors of different layers are nearly independent, so that both add up.
"""

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from yoloq.models.heads import Head
from yoloq.quant.influence import at_rest, found, signed
from yoloq.quant.modules import QuantConv2d

Losses = dict[str, dict[str, float]]  # of a layer: by sensitivity and width


@dataclass
class _Sums:
    """Adds up what one layer loses.

    Args:
        conv: of the float network.
        quantized: the same at each width, by the width's name.
    """

    conv: nn.Conv2d
    quantized: Mapping[str, QuantConv2d]
    signal: float = 0.0
    noise: dict[str, float] = field(default_factory=dict)
    moved: dict[str, float] = field(default_factory=dict)

    def add(self, x: Tensor, gradient: Tensor) -> None:
        """Add what it reads and the gradient of what it gives, (N, C, H, W)."""
        with torch.no_grad():
            y = self.conv._conv_forward(x, self.conv.weight, self.conv.bias)
            self.signal += _power(y)
            for width, quantized in self.quantized.items():
                error = quantized(x) - y
                moved = (gradient * error).flatten(1).sum(1)
                self.noise[width] = self.noise.get(width, 0.0) + _power(error)
                self.moved[width] = self.moved.get(width, 0.0) + _power(moved)

    def losses(self, images: int) -> Losses:
        """By sensitivity and width."""
        signal = self.signal or 1.0
        return {
            "fisher": {width: moved / images for width, moved in self.moved.items()},
            "snr": {width: noise / signal for width, noise in self.noise.items()},
        }


def _power(x: Tensor) -> float:
    return float(x.double().square().sum())


def losses(
    net: nn.Module,
    head: Head,
    quantized: Mapping[str, Mapping[str, QuantConv2d]],
    batches: Iterable[Tensor],
    seed: int = 0,
) -> dict[str, Losses]:
    """What each layer loses at each width, the others in float.

    Args:
        net: the float network, in eval mode.
        head: of its raw maps.
        quantized: of each layer, its calibrated counterparts by width.
        batches: (N, 3, H, W) floats as the network takes them.
        seed: of the signs.
    """
    sums = {}
    for name, widths in quantized.items():
        conv = net.get_submodule(name)
        assert isinstance(conv, nn.Conv2d)
        sums[name] = _Sums(conv, widths)
    random, images = torch.Generator().manual_seed(seed), 0
    with _watched(sums), at_rest(net), torch.inference_mode(False), torch.enable_grad():
        for batch in batches:
            raws = net(batch.clone().requires_grad_())
            # with no box there is a gradient still, of 0: each layer is reached
            nothing = 0 * torch.stack([raw.sum() for raw in raws]).sum()
            (signed(found(head, raws), random) + nothing).backward()
            images += len(batch)
    return {name: each.losses(max(images, 1)) for name, each in sums.items()}


@contextlib.contextmanager
def _watched(sums: Mapping[str, _Sums]) -> Iterator[None]:
    """Let each layer's sums see what it reads, and the gradient of what it gives."""

    def watch(to: _Sums) -> "torch.utils.hooks.RemovableHandle":
        def hook(module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None:
            x = args[0].detach()
            output.register_hook(lambda gradient: to.add(x, gradient.detach()))

        return to.conv.register_forward_hook(hook)

    handles = [watch(to) for to in sums.values()]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
