"""Convolutions of a quantized network run in float for a while."""

import pytest
import torch
from tiny_quant import as_input, pictures, tiny_model, tiny_quantized

from yoloq.models import FAMILIES
from yoloq.quant.switch import in_float

pytestmark = pytest.mark.usefixtures("one_thread")

IMAGES = as_input(pictures(2, seed=5))


def maps(net: torch.nn.Module) -> torch.Tensor:
    with torch.inference_mode():
        return torch.cat([raw.flatten() for raw in net(IMAGES)])


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("residual", ["none", "both"])
def test_with_every_layer_in_float_it_is_the_float_network(family: str, residual: str) -> None:
    quantized = tiny_quantized(family, residual=residual)
    net, placement = quantized.model.net, quantized.placement
    before = maps(net)
    with in_float(net, placement, placement.layers):
        assert torch.equal(maps(net), maps(tiny_model(family).net))
    assert torch.equal(maps(net), before)


def test_a_layer_of_a_shared_scale_is_switched_alone() -> None:
    quantized = tiny_quantized()
    net, placement = quantized.model.net, quantized.placement
    first, second = (net.get_submodule(f"model.2.cv{i}.conv") for i in (1, 2))
    assert first.input_quantizer is second.input_quantizer
    with in_float(net, placement, ["model.2.cv1.conv"]):
        assert type(net.get_submodule("model.2.cv1.conv")) is torch.nn.Conv2d
        assert net.get_submodule("model.2.cv2.conv") is second and second.both_quantized
        switched = maps(net)
    assert not torch.equal(switched, maps(net))


def test_it_equals_a_policy_that_keeps_the_layers_in_float() -> None:
    quantized = tiny_quantized(residual="input")
    other = tiny_quantized(residual="input", keep_float=["model.4.m.0.cv1", "model.9"])
    chosen = [name for name in quantized.placement.layers if name.startswith("model.9.")]
    chosen.append("model.4.m.0.cv1.conv")
    net = quantized.model.net
    with in_float(net, quantized.placement, chosen):
        found = maps(net)
    assert torch.equal(found, maps(other.model.net))


def test_an_exception_restores() -> None:
    quantized = tiny_quantized()
    net, placement = quantized.model.net, quantized.placement
    before = maps(net)
    with pytest.raises(ZeroDivisionError), in_float(net, placement, placement.layers):
        raise ZeroDivisionError
    assert torch.equal(maps(net), before)


def test_repaired_weights_give_way_to_those_of_the_float_network() -> None:
    quantized = tiny_quantized()
    net, placement = quantized.model.net, quantized.placement
    net.get_submodule("model.3.conv").weight.data.mul_(1.5)
    reference = tiny_model().net
    with in_float(net, placement, placement.layers, reference):
        assert torch.equal(maps(net), maps(reference))
    with in_float(net, placement, placement.layers):
        assert not torch.equal(maps(net), maps(reference))
