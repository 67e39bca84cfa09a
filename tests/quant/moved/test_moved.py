"""Scales moved between layers: the same function, equal ranges, nothing where it is not exact."""

import copy

import numpy as np
import pytest
import torch
from tiny_quant import as_input, pictures, tiny_model
from torch import Tensor, nn

from yoloq.base.errors import CheckpointError, PolicyError
from yoloq.models.layered import LayeredNet
from yoloq.models.load import LoadedModel
from yoloq.quant.moved import MOVES, moves_of
from yoloq.quant.moved.channels import channels_of
from yoloq.quant.moved.float_twin import as_moved, check_movable, moved
from yoloq.quant.observer import collect
from yoloq.quant.policy import conv_layers, default_policy
from yoloq.quant.ptq import calibrate_model
from yoloq.quant.spec import ACTIVATION, WEIGHT
from yoloq.quant.trace import sibling_groups, trace

pytestmark = pytest.mark.usefixtures("one_thread")

IMAGES = as_input(pictures(8)).split(4)


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


class Level(nn.Module):
    """A head of one map."""

    stride = (1,)

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.m = nn.Conv2d(channels, 4, 1)

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        return [self.m(maps[0])]


def chain(*layers: nn.Module, head: int = 8) -> LoadedModel:
    """Layers in a row and a head of 1 x 1, with random weights; no channel is always negative."""
    for layer in layers:
        if isinstance(layer, nn.Conv2d):
            nn.init.uniform_(layer.bias, 0.1, 0.5)
    blocks = nn.Sequential(*layers, Level(head))
    sources = [*([-1] * len(layers)), [-1]]
    return LoadedModel(LayeredNet(blocks, sources).eval(), None, (), "yolov5", {}, fused=True)


def plain(act: nn.Module | None = None) -> LoadedModel:
    act = act or nn.ReLU()
    return chain(nn.Conv2d(3, 6, 3, 2, 1), act, nn.Conv2d(6, 8, 3, padding=1), act)


def made(model: LoadedModel, *names: str) -> LoadedModel:
    """The model with its scales moved."""
    ops = trace(model.net)
    return as_moved(model, moved(model, names, IMAGES, ops), ops)


def outputs(model: LoadedModel) -> list[Tensor]:
    with torch.inference_mode():
        return [raw for x in IMAGES for raw in model.net(x)]


def close(ours: list[Tensor], theirs: list[Tensor]) -> bool:
    """Within 1e-5 of the largest number of each map."""
    pairs = zip(ours, theirs, strict=True)
    return all(float((a - b).abs().max()) <= 1e-5 * float(b.abs().max()) for a, b in pairs)


def uneven(model: LoadedModel) -> LoadedModel:
    """The same function with channels whose sizes are thousands of times apart."""
    own = copy.deepcopy(model)
    factors = torch.logspace(-1.5, 1.5, 6)
    own.net.model[0].weight.data.mul_(factors.view(-1, 1, 1, 1))
    own.net.model[0].bias.data.mul_(factors)
    own.net.model[2].weight.data.div_(factors.view(1, -1, 1, 1))
    return own


ACTS = {
    "relu": nn.ReLU(),
    "in place": nn.ReLU(inplace=True),
    "leaky": nn.LeakyReLU(0.1),
    "prelu": nn.PReLU(6),
    "none": nn.Identity(),
}


@pytest.mark.parametrize("name", MOVES)
@pytest.mark.parametrize("act", ACTS.values(), ids=ACTS)
def test_the_function_stays_and_the_weights_do_not(name: str, act: nn.Module) -> None:
    model = uneven(chain(nn.Conv2d(3, 6, 3, 2, 1), act, nn.Conv2d(6, 8, 3), nn.ReLU()))
    other = made(model, name)
    assert close(outputs(other), outputs(model))
    weights = [each.net.model[0].weight for each in (model, other)]
    assert not torch.allclose(*weights, rtol=0.1)


@pytest.mark.parametrize("names", [("equalize",), ("smooth",), ("equalize", "smooth")], ids=str)
@pytest.mark.parametrize("act", ["ReLU", "LeakyReLU", "Identity"])
def test_a_detector_with_residuals_and_concats_is_the_same_function(act: str, names: tuple) -> None:
    """In float64, as sixty layers make more of float32's rounding than 1e-5."""
    model = tiny_model(act=act)
    ops = trace(model.net)
    channels = channels_of(model.net, ops)
    assert len(channels.movable) == len(channels.made) - 3  # all but the head's three
    factors = moved(model, names, IMAGES, ops)
    model.net.double()
    ours, theirs = as_moved(model, factors, ops).net, model.net
    with torch.inference_mode():
        x = IMAGES[0].double()
        for own, other in zip(ours(x), theirs(x), strict=True):
            torch.testing.assert_close(own, other, rtol=1e-9, atol=1e-12)


def test_what_makes_a_channel_and_what_reads_it_get_one_size() -> None:
    other = made(uneven(plain()), "equalize")
    convs = (other.net.model[0], other.net.model[2], other.net.model[4].m)
    first, second, last = (conv.weight.detach().abs().numpy() for conv in convs)
    np.testing.assert_allclose(first.max((1, 2, 3)), second.max((0, 2, 3)), rtol=0.02)
    np.testing.assert_allclose(second.max((1, 2, 3)), last.max((0, 2, 3)), rtol=0.02)


