"""Q/DQ graphs against the fake quantizers that they stand for."""

from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from onnx_graphs import Lookup, run
from rounding import APART, CHANCE, MANY, typical
from shallow_net import ALL, POLICIES, SYMMETRIC, outputs, shallow
from tiny_quant import as_input, pictures, signal_to_noise, tiny_model, tiny_quantized
from torch import nn

from yoloq.base.errors import PolicyError
from yoloq.engines.predictor import by_one
from yoloq.graph.export import export_float
from yoloq.graph.integer import lower_integer
from yoloq.graph.lint.table import lint
from yoloq.graph.lower import lower_minimal, lower_tensorrt
from yoloq.models import FAMILIES
from yoloq.quant.modules import QuantAdd, quantizers, switched
from yoloq.quant.policy import Policy, Rule, conv_layers
from yoloq.quant.spec import WEIGHT, QuantSpec
from yoloq.quant.trace import joined

pytestmark = pytest.mark.usefixtures("one_thread")

MOVING = ("Concat", "MaxPool", "Resize")
# Rounding at a tie may go either way where float sums are ordered differently, and a deep network
# spreads one such step over everything behind it until all rounding has been drawn anew. So a
# shallow network shows that a graph computes what is simulated, and a whole one that it is as good.


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


@pytest.mark.parametrize("lower", [lower_minimal, lower_tensorrt])
def test_the_image_is_cast_before_its_channels_move(lower: Any) -> None:
    for policy in (None, POLICIES["concat"]):
        net, _ = shallow(policy)
        graph = lower(export_float(net, 64), net).graph
        (cast,) = (node for node in graph.node if graph.input[0].name in node.input)
        (transpose,) = (node for node in graph.node if cast.output[0] in node.input)
        assert (cast.op_type, transpose.op_type) == ("Cast", "Transpose")


@pytest.mark.parametrize("name", sorted(POLICIES.keys() - SYMMETRIC.keys()))
def test_zero_points_are_refused_for_tensorrt(name: str) -> None:
    net, _ = shallow(POLICIES[name])
    model = export_float(net, 64)
    with pytest.raises(PolicyError, match=r"conv: its input has a zero-point") as caught:
        lower_tensorrt(model, net)
    assert "make ptq ENGINE=tensorrt" in str(caught.value)
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
