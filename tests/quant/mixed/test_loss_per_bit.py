"""What a layer loses at a width, computed by hand."""

import math

import pytest
import torch
from torch import Tensor, nn

from yoloq.models.heads.anchor import AnchorHead
from yoloq.quant.mixed.loss_per_bit import losses
from yoloq.quant.modules import QuantConv2d

pytestmark = pytest.mark.usefixtures("one_thread")

HEAD = AnchorHead((8,), (((16.0, 32.0),),), 1)
DELTA = 0.1


class OneLevel(nn.Module):
    """Objectness is 2 x - 1 and the class's logit 3, behind an activation that works in place."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.act = nn.Conv2d(1, 6, 1), nn.Hardtanh(-100, 100, inplace=True)
        self.conv.weight.data = torch.tensor([0.0, 0.0, 0.0, 0.0, 2.0, 0.0]).view(6, 1, 1, 1)
        self.conv.bias.data = torch.tensor([0.0, 0.0, 0.0, 0.0, -1.0, 3.0])

    def forward(self, x: Tensor) -> list[Tensor]:
        return [self.act(self.conv(x))]


def off(net: OneLevel, channel: int, by: float) -> QuantConv2d:
    """The convolution with a weight that rounding moved."""
    conv = nn.Conv2d(1, 6, 1)
    conv.weight.data, conv.bias.data = net.conv.weight.data.clone(), net.conv.bias.data
    conv.weight.data[channel] += by
    return QuantConv2d.of(conv, nn.Identity(), nn.Identity())


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


SLOPE = sigmoid(1.0) * (1 - sigmoid(1.0)) * sigmoid(3.0)  # of the score by the objectness at x = 1


def test_an_error_counts_by_how_far_it_moves_the_score_where_a_box_is_found() -> None:
    """One box, at x = 1; the error is 0.1 x, and of 4 at x = -40 it moves nothing."""
    net = OneLevel()
    image = torch.tensor([[[[1.0, -40.0]]]])
    widths = {"4x8": off(net, 4, DELTA), "8x8": off(net, 4, DELTA / 10)}
    found = losses(net, HEAD, {"conv": widths}, [image])["conv"]
    assert found["fisher"]["4x8"] == pytest.approx((DELTA * SLOPE) ** 2, rel=1e-4)
    assert found["fisher"]["8x8"] == pytest.approx((DELTA * SLOPE / 10) ** 2, rel=1e-3)
    signal = 1.0 + 81.0**2 + 2 * 9.0  # objectness 1 and -81, twice the class's 3
    assert found["snr"]["4x8"] == pytest.approx(DELTA**2 * (1 + 1600) / signal, rel=1e-4)


def test_losses_are_of_an_image() -> None:
    net, image = OneLevel(), torch.ones(1, 1, 1, 1)
    widths = {"conv": {"4x8": off(net, 4, DELTA)}}
    one = losses(net, HEAD, widths, [image])["conv"]
    three = losses(net, HEAD, widths, [image.repeat(2, 1, 1, 1), image])["conv"]
    assert three["fisher"]["4x8"] == pytest.approx(one["fisher"]["4x8"])
    assert three["snr"]["4x8"] == pytest.approx(one["snr"]["4x8"])


def test_without_a_box_there_is_still_noise() -> None:
    net = OneLevel()
    found = losses(net, HEAD, {"conv": {"4x8": off(net, 4, DELTA)}}, [-torch.ones(1, 1, 1, 1)])
    assert found["conv"]["fisher"]["4x8"] == 0
    assert found["conv"]["snr"]["4x8"] == pytest.approx(DELTA**2 / 18, rel=1e-4)  # -3 and 3


def test_the_network_is_as_before() -> None:
    net = OneLevel()
    net.conv.bias.requires_grad_(False)
    losses(net, HEAD, {"conv": {"4x8": off(net, 4, DELTA)}}, [torch.ones(1, 1, 1, 1)])
    assert net.conv.weight.requires_grad and not net.conv.bias.requires_grad
    assert net.conv.weight.grad is None and not net.conv._forward_hooks