def test_channels_are_smoothed_until_weights_and_numbers_have_one_size() -> None:
    """Behind a layer whose outputs are fixed, as the paper has it: both the root of a w."""
    model = chain(nn.Conv2d(3, 8, 3, 2, 1), nn.ReLU())
    model.net.model[0].weight.data[3] *= 100
    other = made(model, "smooth")
    sizes = []
    for each in (model, other):
        with torch.inference_mode():
            read = torch.cat([each.net.model[1](each.net.model[0](x)) for x in IMAGES])
        weight = each.net.model[2].m.weight.detach().abs().numpy()
        sizes.append((read.numpy().max((0, 2, 3)), weight.max((0, 2, 3))))
    (before, _), (read, weight) = sizes
    ratio = read / weight
    np.testing.assert_allclose(ratio, np.full(8, ratio[0]), rtol=1e-4)
    np.testing.assert_allclose(read.max(), before.max(), rtol=1e-4)  # the tensor's range is kept


def quantized_error(model: LoadedModel) -> float:
    """Mean square of the error that 8-bit activations, one scale a tensor, make in the outputs."""
    ops = trace(model.net)
    layers = conv_layers(model.net)
    policy = default_policy(
        layers, float_head=False, float_first=0, weight=WEIGHT, activation=ACTIVATION
    )
    collected = collect(model.net, sibling_groups(ops), IMAGES, 8)
    quantized = calibrate_model(model, policy, collected, "max", ops)[0]
    pairs = zip(outputs(quantized.model), outputs(model), strict=True)
    return sum(float((a - b).square().mean()) for a, b in pairs)


@pytest.mark.parametrize("name", MOVES)
def test_one_loud_channel_no_longer_costs_the_others_their_steps(name: str) -> None:
    model = plain()
    model.net.model[0].weight.data[2] *= 1000
    model.net.model[0].bias.data[2] *= 1000
    model.net.model[2].weight.data[:, 2] /= 1000
    assert quantized_error(made(model, name)) < 0.01 * quantized_error(model)


def test_a_dead_channel_stays() -> None:
    model = plain()
    model.net.model[0].weight.data[1] = 0
    model.net.model[2].weight.data[:, 4] = 0
    for name in MOVES:
        other = made(model, name)
        assert all(bool(p.isfinite().all()) for p in other.net.parameters())
        assert close(outputs(other), outputs(model))


def test_depthwise_convolutions_move_too() -> None:
    layers = [nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3, groups=8), nn.ReLU()]
    model = chain(*layers)
    model.net.model[0].weight.data[5] *= 50
    other = made(model, "equalize")
    first, depthwise = (other.net.model[i].weight.detach().abs().numpy() for i in (0, 2))
    np.testing.assert_allclose(first.max((1, 2, 3)), depthwise.max((1, 2, 3)), rtol=0.02)
    assert close(outputs(other), outputs(model))


def test_channels_of_a_residual_and_of_a_concat_move_together() -> None:
    model = tiny_model(act="ReLU")
    channels = channels_of(model.net, trace(model.net))
    first, last = channels.made["model.2.cv1.conv"], channels.made["model.2.m.0.cv2.conv"]
    np.testing.assert_array_equal(first, last)  # x + f(x)
    joined = np.concatenate([last, channels.made["model.2.cv2.conv"]])
    np.testing.assert_array_equal(channels.read["model.2.cv3.conv"], joined)
    assert not set(channels.made["model.2.cv2.conv"]) & set(first)


def test_nothing_that_stops_a_scale_is_scaled() -> None:
    """The image, raw maps, and what SiLU touches; behind a ReLU between SiLUs it goes on."""
    model = chain(nn.Conv2d(3, 6, 1), nn.SiLU(), nn.Conv2d(6, 8, 1), nn.ReLU())
    channels = channels_of(model.net, trace(model.net))
    assert channels.movable == ["model.2"]
    assert dict(channels.stops) == {"model.0": "silu"}
    for fixed in (channels.read["model.0"], channels.made["model.0"], channels.made["model.4.m"]):
        assert not fixed.any()
    other = made(model, "smooth")
    assert torch.equal(other.net.model[0].weight, model.net.model[0].weight)
    assert close(outputs(other), outputs(model))


def test_silu_is_refused_by_name() -> None:
    model = tiny_model()
    ops = trace(model.net)
    with pytest.raises(
        PolicyError, match=r"--refine smooth: .* through silu behind model\.0\.conv"
    ):
        check_movable(["smooth"], model.net, ops)
    check_movable([], model.net, ops)
    assert channels_of(model.net, ops).movable == []


def test_an_addition_of_a_number_is_not_handed_on() -> None:
    class Shifted(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x + 1.0

    model = chain(nn.Conv2d(3, 8, 1), Shifted())
    assert channels_of(model.net, trace(model.net)).movable == []


def test_factors_of_another_network_are_refused() -> None:
    model = plain()
    with pytest.raises(CheckpointError, match=r"moved scales of model\.0 do not fit it"):
        as_moved(model, {"model.0": [1.0, 2.0]}, trace(model.net))


def test_moves_come_in_their_order() -> None:
    assert moves_of(("gptq", "smooth", "equalize")) == ("equalize", "smooth")
