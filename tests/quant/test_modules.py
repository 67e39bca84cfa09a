"""Quantized convolutions and additions against plain torch."""

import contextlib

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from yoloq.models.residuals import Add
from yoloq.quant.affine import fake_quantize, weight_range
from yoloq.quant.modules import QuantAdd, QuantConv2d, quantizers, switched
from yoloq.quant.quantizer import TensorQuantizer
from yoloq.quant.spec import WEIGHT, QuantSpec


def activation_quantizer(amax: float = 2.0) -> TensorQuantizer:
    quantizer = TensorQuantizer(QuantSpec())
    quantizer.set_range(torch.tensor(-amax), torch.tensor(amax))
    return quantizer


def weight_quantizer(conv: nn.Conv2d) -> TensorQuantizer:
    quantizer = TensorQuantizer(WEIGHT)
    quantizer.set_range(*weight_range(conv.weight.detach(), WEIGHT))
    return quantizer


@pytest.fixture
def conv() -> nn.Conv2d:
    torch.manual_seed(0)
    return nn.Conv2d(4, 6, 3, stride=2, padding=1, dilation=1, groups=2)


@pytest.fixture
def x() -> torch.Tensor:
    return torch.randn(2, 4, 9, 9, generator=torch.Generator().manual_seed(1))


def test_quantized_convolution(conv: nn.Conv2d, x: torch.Tensor) -> None:
    quantized = QuantConv2d.of(conv, activation_quantizer(), weight_quantizer(conv))
    scale = conv.weight.detach().abs().amax((1, 2, 3)) / 127
    zero_points = torch.zeros(6, dtype=torch.int32)
    weight = fake_quantize(conv.weight.detach(), scale, zero_points, WEIGHT)
    step = 2 / 127
    inputs = (x / step).round().clamp(-128, 127) * step
    wanted = F.conv2d(inputs, weight, conv.bias, stride=2, padding=1, groups=2)
    torch.testing.assert_close(quantized(x), wanted)


def test_switched_off_it_is_bit_identical_to_float(conv: nn.Conv2d, x: torch.Tensor) -> None:
    quantized = QuantConv2d.of(conv, activation_quantizer(), weight_quantizer(conv))
    with switched(quantizers(quantized).values(), enabled=False):
        assert torch.equal(quantized(x), conv(x))
    assert not torch.equal(quantized(x), conv(x))


def test_parameters_are_shared_and_named_as_before(conv: nn.Conv2d) -> None:
    quantized = QuantConv2d.of(conv, activation_quantizer(), weight_quantizer(conv))
    assert quantized.weight is conv.weight
    assert quantized.state_dict().keys() == conv.state_dict().keys()
    plain = quantized.float_conv()
    assert type(plain) is nn.Conv2d
    assert plain.weight is conv.weight
    assert repr(plain) == repr(conv)


def test_weight_gets_a_gradient_through_its_quantizer(conv: nn.Conv2d, x: torch.Tensor) -> None:
    quantized = QuantConv2d.of(conv, activation_quantizer(), weight_quantizer(conv))
    quantized(x).sum().backward()
    assert conv.weight.grad is not None and bool(conv.weight.grad.any())


@pytest.mark.parametrize("mode", ["reflect", "replicate", "circular"])
def test_padding_of_other_modes_is_of_quantized_values(mode: str, x: torch.Tensor) -> None:
    conv = nn.Conv2d(4, 6, 3, padding=1, padding_mode=mode)
    quantized = QuantConv2d.of(conv, activation_quantizer(), nn.Identity())
    step = 2 / 127
    inputs = (x / step).round().clamp(-128, 127) * step
    padded = F.pad(inputs, (1, 1, 1, 1), mode)
    torch.testing.assert_close(quantized(x), F.conv2d(padded, conv.weight, conv.bias))


@pytest.mark.parametrize(
    ("sides", "enabled", "want"),
    [
        pytest.param("aw", True, True, id="both"),
        pytest.param("aw", False, False, id="both, switched off"),
        pytest.param("a", True, False, id="input alone"),
        pytest.param("w", True, False, id="weight alone"),
    ],
)
def test_both_quantized(conv: nn.Conv2d, sides: str, enabled: bool, want: bool) -> None:
    activation = activation_quantizer() if "a" in sides else nn.Identity()
    weight = weight_quantizer(conv) if "w" in sides else nn.Identity()
    quantized = QuantConv2d.of(conv, activation, weight)
    for quantizer in quantizers(quantized).values():
        quantizer.enabled = enabled
    assert quantized.both_quantized is want


@pytest.mark.parametrize(
    ("both", "want"),
    [pytest.param(False, 2.0 + 9.9, id="residual"), pytest.param(True, 2.0 + 2.0, id="both")],
)
def test_quantized_addition(both: bool, want: float) -> None:
    add = QuantAdd(activation_quantizer(2.0), both, "cv1.conv")
    assert float(add(torch.tensor(9.0), torch.tensor(9.9))) == pytest.approx(want)
    assert type(add.float_add()) is Add
    assert float(add.float_add()(torch.tensor(1.0), torch.tensor(2.0))) == 3.0


def test_shared_quantizer_is_listed_once(conv: nn.Conv2d) -> None:
    shared = activation_quantizer()
    pair = nn.Sequential(
        QuantConv2d.of(conv, shared, nn.Identity()),
        QuantConv2d.of(nn.Conv2d(6, 1, 1), shared, nn.Identity()),
    )
    assert quantizers(pair) == {"0.input_quantizer": shared}


def test_switched_restores_each_state_after_an_exception() -> None:
    chosen = [activation_quantizer() for _ in range(3)]
    chosen[1].enabled = False
    with contextlib.suppress(KeyError), switched(chosen, enabled=False):
        assert [quantizer.enabled for quantizer in chosen] == [False] * 3
        raise KeyError
    assert [quantizer.enabled for quantizer in chosen] == [True, False, True]
