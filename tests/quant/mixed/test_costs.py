"""Bytes and bit operations of layers, counted by hand."""

import pytest
from tiny_quant import tiny_model

from yoloq.quant.mixed.costs import Layer, bit_operations, layers_of, products, size
from yoloq.quant.mixed.width import EDGE, FLOAT, Width
from yoloq.quant.policy import Policy, Rule, resolve
from yoloq.quant.spec import ACTIVATION, WEIGHT
from yoloq.quant.trace import trace

pytestmark = pytest.mark.usefixtures("one_thread")

LAYER = Layer("x", "x", weights=27, scales=4, biases=4, macs=1000, widths=(EDGE,))


@pytest.mark.parametrize(
    ("width", "expected"),
    [
        (Width(4, 8), 14 + 16 + 16),  # 13.5 bytes of weights, scales, biases
        (Width(3, 8), 11 + 16 + 16),
        (Width(8, 8), 27 + 16 + 16),
        (FLOAT, 54 + 16),
    ],
    ids=str,
)
def test_bytes(width: Width, expected: float) -> None:
    assert size(LAYER, width) == expected


@pytest.mark.parametrize(
    ("width", "expected"),
    [(Width(4, 8), 32_000), (Width(4, 4), 16_000), (EDGE, 64_000), (FLOAT, 256_000)],
    ids=str,
)
def test_bit_operations(width: Width, expected: float) -> None:
    assert bit_operations(LAYER, width) == expected


def test_layers_of_a_network() -> None:
    net = tiny_model().net
    ops = trace(net)
    placement = resolve(Policy((Rule("*", WEIGHT, ACTIVATION),)), ops)
    widths = (FLOAT, Width(4, 8))
    layers = {layer.name: layer for layer in layers_of(net, ops, placement, 64, widths)}
    assert sorted(layers) == sorted(placement.layers)
    assert list(layers)[-4:] == ["model.23.cv3.conv", *(f"model.24.m.{i}" for i in range(3))]
    stem = layers["model.0.conv"]  # 3 -> 8 channels, 6 x 6 with stride 2: 32 x 32 places
    assert (stem.weights, stem.scales, stem.biases) == (864, 8, 8)
    assert stem.macs == 32 * 32 * 864
    assert stem.widths == layers["model.24.m.1"].widths == (EDGE, FLOAT)
    first, second = layers["model.2.cv1.conv"], layers["model.2.cv2.conv"]
    assert first.group == second.group == "model.2.cv1.conv"
    assert first.widths == (Width(4, 8), FLOAT)


def test_products_are_those_of_all_calls_of_one_image() -> None:
    net = tiny_model().net
    once = products(net, ["model.1.conv"], 64)
    assert products(net, ["model.1.conv"], 128) == {"model.1.conv": 4 * once["model.1.conv"]}
