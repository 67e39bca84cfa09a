"""The graph from which ONNX Runtime forms integer convolutions, against what torch simulates."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from onnx_graphs import Lookup, fused_operators, run
from rounding import MANY
from shallow_net import ALL, POLICIES, outputs, shallow
from tiny_quant import ACTIVATIONS, signal_to_noise, tiny_quantized

from yoloq.graph.export import export_float
from yoloq.graph.integer import asymmetric, lower_integer
from yoloq.quant.policy import Policy

pytestmark = pytest.mark.usefixtures("one_thread")

EVERY = (*ACTIVATIONS, "Hardtanh", "Softplus", "mixed")


@pytest.mark.parametrize("policy", POLICIES.values(), ids=POLICIES)
def test_integer_graph_is_about_as_good_as_what_torch_simulates(policy: Policy) -> None:
    net, ranges = shallow(policy)
    found = run(lower_integer(export_float(net, 64), net, ranges), MANY)
    exact = outputs(shallow(None)[0])
    loss = signal_to_noise(exact, outputs(net))
    assert signal_to_noise(exact, found) >= min(loss, 30) - 3


def test_integer_graph_runs_in_integers_between_float_stem_and_head(tmp_path: Path) -> None:
    quantized = tiny_quantized()
    net = quantized.model.net
    model = lower_integer(export_float(net, 64), net, quantized.outputs)
    fused = fused_operators(model, tmp_path)
    wanted = {"QLinearConv": 55, "Conv": 5, "QLinearSigmoid": 55, "QLinearAdd": 7}
    assert {name: fused[name] for name in wanted} == wanted
    assert fused["QLinearConcat"] == 13


def test_integer_graph_lets_the_float_head_read_floats() -> None:
    quantized = tiny_quantized()
    net = quantized.model.net
    graph = Lookup(lower_integer(export_float(net, 64), net, quantized.outputs))
    plain = [node for node in graph.convolutions() if graph.pair(node.input[1]) is None]
    makers = Counter(graph.makers[node.input[0]].op_type for node in plain)
    assert makers == {"Transpose": 1, "Mul": 4}, "the image, and what SiLU gives"


def test_integer_graph_rounds_concatenated_tensors_once() -> None:
    net, ranges = shallow(Policy((ALL,)))
    graph = Lookup(lower_integer(export_float(net, 64), net, ranges))
    scale = float(net.get_submodule("c3.cv3.conv").input_quantizer.amax) / 127
    concat = next(node for node in graph.nodes if node.op_type == "Concat")
    assert [graph.pair(tensor)[0] for tensor in concat.input] == pytest.approx([scale] * 2)


def test_integer_graph_holds_a_sigmoid_of_one_exactly() -> None:
    net, ranges = shallow(Policy((ALL,)))
    graph = Lookup(lower_integer(export_float(net, 64), net, ranges))
    products = [node for node in graph.nodes if node.op_type == "Mul"]
    scales = [graph.pair(node.input[1])[0] for node in products]
    assert scales == pytest.approx([1 / 255] * 8)


@pytest.mark.parametrize(
    ("low", "high", "scale", "zero_point"),
    [
        pytest.param(-1.0, 4.1, 0.02, -78, id="around 0"),
        pytest.param(1.0, 5.1, 0.02, -128, id="above 0"),
        pytest.param(-5.1, -1.0, 0.02, 127, id="below 0"),
        pytest.param(0.0, 0.0, 1.0, -128, id="dead"),
    ],
)
def test_asymmetric(low: float, high: float, scale: float, zero_point: int) -> None:
    found = asymmetric(low, high)
    assert found.scale == pytest.approx(scale)
    assert found.zero_point == zero_point
    assert found.dtype is np.uint8
    if high > low:
        assert found.high == pytest.approx(max(high, 0), abs=scale)


@pytest.mark.parametrize("activation", EVERY)
def test_integer_convolutions_behind_every_activation(activation: str, tmp_path: Path) -> None:
    net, ranges = shallow(Policy((ALL,)), activation=activation)
    model = lower_integer(export_float(net, 64), net, ranges)
    assert fused_operators(model, tmp_path)["QLinearConv"] == 9
    exact = outputs(shallow(None, activation=activation)[0])
    loss = signal_to_noise(exact, outputs(net))
    assert signal_to_noise(exact, run(model, MANY)) >= min(loss, 30) - 3


@pytest.mark.parametrize(
    ("family", "whole", "count"),
    [("yolov5", False, 55), ("ultralytics", True, 73)],
    ids=["float head", "head without activation"],
)
def test_networks_of_many_activations_run_in_integers(
    family: str, whole: bool, count: int, tmp_path: Path
) -> None:
    quantized = tiny_quantized(family, act="mixed", float_head=not whole)
    net = quantized.model.net
    model = lower_integer(export_float(net, 64), net, quantized.outputs)
    assert fused_operators(model, tmp_path)["QLinearConv"] == count


@pytest.mark.parametrize(
    ("activation", "alone", "not_there"),
    [
        ("ReLU", {}, ("Relu", "QuantizeLinear", "LeakyRelu")),
        ("ReLU6", {}, ("Clip",)),
        ("LeakyReLU", {"QLinearLeakyRelu": 8}, ("LeakyRelu",)),
        ("SiLU", {"QLinearSigmoid": 8, "QLinearMul": 8}, ("Sigmoid", "Mul")),
        ("Identity", {}, ()),
        ("Hardswish", {"HardSigmoid": 8}, ()),
    ],
)
def test_what_runtime_makes_of_an_activation(
    activation: str, alone: dict[str, int], not_there: tuple[str, ...], tmp_path: Path
) -> None:
    net, ranges = shallow(Policy((ALL,)), activation=activation)
    fused = fused_operators(lower_integer(export_float(net, 64), net, ranges), tmp_path)
    assert fused["QLinearAdd"] == 1
    assert fused["QLinearConcat"] == 2
    assert {name: fused[name] for name in alone} == alone
    assert not {name for name in not_there if fused[name] > (name == "QuantizeLinear")}


def test_what_is_never_negative_has_all_steps_above_0() -> None:
    net, ranges = shallow(Policy((ALL,)), activation="ReLU")
    graph = Lookup(lower_integer(export_float(net, 64), net, ranges))
    amax = float(net.get_submodule("c3.cv3.conv").input_quantizer.amax)
    concat = next(node for node in graph.nodes if node.op_type == "Concat")
    for tensor in concat.input:
        scale, zero_point, _ = graph.pair(tensor)
        assert scale == pytest.approx(amax / 255)
        assert zero_point == 0


def test_a_clip_without_a_fitting_range_computes_in_float(tmp_path: Path) -> None:
    """A symmetric range of Hardtanh ends a step below -1, which no clip may be folded into."""
    net, ranges = shallow(Policy((ALL,)), activation="Hardtanh")
    fused = fused_operators(lower_integer(export_float(net, 64), net, ranges), tmp_path)
    assert fused["Clip"] == 8
