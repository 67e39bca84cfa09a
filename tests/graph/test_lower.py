"""Q/DQ graphs against the fake quantizers that they stand for."""

import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from onnx_graphs import Lookup, fused_operators, run
from rounding import APART, CHANCE, MANY, typical
from tiny_quant import as_input, pictures, signal_to_noise, tiny_model, tiny_quantized
from torch import Tensor, nn

from yoloq.base.errors import PolicyError
from yoloq.engines.predictor import by_one
from yoloq.graph.export import export_float
from yoloq.graph.lint.table import lint
from yoloq.graph.lower import (
    SILU_MINIMUM,
    Ranges,
    asymmetric,
    lower_integer,
    lower_minimal,
    lower_tensorrt,
)
from yoloq.models import FAMILIES
from yoloq.models.fuse import fuse_batch_norm
from yoloq.models.residuals import name_residuals
from yoloq.models.ultralytics import import_ultralytics
from yoloq.models.yolov5.blocks import C3, SPPF, Conv, Focus
from yoloq.quant.calibrate import calibrate
from yoloq.quant.modules import QuantAdd, quantizers, switched
from yoloq.quant.observer import collect
from yoloq.quant.policy import Policy, Rule, apply, conv_layers, resolve
from yoloq.quant.spec import ACTIVATION, WEIGHT, PerGroup, PerTensor, QuantSpec
from yoloq.quant.trace import joined, sibling_groups, trace

pytestmark = pytest.mark.usefixtures("one_thread")

ALL = Rule("*", WEIGHT, ACTIVATION)
ASYMMETRIC = QuantSpec(symmetric=False)
PER_TENSOR = replace(WEIGHT, granularity=PerTensor())
PER_GROUP = replace(WEIGHT, granularity=PerGroup(3))
POLICIES = {
    "everything": Policy((ALL,)),
    "float stem and head": Policy((ALL, Rule("stem", None, None), Rule("head", None, None))),
    "asymmetric": Policy((Rule("*", WEIGHT, ASYMMETRIC),)),
    "asymmetric, residual both": Policy((Rule("*", WEIGHT, ASYMMETRIC),), residual="both"),
    "weights per tensor": Policy((Rule("*", PER_TENSOR, ACTIVATION),)),
    "weights per group": Policy((Rule("*", PER_GROUP, ACTIVATION),)),
    "4-bit weights": Policy((Rule("*", replace(WEIGHT, bits=4), ACTIVATION),)),
    "residual input": Policy((ALL,), residual="input"),
    "residual both": Policy((ALL,), residual="both"),
    "concat": Policy((ALL,), sharing="concat", residual="both"),
    "weights alone": Policy((Rule("*", WEIGHT, None),)),
    "inputs alone": Policy((Rule("*", None, ACTIVATION),), residual="both"),
    "siblings of two specs": Policy((ALL, Rule("*.cv2", WEIGHT, ASYMMETRIC)), residual="both"),
    "weight of one sibling alone": Policy((ALL, Rule("c3.cv2", WEIGHT, None))),
    "nothing": Policy((Rule("*", None, None),)),
}
SYMMETRIC = {
    name: policy
    for name, policy in POLICIES.items()
    if all(rule.activation != ASYMMETRIC for rule in policy.rules)
}
MOVING = ("Concat", "MaxPool", "Resize")
# Rounding at a tie may go either way where float sums are ordered differently, and a deep network
# spreads one such step over everything behind it until all rounding has been drawn anew. So a
# shallow network shows that a graph computes what is simulated, and a whole one that it is as good.


class Shallow(nn.Module):
    """Everything that has rules of its own, eight convolutions deep."""

    def __init__(self, stem: str) -> None:
        super().__init__()
        self.stem = Conv(3, 8, 6, 2, 2) if stem == "conv" else Focus(3, 8, 3)
        self.c3, self.pool, self.head = C3(8, 8), SPPF(8, 8), nn.Conv2d(8, 4, 1)
        name_residuals(self)

    def forward(self, x: Tensor) -> list[Tensor]:
        return [self.head(self.pool(self.c3(self.stem(x))))]


class Attentive(nn.Module):
    """Residual branches that begin with other names than a bottleneck's."""

    def __init__(self) -> None:
        super().__init__()
        import_ultralytics()
        blocks = sys.modules["ultralytics.nn.modules.block"]
        self.stem, self.head = Conv(3, 64, 6, 4, 2), nn.Conv2d(64, 4, 1)
        self.blocks = nn.Sequential(blocks.C2PSA(64, 64), blocks.CIB(64, 64))
        name_residuals(self.blocks)

    def forward(self, x: Tensor) -> list[Tensor]:
        return [self.head(self.blocks(self.stem(x)))]


