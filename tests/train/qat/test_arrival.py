"""Layers that join by and by: when each is on, and what shared quantizers do."""

import pytest
import torch
from tiny_quant import as_input, pictures, tiny_quantized
from torch import nn

from yoloq.quant.modules import QuantAdd, QuantConv2d, quantizers
from yoloq.train.qat.arrival import Arrivals
from yoloq.train.qat.student import make_student

pytestmark = pytest.mark.usefixtures("one_thread")

THREE = [("model.3.conv",), ("model.5.conv",), ("model.7.conv",)]


def on(net: nn.Module, name: str) -> list[bool]:
    conv = net.get_submodule(name)
    assert isinstance(conv, QuantConv2d)
    return [side.enabled for side in (conv.input_quantizer, conv.weight_quantizer)]


@pytest.mark.parametrize(
    ("step", "third", "fifth", "seventh"),
    [
        pytest.param(0, True, False, False, id="the first at once"),
        pytest.param(3, True, False, False, id="a step before the second"),
        pytest.param(4, True, True, False, id="a third of two thirds of 18"),
        pytest.param(7, True, True, False, id="a step before the last"),
        pytest.param(8, True, True, True, id="all"),
        pytest.param(17, True, True, True, id="the last step"),
    ],
)
def test_groups_join_at_even_distances(step: int, third: bool, fifth: bool, seventh: bool) -> None:
    net = make_student(tiny_quantized(), "frozen")
    Arrivals(net, THREE, steps=18).at(step)
    found = [on(net, name) for (name,) in THREE]
    assert found == [[third] * 2, [fifth] * 2, [seventh] * 2]
    assert on(net, "model.9.cv1.conv") == [True, True], "of no group"


@pytest.mark.parametrize("steps", [1, 2, 20, 1000])
def test_all_are_on_in_the_last_third(steps: int) -> None:
    net = make_student(tiny_quantized(), "frozen")
    names = [n for n, m in net.named_modules() if isinstance(m, QuantConv2d)]
    arrivals = Arrivals(net, [(name,) for name in names], steps)
    arrivals.at(-(-2 * steps // 3))
    assert arrivals.share() == 1.0
    arrivals.at(0)
    assert arrivals.share() < 0.1


def test_a_shared_quantizer_is_on_with_the_first_that_reads_it() -> None:
    net = make_student(tiny_quantized(residual="both"), "frozen")
    cv1, cv2 = "model.4.cv1.conv", "model.4.cv2.conv"  # read one tensor
    Arrivals(net, [(cv1,), (cv2,)], steps=30).at(0)
    assert on(net, cv1) == [True, True] and on(net, cv2) == [True, False]
    inner = "model.4.m.0.cv1.conv"
    Arrivals(net, [("model.3.conv",), (inner,)], steps=30).at(0)
    (add,) = (m for n, m in net.named_modules() if isinstance(m, QuantAdd) and "model.4.m.0" in n)
    assert not add.residual_quantizer.enabled and on(net, inner) == [False, False]


def test_no_groups_leave_all_on() -> None:
    net = make_student(tiny_quantized(), "frozen")
    arrivals = Arrivals(net, (), steps=10)
    arrivals.at(0)
    assert arrivals.share() == 1.0 and all(q.enabled for q in quantizers(net).values())


@pytest.mark.parametrize("ranges", ["frozen", "learned", "ema"])
def test_what_has_not_joined_computes_in_float_and_trains(ranges) -> None:
    calibrated, x = tiny_quantized(), as_input(pictures(2))
    net = make_student(calibrated, ranges)
    names = [n for n, m in net.named_modules() if isinstance(m, QuantConv2d)]
    Arrivals(net, [(), *[(name,) for name in names]], steps=300).at(0)
    plain = calibrated.model.net
    for quantizer in quantizers(plain).values():
        quantizer.enabled = False
    raws = net(x)
    for ours, wanted in zip(raws, plain(x), strict=True):
        torch.testing.assert_close(ours, wanted, rtol=1e-5, atol=1e-6)
    sum(raw.square().sum() for raw in raws).backward()
    assert net.get_submodule("model.3.conv").weight.grad.abs().sum() > 0
