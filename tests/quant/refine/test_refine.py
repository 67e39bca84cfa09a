"""Repairs of a calibrated network: each does what its paper says, on the block it is given."""

import importlib

import numpy as np
import pytest
import torch
from tiny_quant import as_input, pictures, tiny_model, tiny_quantized

from yoloq.base.errors import DataError
from yoloq.quant.affine import scale_and_zero_point
from yoloq.quant.quantized import QuantizedModel
from yoloq.quant.quantizer import TensorQuantizer
from yoloq.quant.refine import REPAIRS, gptq, patches, read_repairs
from yoloq.quant.refine.apply import refine
from yoloq.quant.refine.bias import shrunk_mean
from yoloq.quant.refine.gptq import _in_order
from yoloq.quant.refine.parts import Parts
from yoloq.quant.refine.patches import Moments, fitted, grouped, parts_of
from yoloq.quant.refine.up_or_down import LearnedRounding
from yoloq.quant.refine.walk import Block, walk, with_integer_weights
from yoloq.quant.spec import ACTIVATION, PerChannel, QuantSpec

pytestmark = pytest.mark.usefixtures("one_thread")

FOUR = QuantSpec(4, PerChannel(), narrow=True)
ASYMMETRIC = QuantSpec(symmetric=False)
STEPS = 60


def blocks(quantized: QuantizedModel, images: int = 8):
    batches = as_input(pictures(images)).split(4)
    net = quantized.model.net
    layers = with_integer_weights(net, quantized.placement)
    return walk(tiny_model().net, net, layers, batches, tiny_model().head, seed=0)


def block_of(quantized: QuantizedModel, name: str) -> Block:
    return next(block for block in blocks(quantized) if block.name == name)


def error(block: Block) -> float:
    """Mean squared error of what the block gives."""
    calls = list(block.calls(block.name))
    return float(torch.cat([(call.made - call.target).square() for call in calls]).mean())


def quantizer(scale: list[float], spec: QuantSpec = FOUR) -> TensorQuantizer:
    made = TensorQuantizer(spec)
    bound = torch.tensor(scale) * spec.qmax
    made.set_range(-bound, bound)
    return made


def test_the_walk_gives_every_block_with_integers_and_what_flows_through_both_networks() -> None:
    quantized = tiny_quantized()
    float_net, net = tiny_model().net, quantized.model.net
    seen = {}
    for block in blocks(quantized):
        seen[block.name] = block.layers
        assert block.images == 8
    assert tuple(name for layers in seen.values() for name in layers) == tuple(
        name for name, plan in quantized.placement.layers.items() if plan.quantized
    )
    calls = list(block_of(quantized, "model.3").calls("model.3"))
    made = torch.cat([call.made for call in calls])
    target = torch.cat([call.target for call in calls])
    images = as_input(pictures(8))
    with torch.inference_mode():
        for wanted, part in ((float_net, target), (net, made)):
            state = wanted.advance({-1: images}, 0, 4)
            torch.testing.assert_close(part, state[3])


def test_what_a_repair_changed_counts_for_the_blocks_behind() -> None:
    quantized = tiny_quantized()
    walking = blocks(quantized)
    first = next(walking)
    before = next(iter(first.calls(first.name))).made
    conv = first.conv(first.layers[0])
    conv.bias.data += 1.0
    second = next(walking)
    read = next(iter(second.calls(second.name))).read
    assert not torch.equal(read, before)


def test_bias_takes_off_the_sure_part_of_each_channels_mean_error() -> None:
    block = block_of(tiny_quantized(weight=FOUR, float_first=0), "model.1")
    (layer,) = block.layers

    def mean_error() -> torch.Tensor:
        pairs = zip(block.calls(layer), block.weights.of(layer), strict=True)
        return torch.cat([((c.made - c.target) * w[:, None]).mean((2, 3)) for c, w in pairs]).mean(
            0
        )

    before, bias = mean_error(), block.conv(layer).bias.clone()
    importlib.import_module("yoloq.quant.refine.bias").repair(block, STEPS)
    moved = bias - block.conv(layer).bias
    torch.testing.assert_close(mean_error(), before - moved, atol=1e-6, rtol=0)
    assert (moved * (before - moved) >= 0).all()  # never beyond the mean, nor away from it
    assert 0.5 * before.norm() < moved.norm() < before.norm()


