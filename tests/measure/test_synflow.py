"""Synaptic flow: every layer of a chain carries the whole of it."""

import math

import pytest
import torch
from torch import nn

from yoloq.measure.synflow import synflow

pytestmark = pytest.mark.usefixtures("one_thread")


class Chain(nn.Module):
    """Convolutions of 1 x 1 without biases."""

    def __init__(self, *weights: list[list[float]], act: nn.Module | None = None) -> None:
        super().__init__()
        self.layers = nn.ModuleList()
        for rows in weights:
            conv = nn.Conv2d(len(rows[0]), len(rows), 1, bias=False)
            conv.weight.data = torch.tensor(rows)[..., None, None]
            self.layers.append(conv)
        self.act = act or nn.Identity()

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        for layer in self.layers:
            x = self.act(layer(x))
        return [x]


FIRST, SECOND = [[1.0, -2.0, 0.5], [0.0, 3.0, -1.0]], [[-1.0, 2.0]]


@pytest.mark.parametrize("act", [nn.Identity(), nn.ReLU()], ids=["linear", "relu"])
def test_of_two_layers_it_is_twice_the_output(act: nn.Module) -> None:
    net = Chain(FIRST, SECOND, act=act)
    output = 64 * 64 * (1 * (1 + 2 + 0.5) + 2 * (0 + 3 + 1))  # absolute weights, an image of ones
    assert synflow(net) == pytest.approx(math.log(2 * output))
    assert net.layers[0].weight.flatten().tolist() == [1.0, -2.0, 0.5, 0.0, 3.0, -1.0]


def test_a_wider_network_has_more() -> None:
    wide = Chain([row * 1 for row in FIRST] * 2, [SECOND[0] * 2])
    assert synflow(wide) > synflow(Chain(FIRST, SECOND))