def shallow(policy: Policy | None, stem: str = "conv") -> tuple[nn.Module, Ranges]:
    """A float or calibrated network, and its output ranges."""
    torch.manual_seed(0)
    net = (Attentive() if stem == "attention" else Shallow(stem)).eval()
    fuse_batch_norm(net)
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.normal_(module.weight, std=1.5 / module.weight[0].numel() ** 0.5)
            nn.init.normal_(module.bias, std=0.1)
    ops = trace(net)
    images = as_input(pictures(4))
    seen = collect(net, sibling_groups(ops), [images], images=len(images))
    if policy:
        placement = resolve(policy, ops)
        apply(net, placement, policy.residual)
        calibrate(net, placement, seen.inputs, "max")
    return net, seen.outputs


def outputs(net: nn.Module) -> list[NDArray[np.float32]]:
    with torch.inference_mode():
        return [raw.numpy() for raw in net(as_input(MANY))]


def minimal(net: nn.Module) -> list[NDArray[np.float32]]:
    return run(lower_minimal(export_float(net, 64), net), MANY)


@pytest.mark.parametrize("stem", ["conv", "focus"])
@pytest.mark.parametrize("policy", POLICIES.values(), ids=POLICIES)
def test_minimal_graph_computes_what_torch_simulates(policy: Policy, stem: str) -> None:
    net, _ = shallow(policy, stem)
    simulated = outputs(net)
    loss = signal_to_noise(outputs(shallow(None, stem)[0]), simulated)
    found = typical(simulated, minimal(net))
    assert found >= 45 > 36 >= loss or policy == POLICIES["nothing"]


@pytest.mark.parametrize("lower", [lower_minimal, lower_tensorrt])
@pytest.mark.parametrize("residual", ["input", "both"])
def test_attention_computes_what_torch_simulates(lower: Any, residual: str) -> None:
    net, _ = shallow(Policy((ALL,), sharing="concat", residual=residual), "attention")
    assert sum(isinstance(module, QuantAdd) for module in net.modules()) == 3
    model = lower(export_float(net, 64), net)
    found = typical(outputs(net), run(model, MANY))
    plain = signal_to_noise(outputs(net), outputs(shallow(None, "attention")[0]))
    assert found >= 45 > 36 >= plain
    graph = Lookup(model)
    adds = [n for n in graph.nodes if n.op_type == "Add" and "/add" in n.name]
    sides = [sum(graph.makers[t].op_type == "DequantizeLinear" for t in n.input) for n in adds]
    assert sides == [2 if residual == "both" else 1] * 3


@pytest.mark.parametrize("policy", POLICIES.values(), ids=POLICIES)
def test_unsigned_graph_computes_the_same(policy: Policy) -> None:
    net, _ = shallow(policy)
    model = lower_minimal(export_float(net, 64), net, unsigned=True)
    found = run(model, MANY)
    assert all(map(np.array_equal, found, minimal(net)))
    graph = Lookup(model)
    pairs = [node for node in graph.nodes if node.op_type == "QuantizeLinear"]
    assert all(graph.constants[node.input[2]].dtype == np.uint8 for node in pairs)


@pytest.mark.parametrize(
    "policy",
    ["everything", "asymmetric", "weights per group", "residual both", "weights alone"],
)
def test_openvino_computes_what_torch_simulates(policy: str) -> None:
    pytest.importorskip("openvino")
    from yoloq.engines.openvino import core, wants_unsigned

    net, _ = shallow(POLICIES[policy])
    model = lower_minimal(export_float(net, 64), net, wants_unsigned())
    exact = {"INFERENCE_PRECISION_HINT": "f32"}  # of the float part; int8 stays int8
    request = (
        core()
        .compile_model(core().read_model(model.SerializeToString()), "CPU", exact)
        .create_infer_request()
    )
    found = by_one(lambda image: list(request.infer(image).values()), MANY)
    assert typical(outputs(net), found) >= 45


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("whole", [False, True], ids=["default policy", "every layer"])
def test_minimal_graph_of_a_whole_network(family: str, whole: bool) -> None:
    first = 0 if whole else 2
    quantized = tiny_quantized(family, float_first=first, float_head=not whole, residual="both")
    net, x = quantized.model.net, as_input(MANY)
    with torch.inference_mode():
        exact, simulated = ([raw.numpy() for raw in n(x)] for n in (tiny_model(family).net, net))
    found = run(lower_minimal(export_float(net, 64), net), MANY)
    loss = signal_to_noise(exact, simulated)
    assert signal_to_noise(exact, found) >= loss - CHANCE
    assert signal_to_noise(simulated, found) >= loss - APART - CHANCE