def test_a_mean_error_is_shrunk_by_what_chance_makes_of_it() -> None:
    errors = torch.tensor([[1.0, 0.3, 2.0], [1.0, -0.1, 4.0]])
    found = shrunk_mean(errors, torch.ones(2))  # standard errors 0, 0.2 and 1
    torch.testing.assert_close(found, torch.tensor([1.0, 0.0, 3 - 1 / 3]))
    half = shrunk_mean(errors / 2, torch.full((2,), 0.5))
    torch.testing.assert_close(half, found)
    torch.testing.assert_close(shrunk_mean(errors[:1], torch.ones(1)), errors[0])


@pytest.mark.parametrize("name", REPAIRS)
@pytest.mark.parametrize("block", ["model.1", "model.4"], ids=["a convolution", "a C3"])
@pytest.mark.parametrize("activation", [ACTIVATION, ASYMMETRIC], ids=["symmetric", "asymmetric"])
def test_a_repair_makes_the_error_of_four_bits_smaller(
    name: str, block: str, activation: QuantSpec
) -> None:
    found = block_of(tiny_quantized(weight=FOUR, activation=activation, float_first=0), block)
    before = error(found)
    importlib.import_module(f"yoloq.quant.refine.{name}").repair(found, STEPS)
    assert error(found) < before


@pytest.mark.parametrize("name", [name for name in REPAIRS if name != "bias"])
def test_rounded_weights_are_integers_of_the_grid_that_was_calibrated(name: str) -> None:
    quantized = tiny_quantized(weight=FOUR)
    block = block_of(quantized, "model.4")
    scales = {layer: block.conv(layer).weight_quantizer.scale.clone() for layer in block.layers}
    importlib.import_module(f"yoloq.quant.refine.{name}").repair(block, STEPS)
    for layer in block.layers:
        conv = block.conv(layer)
        torch.testing.assert_close(conv.weight_quantizer.scale, scales[layer])
        integers = conv.weight / scales[layer].view(-1, 1, 1, 1)
        torch.testing.assert_close(integers, integers.round(), atol=1e-4, rtol=0)
        assert int(integers.abs().max().round()) <= 7
        torch.testing.assert_close(conv.weight_quantizer(conv.weight), conv.weight)


def test_gptq_of_inputs_that_say_nothing_of_each_other_rounds_to_nearest() -> None:
    conv = torch.nn.Conv2d(1, 2, 1)
    conv.weight_quantizer = quantizer([1.0, 1.0])
    weight = torch.tensor([[0.4, 1.6], [-2.3, 9.0]], dtype=torch.float64)
    rounded = _in_order(conv, slice(0, 2), weight, torch.eye(2, dtype=torch.float64))
    np.testing.assert_array_equal(rounded, [[0, 2], [-2, 7]])


def test_gptq_carries_an_error_to_an_input_that_is_alike() -> None:
    """Two inputs that are nearly one: 0.4 + 0.4 is better a 0 and a 1 than two zeros."""
    conv = torch.nn.Conv2d(1, 1, 1)
    conv.weight_quantizer = quantizer([1.0])
    moments = torch.tensor([[1.0, 0.99], [0.99, 1.0]], dtype=torch.float64)
    upper = torch.linalg.cholesky(torch.linalg.inv(moments), upper=True)
    weight = torch.tensor([[0.4, 0.4]], dtype=torch.float64)
    np.testing.assert_array_equal(_in_order(conv, slice(0, 1), weight, upper), [[0, 1]])


def test_wide_convolutions_are_rounded_in_runs_of_columns(monkeypatch) -> None:
    monkeypatch.setattr(patches, "MOST", 20)  # not a divisor of the 72 or so that a layer has
    block = block_of(tiny_quantized(weight=FOUR), "model.4")
    before = error(block)
    gptq.repair(block, STEPS)
    assert error(block) < before
    conv = block.conv(block.layers[-1])
    torch.testing.assert_close(conv.weight_quantizer(conv.weight), conv.weight)


def test_a_convolution_in_groups_is_rounded_group_by_group() -> None:
    conv = torch.nn.Conv2d(4, 6, 3, groups=2)
    parts = [(group, run.start, run.stop) for group, run in parts_of(conv)]
    assert parts == [(0, 0, 18), (1, 0, 18)]
    assert grouped(conv).shape == (2, 3, 18)
    assert torch.equal(grouped(conv).view_as(conv.weight).float(), conv.weight.detach())


def moments(read: torch.Tensor, wanted: torch.Tensor) -> Moments:
    """Of patches (K, n)."""
    return Moments(read @ read.T, (wanted - read) @ read.T)


