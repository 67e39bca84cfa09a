"""Quantization correction: what is trained, and that folding it changes no integer."""

import pytest
import torch
from tiny_quant import as_input, pictures, tiny_quantized
from torch import nn

from yoloq.quant.affine import quantize
from yoloq.quant.modules import QuantConv2d, quantizers
from yoloq.quant.quantizer import TensorQuantizer
from yoloq.quant.spec import WEIGHT, PerChannel, PerGroup, PerTensor, QuantSpec
from yoloq.train.qat.correction import (
    LEAST,
    CorrectedConv2d,
    corrections,
    folded,
    make_corrected,
)

pytestmark = pytest.mark.usefixtures("one_thread")

FOUR = QuantSpec(4, PerChannel(), narrow=True)
SPECS = {
    "channel": FOUR,
    "tensor": QuantSpec(8, PerTensor(), narrow=True),
    "group": QuantSpec(4, PerGroup(3), narrow=True),
}


def shaken(net: nn.Module) -> None:
    """Set corrections as a training might."""
    random = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in corrections(net):
            parameter.mul_(0.8 + 0.4 * torch.rand(parameter.shape, generator=random)).add_(0.01)


def float_inputs(net: nn.Module) -> None:
    """Switch off the quantizers of activations: a last bit would move a value by a whole step."""
    for name, quantizer in quantizers(net).items():
        quantizer.enabled = name.endswith("weight_quantizer")


def integers(net: nn.Module) -> dict[str, torch.Tensor]:
    """Of every quantized weight."""
    found = {}
    for name, conv in net.named_modules():
        if isinstance(conv, QuantConv2d) and isinstance(conv.weight_quantizer, TensorQuantizer):
            q = conv.weight_quantizer
            found[name] = quantize(conv.weight.detach(), q.scale, q.zero_point, q.spec)
    return found


@pytest.mark.parametrize("weights", SPECS)
def test_folded_it_computes_the_same_with_the_same_integers(weights: str) -> None:
    calibrated, x = tiny_quantized(weight=SPECS[weights]), as_input(pictures(2))
    float_inputs(calibrated.model.net)
    net = make_corrected(calibrated)
    float_inputs(net)
    with torch.no_grad():
        start = calibrated.model.net(x)
        for ours, theirs in zip(net(x), start, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)
        shaken(net)
        plain = folded(net, calibrated)
        for ours, theirs, before in zip(net(x), plain.model.net(x), start, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)
            assert (ours - before).abs().max() > 0.01, "the correction must do something"
    was, are = integers(calibrated.model.net), integers(plain.model.net)
    assert was.keys() == are.keys() and all(torch.equal(was[name], are[name]) for name in was)
    assert quantizers(plain.model.net).keys() == quantizers(calibrated.model.net).keys()
    assert plain.policy == calibrated.policy
    names = calibrated.model.net.state_dict().keys()
    assert plain.model.net.state_dict().keys() == names, "the form in which it is saved"


def by_hand(spec: QuantSpec, bias: bool = True) -> QuantConv2d:
    """Two channels of integers 127, -64 and 100, 127 at scales 0.01 and 0.02, or at 0.02."""
    conv = nn.Conv2d(2, 2, 1, bias=bias)
    scales = (0.01, 0.02) if spec.granularity == PerChannel() else (0.02, 0.02)
    rows = torch.tensor([[127.0, -64.0], [100.0, 127.0]]) * torch.tensor(scales)[:, None]
    conv.weight = nn.Parameter(rows.view(2, 2, 1, 1))
    quantizer = TensorQuantizer(spec)
    amax = 127 * torch.tensor(scales) if spec.granularity == PerChannel() else torch.tensor(2.54)
    quantizer.set_range(-amax, amax)
    return QuantConv2d.of(conv, nn.Identity(), quantizer)


def test_a_factor_multiplies_the_scale_and_leaves_the_bias() -> None:
    conv = CorrectedConv2d.around(by_hand(WEIGHT))
    with torch.no_grad():
        conv.factor.copy_(torch.tensor([2.0, 0.5]))
        conv.bias.copy_(torch.tensor([0.25, -1.0]))
        y = conv(torch.ones(1, 2, 1, 1)).flatten()
    # 2 * 0.01 * (127 - 64) + 0.25 and 0.5 * 0.02 * (100 + 127) - 1
    torch.testing.assert_close(y, torch.tensor([1.51, 1.27]))


@pytest.mark.parametrize(
    ("spec", "shape"),
    [
        pytest.param(WEIGHT, (2,), id="a scale a channel"),
        pytest.param(QuantSpec(narrow=True), (), id="one scale"),
        pytest.param(QuantSpec(granularity=PerGroup(4), narrow=True), (1,), id="a short group"),
    ],
)
def test_there_is_a_factor_for_each_scale(spec: QuantSpec, shape: tuple[int, ...]) -> None:
    conv = CorrectedConv2d.around(by_hand(WEIGHT))
    conv.weight_quantizer = TensorQuantizer(spec)
    assert CorrectedConv2d.around(conv).factor.shape == shape


def test_a_weight_in_float_has_a_factor_for_each_channel() -> None:
    conv = CorrectedConv2d.around(QuantConv2d.of(nn.Conv2d(3, 5, 1), nn.Identity(), nn.Identity()))
    assert conv.factor.shape == (5,)


def test_a_factor_driven_below_zero_turns_no_sign() -> None:
    conv = CorrectedConv2d.around(by_hand(WEIGHT, bias=False))
    with torch.no_grad():
        conv.factor.fill_(-3.0)
        y = conv(torch.ones(1, 2, 1, 1)).flatten()
    torch.testing.assert_close(y, LEAST * torch.tensor([0.63, 4.54]))
    assert conv.bias is None and len(corrections(conv)) == 1


def test_corrections_alone_are_trained() -> None:
    net = make_corrected(tiny_quantized())
    sum(raw.square().sum() for raw in net(as_input(pictures(2)))).backward()
    learned = {name for name, p in net.named_parameters() if p.grad is not None}
    assert learned == {name for name, p in net.named_parameters() if p.requires_grad}
    assert {name.rpartition(".")[2] for name in learned} == {"factor", "bias"}
    quantized = [name for name, m in net.named_modules() if isinstance(m, CorrectedConv2d)]
    assert len(learned) == 2 * len(quantized)


def test_chosen_layers_alone() -> None:
    net = make_corrected(tiny_quantized(), ("model.9",))
    names = {n for n, m in net.named_modules() if isinstance(m, CorrectedConv2d)}
    assert names == {"model.9.cv1.conv", "model.9.cv2.conv"}
