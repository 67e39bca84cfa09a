"""Oscillating weights: counted, frozen, dampened."""

import numpy as np
import pytest
import torch
from torch import nn

from yoloq.quant.affine import weight_range
from yoloq.quant.modules import QuantConv2d
from yoloq.quant.quantizer import TensorQuantizer
from yoloq.quant.spec import WEIGHT, QuantSpec
from yoloq.train.qat.dampen import dampening, growth
from yoloq.train.qat.oscillation import Oscillations
from yoloq.train.qat.ranges import trainable_ranges

pytestmark = pytest.mark.usefixtures("one_thread")


def make_net(weights: list[float], spec: QuantSpec = WEIGHT) -> nn.Module:
    """One output channel; the last weight is the largest and gives the scale."""
    conv = nn.Conv2d(len(weights), 1, 1, bias=False)
    conv.weight.data.copy_(torch.tensor(weights).view(1, -1, 1, 1))
    quantizer = TensorQuantizer(spec)
    quantizer.set_range(*weight_range(conv.weight.detach(), spec))
    net = nn.Module()
    net.conv = QuantConv2d.of(conv, nn.Identity(), quantizer)
    trainable_ranges(net, "frozen")
    return net


def put(net: nn.Module, index: int, steps: float) -> None:
    """Set a weight in units of the scale, which is 1/127."""
    net.conv.weight.data.view(-1)[index] = steps / 127


def test_a_weight_that_jumps_to_and_fro_is_counted_and_frozen() -> None:
    net = make_net([3.4 / 127, 5.0 / 127, 1.0])
    watched = Oscillations(net, limit=0.035)
    for step in range(6):
        put(net, 0, 3.6 if step % 2 == 0 else 3.4)
        put(net, 1, 5.0 + step)  # moves always the same way
        watched.update()
    kept = watched.weights["conv"]
    # the first of six changes turns against nothing
    assert float(kept.frequency.view(-1)[0]) == pytest.approx(1 - 0.99**5)
    assert float(kept.frequency.view(-1)[1]) == 0
    assert kept.frozen.view(-1).tolist() == [True, False, False]
    put(net, 0, 90.0)
    watched.update()
    assert float(net.conv.weight.detach().view(-1)[0] * 127) == pytest.approx(3, abs=1e-4)
    assert watched.share() == {"oscillating": 1 / 3, "frozen": 1 / 3}


def test_without_a_limit_nothing_is_frozen() -> None:
    net = make_net([3.4 / 127, 1.0])
    watched = Oscillations(net, limit=0)
    for step in range(20):
        put(net, 0, 3.6 if step % 2 == 0 else 3.4)
        watched.update()
    assert watched.share() == {"oscillating": 0.5, "frozen": 0.0}


def test_counts_survive_an_interruption() -> None:
    net = make_net([3.4 / 127, 1.0])
    watched = Oscillations(net, limit=0.01)
    for step in range(4):
        put(net, 0, 3.6 if step % 2 == 0 else 3.4)
        watched.update()
    again = Oscillations(net, limit=0.01)
    again.load_state_dict(watched.state_dict())
    for one in (watched, again):
        put(net, 0, 90.0)
        one.update()
    ours, theirs = watched.state_dict()["conv"], again.state_dict()["conv"]
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert bool(ours["frozen"].view(-1)[0])


@pytest.mark.parametrize("spec", [WEIGHT, QuantSpec(bits=3, narrow=True)], ids=str)
def test_dampening_against_numpy(spec: QuantSpec) -> None:
    weights = np.array([0.013, -0.4, 0.25, 1.0])
    net = make_net(weights.tolist(), spec)
    value = dampening(net)
    value.backward()
    scale = 1 / spec.qmax
    distance = weights - np.rint(weights / scale) * scale
    assert value.item() == pytest.approx((distance**2).sum(), rel=1e-3)
    np.testing.assert_allclose(net.conv.weight.grad.view(-1), 2 * distance, atol=1e-6)


@pytest.mark.parametrize(("step", "share"), [(0, 0.0), (5, 0.5), (10, 1.0), (99, 1.0)])
def test_dampening_grows(step: int, share: float) -> None:
    assert growth(step, 10) == pytest.approx(share)