def test_weights_make_up_for_what_is_read_wrongly() -> None:
    """What is read is half of what it should be: the weights double, on both halves' word."""
    random = torch.Generator().manual_seed(0)
    halves = torch.randn(2, 3, 500, generator=random, dtype=torch.float64)
    weight = torch.tensor([[1.0, -2.0, 0.5]], dtype=torch.float64)
    found = fitted(weight, *(moments(half / 2, half) for half in halves))
    np.testing.assert_allclose(found, 2 * weight, rtol=0.02)


def test_weights_stay_where_halves_of_the_images_contradict_each_other() -> None:
    """In one half what is read is too small, in the other too large by as much."""
    x = torch.randn(3, 500, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    weight = torch.tensor([[1.0, -2.0, 0.5]], dtype=torch.float64)
    found = fitted(weight, moments(x, 1.2 * x), moments(x, 0.8 * x))
    np.testing.assert_array_equal(found, weight)


def test_learned_rounding_starts_at_the_weight_and_ends_on_its_grid() -> None:
    weight = torch.tensor([[0.3, -0.6], [2.2, 9.0]])
    rounding = LearnedRounding(weight, quantizer([0.5, 1.0]))
    torch.testing.assert_close(rounding(weight), torch.tensor([[0.3, -0.6], [2.2, 7.0]]))
    np.testing.assert_array_equal(rounding.decided(), [[0.5, -0.5], [2.0, 7.0]])
    assert rounding.undecided(2.0).item() > 0


def test_the_same_seed_repairs_alike() -> None:
    weights = []
    for _ in range(2):
        block = block_of(tiny_quantized(weight=FOUR), "model.4")
        importlib.import_module("yoloq.quant.refine.block").repair(block, 5)
        weights.append(block.conv(block.layers[0]).weight.detach().clone())
    assert torch.equal(*weights)


def test_parts_give_back_what_was_kept_under_the_same_key(tmp_path) -> None:
    changed = block_of(tiny_quantized(), "model.4")
    assert not Parts(tmp_path / "parts.npz", "key").restore(changed)
    for layer in changed.layers:
        changed.conv(layer).weight.data.mul_(2)
        changed.conv(layer).bias.data.add_(1)
    Parts(tmp_path / "parts.npz", "key").keep(changed)
    other = block_of(tiny_quantized(), "model.4")
    assert not Parts(tmp_path / "parts.npz", "another").restore(other)
    assert Parts(tmp_path / "parts.npz", "key").restore(other)
    for layer in changed.layers:
        assert torch.equal(other.conv(layer).weight, changed.conv(layer).weight)
        assert torch.equal(other.conv(layer).bias, changed.conv(layer).bias)
    (tmp_path / "parts.npz").write_bytes(b"PK\x03\x04 cut")
    assert not Parts(tmp_path / "parts.npz", "key").restore(other)


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("bias,gptq", ("gptq", "bias")),
        ("block bias", ("block", "bias")),
        ("gptq", ("gptq",)),
        ("gptq smooth", ("smooth", "gptq")),
    ],
)
def test_names_come_in_the_order_of_application(text: str, names: tuple) -> None:
    assert read_repairs(text) == names


def test_images_that_cannot_be_read_leave_too_few_for_a_repair() -> None:
    quantized = tiny_quantized()
    with pytest.raises(DataError, match="--refine bias: needs 1 calibration images"):
        refine(tiny_model(), quantized, [], ["bias"], steps=1, seed=0)


def test_an_unknown_repair_is_named() -> None:
    known = "none, equalize, smooth, gptq, adaround, block, bias"
    with pytest.raises(ValueError, match=f"'smoth' is not one of {known}"):
        read_repairs("gptq smoth")


def test_the_scale_of_a_grid_is_that_of_its_range() -> None:
    made = quantizer([0.25, 2.0])
    scale, zero = scale_and_zero_point(made.low, made.high, FOUR)
    np.testing.assert_allclose(scale, [0.25, 2.0])
    assert not zero.any()


def test_places_are_drawn_by_their_weights_again_and_again() -> None:
    weights = torch.tensor([[0.0, 3.0], [1.0, 0.0]])
    found = patches.drawn(weights, 4000, torch.Generator().manual_seed(0))
    assert set(found.tolist()) == {1, 2}
    assert (found == 1).double().mean() == pytest.approx(0.75, abs=0.03)


def test_more_places_than_torch_multinomial_takes_can_be_drawn() -> None:
    weights = torch.zeros(2**24 + 1)
    weights[-1] = 1.0
    found = patches.drawn(weights, 3, torch.Generator().manual_seed(0))
    assert found.tolist() == [2**24] * 3
