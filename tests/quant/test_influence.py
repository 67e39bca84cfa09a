"""How much values of a tensor move the boxes that are found."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from yoloq.models.heads.anchor import AnchorHead
from yoloq.models.heads.dfl import DflHead
from yoloq.quant.influence import found, influence

pytestmark = pytest.mark.usefixtures("one_thread")

HEAD = AnchorHead((8,), (((16.0, 32.0),),), 1)


class OneLevel(nn.Module):
    """Raw maps of one level, from one convolution."""

    def __init__(self, weights: list[float], biases: list[float]) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, len(weights), 1)
        self.conv.weight.data = torch.tensor(weights).view(-1, 1, 1, 1)
        self.conv.bias.data = torch.tensor(biases)

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        return [self.conv(x)]


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def test_a_value_counts_by_the_squared_gradient_of_the_score_where_a_box_is_found() -> None:
    """Objectness is 2 x - 1 and the class's logit 3: a box at x = 1, none at -4 and -0.5."""
    net = OneLevel([0.0, 0.0, 0.0, 0.0, 2.0, 0.0], [0.0, 0.0, 0.0, 0.0, -1.0, 3.0])
    image = torch.tensor([[[[1.0, -4.0, 1.0, -0.5]]]])
    counts = influence(net, HEAD, {"conv": (-4.0, 1.0)}, [image], bins=10)["conv"]
    slope = 2 * sigmoid(1.0) * (1 - sigmoid(1.0)) * sigmoid(3.0)
    assert np.flatnonzero(counts).tolist() == [9]
    assert counts[9] == pytest.approx(2 * slope**2, rel=1e-5)


def test_a_box_counts_by_its_own_size() -> None:
    """The width is (2 sigmoid(x))^2 anchors: a corner moves by half of that, seen from the box."""
    net = OneLevel([0.0, 0.0, 1.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0, 9.0, 9.0])
    counts = influence(net, HEAD, {"conv": (0.0, 1.0)}, [torch.zeros(1, 1, 1, 1)], bins=4)["conv"]
    # width' / width = 2 (1 - sigmoid(0)) = 1: either corner moves by half a width, with a sign
    assert counts[0] in (pytest.approx(0.0, abs=1e-9), pytest.approx(1.0, rel=1e-5))


def test_nothing_counts_where_no_box_is_found() -> None:
    net = OneLevel([0.0] * 4 + [1.0, 1.0], [0.0] * 4 + [-9.0, -9.0])
    counts = influence(net, HEAD, {"conv": (0.0, 1.0)}, [torch.ones(1, 1, 2, 2)], bins=4)["conv"]
    assert not counts.any()


def test_parameters_want_what_they_wanted_before_and_have_no_gradient() -> None:
    net = OneLevel([1.0] * 6, [1.0] * 6)
    net.conv.bias.requires_grad_(False)
    influence(net, HEAD, {"conv": (0.0, 1.0)}, [torch.ones(1, 1, 2, 2)], bins=4)
    assert net.conv.weight.requires_grad and not net.conv.bias.requires_grad
    assert net.conv.weight.grad is None


def test_boxes_of_a_head_with_distributions() -> None:
    """Sides of 1 cell each, at the single cell whose second class scores."""
    head = DflHead((8,), 2, 4)
    raw = torch.full((1, 4 * 4 + 2, 1, 2), -9.0)
    raw[:, 1:16:4] = 9.0  # bin 1 of each side
    raw[0, 17, 0, 1] = 9.0
    values = found(head, [raw])
    assert values.shape == (1, 5)
    np.testing.assert_allclose(values[0], [-0.5, -0.5, 0.5, 0.5, 1.0], atol=1e-3)


def test_of_a_large_map_the_places_with_most_of_it_count(monkeypatch: pytest.MonkeyPatch) -> None:
    net = OneLevel([0.0, 0.0, 0.0, 0.0, 2.0, 0.0], [0.0, 0.0, 0.0, 0.0, -1.0, 3.0])
    image = torch.linspace(0.8, 1.2, 16).view(1, 1, 4, 4)  # the gradient falls as scores rise
    edges = {"conv": (0.8, 1.2)}
    every = influence(net, HEAD, edges, [image], bins=16)["conv"]
    assert (every > 0).all()
    monkeypatch.setattr("yoloq.quant.influence.COUNTED", 3)
    assert np.flatnonzero(influence(net, HEAD, edges, [image], bins=16)["conv"]).tolist() == [
        0,
        1,
        2,
    ]
    monkeypatch.setattr("yoloq.quant.influence.SHARE", 0.5)
    half = influence(net, HEAD, edges, [image], bins=16)["conv"]
    np.testing.assert_array_equal(half, np.where(np.arange(16) < 8, every, 0))