def test_switched_off_quantizers_leave_the_float_graph() -> None:
    net, _ = shallow(POLICIES["residual both"])
    with switched(quantizers(net).values(), enabled=False):
        model = lower_minimal(export_float(net, 64), net)
    assert not [node for node in model.graph.node if node.op_type == "QuantizeLinear"]
    np.testing.assert_allclose(run(model, pictures(1))[0], float_output(pictures(1)), atol=1e-5)


def float_output(images: NDArray[np.uint8]) -> NDArray[np.float32]:
    with torch.inference_mode():
        return shallow(None)[0](as_input(images))[0].numpy()


@pytest.mark.parametrize(
    ("residual", "reading"), [("none", 0), ("input", 1), ("both", 2)], ids=["no", "one", "both"]
)
def test_addition_reads_quantized_inputs(residual: str, reading: int) -> None:
    net, _ = shallow(Policy((ALL,), residual=residual))
    graph = Lookup(lower_minimal(export_float(net, 64), net))
    (add,) = (node for node in graph.nodes if node.op_type == "Add")
    pairs = [pair for tensor in add.input if (pair := graph.pair(tensor))]
    amax = net.get_submodule("c3.m.0.cv1.conv").input_quantizer.amax
    assert len(pairs) == reading
    for scale, zero_point, _ in pairs:
        assert scale == pytest.approx(float(amax) / 127)
        assert zero_point == 0


def test_siblings_read_one_pair_and_nothing_follows_a_convolution() -> None:
    net, _ = shallow(Policy((ALL,)))
    graph = Lookup(lower_minimal(export_float(net, 64), net))
    convolutions = graph.convolutions()
    pairs = {node.input[0] for node in convolutions}
    assert len(convolutions) == 9
    assert len(pairs) == 8, "c3.cv1 and c3.cv2 share theirs"
    results = {node.output[0] for node in convolutions}
    quantized = [node for node in graph.nodes if node.op_type == "QuantizeLinear"]
    assert not results & {node.input[0] for node in quantized}


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
    assert makers == {"Cast": 1, "Mul": 4}, "the image, and what SiLU gives"


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


def test_silu_minimum() -> None:
    x = np.linspace(-2, 0, 200001)
    silu = x / (1 + np.exp(-x))
    assert pytest.approx(silu.min(), abs=1e-6) == SILU_MINIMUM
    positive = -x
    rest = positive / (1 + np.exp(-positive)) - positive
    assert pytest.approx(rest.min(), abs=1e-6) == SILU_MINIMUM


@pytest.mark.parametrize("lower", [lower_minimal, lambda m, n: lower_integer(m, n, {})])
def test_activations_below_8_bits_are_refused(lower) -> None:
    net, _ = shallow(Policy((ALL, Rule("c3.cv3", WEIGHT, QuantSpec(bits=4)))))
    model = export_float(net, 64)
    with pytest.raises(PolicyError, match=r"c3\.cv3\.conv: activations of 4 bits") as caught:
        lower(model, net)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("stem", ["conv", "focus"])
@pytest.mark.parametrize("policy", SYMMETRIC.values(), ids=SYMMETRIC)
def test_graph_for_tensorrt_computes_the_minimal_one_bit_for_bit(policy: Policy, stem: str) -> None:
    net, _ = shallow(policy, stem)
    found = run(lower_tensorrt(export_float(net, 64), net), MANY)
    assert all(map(np.array_equal, found, minimal(net)))


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(
    "placement",
    [{"sharing": "siblings"}, {"sharing": "concat"}, {"keep_float": ["model.13.cv1"]}],
    ids=["siblings", "concat", "one sibling in float"],
)
def test_whole_graph_for_tensorrt_computes_the_minimal_one_bit_for_bit(
    family: str, placement: dict
) -> None:
    net = tiny_quantized(family, residual="input", **placement).model.net
    found = run(lower_tensorrt(export_float(net, 64), net), MANY)
    assert all(map(np.array_equal, found, minimal(net)))


@pytest.mark.parametrize("family", FAMILIES)
def test_integers_pass_through_all_that_moves_values_for_tensorrt(family: str) -> None:
    net = tiny_quantized(family, sharing="concat", residual="input").model.net
    graph = Lookup(lower_tensorrt(export_float(net, 64), net))
    head = f"/net/{conv_layers(net)[-1]}/"  # which is in float
    nodes = [node for node in graph.nodes if not node.name.startswith(head)]
    moving = [node for node in nodes if node.op_type in MOVING]
    assert Counter(node.op_type for node in moving) == {"Concat": 13, "MaxPool": 3, "Resize": 2}
    readers = {tensor: node for node in graph.nodes for tensor in node.input}
    for node in moving:
        inputs = node.input if node.op_type == "Concat" else node.input[:1]
        scales = {float(graph.pair(tensor)[0]) for tensor in inputs}
        behind = readers[node.output[0]]
        assert behind.op_type == "QuantizeLinear"
        assert scales == {float(graph.constants[behind.input[1]])}


@pytest.mark.parametrize("family", FAMILIES)
def test_no_tensor_has_two_scales_for_tensorrt(family: str) -> None:
    net = tiny_quantized(family, sharing="concat", residual="input").model.net
    graph = Lookup(lower_tensorrt(export_float(net, 64), net))
    quantized = Counter(n.input[0] for n in graph.nodes if n.op_type == "QuantizeLinear")
    assert set(quantized.values()) == {1}


def test_pairs_for_tensorrt_leave_convolution_and_activation_together() -> None:
    net, _ = shallow(POLICIES["concat"])
    graph = Lookup(lower_tensorrt(export_float(net, 64), net))
    quantized = {node.input[0] for node in graph.nodes if node.op_type == "QuantizeLinear"}
    makers = Counter(graph.makers[t].op_type for t in quantized if t in graph.makers)
    assert not makers.keys() & {"Conv", "Sigmoid"}
    assert makers["Mul"] == 8, "every SiLU"


@pytest.mark.parametrize(
    ("floats", "reading"),
    [
        pytest.param([], {"Mul": 0, "DequantizeLinear": 6}, id="all in int8"),
        pytest.param(["c3.cv3"], {"Mul": 1, "Add": 1, "DequantizeLinear": 4}, id="one in float"),
    ],
)
def test_operators_in_front_of_a_float_convolution_stay_float_for_tensorrt(
    floats: list[str], reading: dict[str, int]
) -> None:
    kept = tuple(Rule(name, None, None) for name in floats)
    net, _ = shallow(Policy((ALL, *kept), sharing="concat"))
    graph = Lookup(lower_tensorrt(export_float(net, 64), net))
    concats = [node for node in graph.nodes if node.op_type == "Concat"]
    found = Counter(graph.makers[tensor].op_type for node in concats for tensor in node.input)
    assert found == Counter(reading)


def test_tensorrt_casts_the_image_before_its_channels_move() -> None:
    for policy in (None, POLICIES["concat"]):
        net, _ = shallow(policy)
        graph = lower_tensorrt(export_float(net, 64), net).graph
        (cast,) = (node for node in graph.node if graph.input[0].name in node.input)
        (transpose,) = (node for node in graph.node if cast.output[0] in node.input)
        assert (cast.op_type, transpose.op_type) == ("Cast", "Transpose")


@pytest.mark.parametrize("name", sorted(POLICIES.keys() - SYMMETRIC.keys()))
def test_zero_points_are_refused_for_tensorrt(name: str) -> None:
    net, _ = shallow(POLICIES[name])
    model = export_float(net, 64)
    with pytest.raises(PolicyError, match=r"conv: its input has a zero-point") as caught:
        lower_tensorrt(model, net)
    assert "--symmetric" in str(caught.value)
    assert "\n" not in str(caught.value)


KINDS = {"concat": "Concat", "maxpool": "MaxPool", "upsample": "Resize"}


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(
    "floats",
    [[], ["model.4"], ["model.17.cv2"], ["model.9", "model.13.cv1"], ["model.6.m.0.cv1"]],
    ids=["all", "a block", "a sibling", "pools", "inside a block"],
)
def test_the_rule_of_shared_scales_is_one_in_its_three_forms(
    family: str, floats: list[str]
) -> None:
    """What the trace joins, the graph hands integers through, and the linter finds nothing."""
    quantized = tiny_quantized(family, sharing="concat", residual="input", keep_float=floats)
    plans = quantized.placement.layers.items()
    wanted = joined(quantized.ops, {name for name, plan in plans if plan.quantized})
    net = quantized.model.net
    lowered = lower_tensorrt(export_float(net, 64), net)
    graph, handed = Lookup(lowered), Counter[str]()
    for node in graph.nodes:
        inputs = node.input if node.op_type == "Concat" else node.input[:1]
        if node.op_type in MOVING and all(graph.pair(tensor) for tensor in inputs):
            handed[node.op_type] += 1
    assert handed == Counter(KINDS[op.kind] for op in wanted)
    assert lint(lowered, "tensorrt") == []
