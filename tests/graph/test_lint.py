"""Every rule of the linter on a graph that breaks it and on one that does not."""

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
from lint_dead import (
    by_choice,
    by_padding,
    by_row,
    by_scatter,
    cast_weight,
    integer_weight_of,
    integers_out,
    kept_by_nms,
    matrix_of,
    reshaped_weight,
    rounded_weight,
    weight_of,
    widths,
    written_out,
)
from lint_draws import (
    U8,
    Draw,
    added_elsewhere,
    batch_norm,
    behind_conv,
    block,
    blocks_of_a_weight,
    bottleneck,
    branches,
    computed_scale,
    concat,
    concat_of_pairs,
    concat_read,
    conv_reading,
    conv_with,
    decoded,
    drawn,
    dynamic,
    float_batch_norm,
    float_region,
    float_weight_between_qdq,
    found,
    gate_of_channels,
    half_concat,
    handing_on,
    integer_add,
    integer_bias,
    integer_clip,
    integer_conv,
    integer_input,
    integer_silu,
    integers_joined,
    microsoft,
    moved_integers,
    one_sibling_in_float,
    pool_behind_pool,
    pool_of_integers,
    projected,
    quantized_output,
    readers,
    rounded_again,
    silu_with,
    transposed,
    two_convs,
    typed,
    typed_head,
    typed_with_shapes,
    uint8_images,
    unread,
    weight_without_zero_points,
    weight_zeros_of_another_length,
)
from lint_graphs import FLOAT, HALF, Net
from onnx import helper, numpy_helper

from yoloq.base.errors import UserError
from yoloq.graph.lint import TARGETS
from yoloq.graph.lint.table import RULES, LintFinding, lint

TENSORRT, OPENVINO, ONNXRUNTIME = TARGETS
Change = Callable[[onnx.ModelProto], onnx.ModelProto]


ROUNDED_TWICE = readers(0.1, 0.2, "Add")
# rule, level of each target where it holds, nodes, a graph that breaks it, one that does not
BOTH = {TENSORRT: "warning", ONNXRUNTIME: "error", OPENVINO: "warning"}
ERROR = dict.fromkeys(TARGETS, "error")
WARNING = dict.fromkeys(TARGETS, "warning")
T_ERROR, T_WARNING = {TENSORRT: "error"}, {TENSORRT: "warning"}
FUSED = {TENSORRT: "warning", OPENVINO: "warning"}
ORT_WARNING = {ONNXRUNTIME: "warning"}
O_WARNING = {OPENVINO: "warning"}
HALF_NET = {"float_type": HALF}
HALF_TOO_EARLY = {target: [("error", "opset-fp16", 2)] for target in TARGETS}
CASES = [
    ("zero-point", T_ERROR, 2, conv_reading(**U8), block, "uint8"),
    ("zero-point", T_ERROR, 2, conv_reading(zero=1), conv_reading(zero=0), "int8 with a shift"),
    ("zero-point", T_ERROR, 2, conv_reading(zero=None), conv_reading(), "not written"),
    (
        "zero-point",
        T_ERROR,
        2,
        weight_without_zero_points,
        conv_with(zero=None),
        "weight's Q and DQ",
    ),
    ("zero-point", T_ERROR, 2, conv_reading(dtype=np.uint8), conv_with(), "uint8 without a shift"),
    ("zero-point", T_ERROR, 1, conv_with(zero=[0, 0, 0, 1]), conv_with(zero=[0] * 4), "weight's"),
    (
        "zero-point",
        T_ERROR,
        1,
        weight_zeros_of_another_length,
        blocks_of_a_weight,
        "fewer than scales",
    ),
    ("weight-zero-point", {OPENVINO: "warning"}, 1, conv_with(zero=3), conv_with(), "scalar"),
    (
        "four-bit-weight",
        {OPENVINO: "warning"},
        1,
        blocks_of_a_weight,
        lambda n: blocks_of_a_weight(n, np.int8),
        "",
    ),
    ("scale-value", ERROR, 2, conv_reading(scale=0.0), conv_reading(scale=1e-30), "zero"),
    ("scale-value", ERROR, 2, conv_reading(scale=-0.1), conv_reading(scale=0.1), "negative"),
    ("scale-value", ERROR, 2, conv_reading(scale=np.nan), conv_reading(scale=1e30), "nan"),
    ("scale-value", ERROR, 2, conv_reading(scale=np.inf), conv_reading(), "infinite"),
    ("scale-value", ERROR, 1, conv_with(scale=[1, 1, 0, 1]), conv_with(), "a dead channel"),
    ("scale-value", ERROR, 1, dynamic(0.0), dynamic(0.1), "a dynamically quantized weight's"),
    ("scale-value", ERROR, 1, integer_conv(0.0), integer_conv(0.1), "an integer convolution's"),
    ("scale-value", ERROR, 1, cast_weight(0.0), cast_weight(0.1), "a weight's without DQ"),
    ("weight-value", ERROR, 1, weight_of(0.0), weight_of(1e-30), "zero"),
    ("weight-value", ERROR, 1, weight_of(np.nan), weight_of(1.0), "nan"),
    ("weight-value", ERROR, 1, integer_weight_of(0), integer_weight_of(1), "integers"),
    ("weight-value", ERROR, 1, rounded_weight(0.0), rounded_weight(0.1), "rounded in the graph"),
    ("weight-value", ERROR, 1, reshaped_weight(0.0), reshaped_weight(1.0), "reshaped"),
    ("weight-value", ERROR, 1, matrix_of(0.0), matrix_of(1.0), "matrix"),
    ("weight-value", ERROR, 1, matrix_of(np.inf, "Gemm"), matrix_of(1.0, "Gemm"), "Gemm"),
    ("joined-scores", ERROR, 1, decoded(0.4), decoded(0.02), "decode inside"),
    ("joined-scores", ERROR, 1, decoded(0.4, score=""), decoded(None), "no sigmoid"),
    ("joined-scores", ERROR, 1, integers_joined(0.4), integers_joined(0.02), "QLinearConcat"),
    ("joined-scores", ERROR, 1, kept_by_nms(0.8), kept_by_nms(0.02), "NMS inside"),
    (
        "joined-scores",
        ERROR,
        1,
        kept_by_nms(0.8, by_padding),
        kept_by_nms(None, by_padding),
        "pads",
    ),
    ("joined-scores", ERROR, 1, kept_by_nms(0.8, by_choice), kept_by_nms(0.02, by_choice), "Where"),
    ("joined-scores", ERROR, 1, kept_by_nms(0.8, by_scatter), kept_by_nms(0.02), "Scatter"),
    ("joined-scores", ERROR, 1, kept_by_nms(0.8, by_row), kept_by_nms(0.02, by_row), "one row"),
    ("joined-scores", ERROR, 1, kept_by_nms(0.8, score=written_out), kept_by_nms(None), "exp"),
    ("joined-scores", ERROR, 1, kept_by_nms(0.8, more="Sqrt"), kept_by_nms(0.8, score="Neg"), ""),
    (
        "joined-scores",
        ERROR,
        1,
        kept_by_nms(0.8, more="Clip"),
        kept_by_nms(0.8, score="Neg"),
        "clip",
    ),
    ("joined-scores", ERROR, 1, widths(0.4), widths(0.4, layer="Conv"), "a product behind"),
    ("joined-scores", ERROR, 1, widths(0.4), widths(0.4, layer="MatMul"), "no layer behind"),
    ("joined-scores", ERROR, 1, widths(0.1), widths(0.002, 0, np.int16), "16 bits"),
    ("coarse-output", ERROR, 1, integers_out(2.9), integers_out(0.02), "integers leave"),
    ("coarse-output", ERROR, 1, decoded(None, 2.9), decoded(None), "decoded"),
    ("coarse-output", ERROR, 1, integers_joined(2.9), integers_joined(0.02), "DQ at the end"),
    ("coarse-output", ERROR, 1, lambda n: n.model(n.pair("x", 0.6)), conv_reading(), "raw"),
    ("image-cast", T_ERROR, 1, uint8_images("Transpose"), uint8_images("Cast"), ""),
    ("far-scales", T_WARNING, 1, concat(0.1, 0.9, 0.9), concat(0.1, 0.7, 0.7), ""),
    (
        "computed-scale",
        {TENSORRT: "error", OPENVINO: "warning"},
        2,
        computed_scale,
        conv_reading(),
        "",
    ),
    ("scale-length", ERROR, 1, conv_with(scale=np.ones(3)), conv_with(scale=[0.1]), "short"),
    (
        "scale-length",
        ERROR,
        2,
        lambda n: float_weight_between_qdq(n, scale=np.ones(5)),
        float_weight_between_qdq,
        "float weight",
    ),
    ("scale-length", ERROR, 1, conv_with(axis=7), conv_with(axis=-4), "no such axis"),
    (
        "scale-length",
        ERROR,
        1,
        lambda n: blocks_of_a_weight(n, np.int8),
        blocks_of_a_weight,
        "blocks of 8 bits",
    ),
    ("scale-axis", BOTH, 1, conv_with(axis=1), transposed, "input channels"),
    ("scale-axis", BOTH, 1, conv_with(axis=-3), conv_with(axis=-4), "from the end"),
    ("activation-scale", BOTH, 2, conv_reading(scale=np.ones(4)), conv_reading(scale=[0.1]), ""),
    (
        "integer-operator",
        {TENSORRT: "error", OPENVINO: "error"},
        1,
        microsoft("QLinearAdd"),
        microsoft("Unknown"),
        "Microsoft's",
    ),
    (
        "plugin",
        T_WARNING,
        1,
        microsoft("Unknown"),
        microsoft("EfficientNMS_TRT", "TRT"),
        "not TensorRT's own",
    ),
    ("block-axis", T_ERROR, 1, blocks_of_a_weight, conv_with(), ""),
    ("bare-integers", T_ERROR, 1, cast_weight(0.1), conv_with(), ""),
    ("int32-bias", T_ERROR, 1, integer_bias, conv_reading(), ""),
    ("quantized-output", T_WARNING, 1, quantized_output, block, ""),
    ("dangling", T_WARNING, 1, unread, block, "unread"),
    ("dangling", T_WARNING, 1, integer_input, conv_reading(), "no Q"),
    ("dangling", T_WARNING, 2, pool_of_integers, moved_integers, "operator between Q and DQ"),
    (
        "batch-norm",
        {TENSORRT: "warning", ONNXRUNTIME: "warning"},
        1,
        batch_norm,
        float_batch_norm,
        "",
    ),
    ("half-quantized", WARNING, 1, lambda n: n.model(n.conv("x")), block, "weight alone"),
    (
        "half-quantized",
        FUSED,
        1,
        lambda n: n.model(n.float_conv(n.pair("x"))),
        lambda n: n.model(n.float_conv("x")),
        "input alone",
    ),
    ("half-quantized", WARNING, 1, half_concat, block, "half of a Concat"),
    ("signed-concat", O_WARNING, 1, concat_read(np.int8), concat_read(np.uint8, 128), "its Q"),
    ("signed-concat", O_WARNING, 1, concat_read(None), concat_read(np.int8, op="Add"), "branches"),
    ("half-quantized", ORT_WARNING, 1, concat_of_pairs(0.1, 0.1), float_region, "behind a Concat"),
    ("before-activation", FUSED, 1, behind_conv("Relu"), two_convs, "ReLU"),
    ("before-activation", FUSED, 1, behind_conv("HardSwish"), two_convs, "HardSwish"),
    ("before-activation", FUSED, 1, gate_of_channels(True), gate_of_channels(False), "Sigmoid"),
    (
        "before-activation",
        FUSED,
        1,
        lambda n: n.model(n.pair(n.conv(n.pair("x")))),
        two_convs,
        "at the end",
    ),
    ("inside-silu", FUSED, 1, silu_with("conv"), silu_with(), "behind Conv"),
    ("inside-silu", FUSED, 1, silu_with("sigmoid"), silu_with(), "before Sigmoid"),
    ("inside-silu", FUSED, 1, silu_with("gate"), silu_with(), "behind Sigmoid"),
    ("inside-silu", FUSED, 1, silu_with("value"), silu_with(), "on the way around"),
    ("two-scales", WARNING, 2, ROUNDED_TWICE, readers(0.1, 0.1, "Add"), ""),
    ("two-scales", WARNING, 1, rounded_again(0.1, 0.2), rounded_again(0.1, 0.1), "again"),
    ("sibling-scales", WARNING, 2, readers(0.1, 0.2), readers(0.1, 0.1), ""),
    ("sibling-scales", WARNING, 2, readers(0.1, 0.2), one_sibling_in_float, "one in float"),
    ("float-residual", T_WARNING, 1, bottleneck(), bottleneck(residual=True), ""),
    ("float-residual", T_WARNING, 1, bottleneck(late=True), bottleneck(False), "the other in int8"),
    ("float-residual", T_WARNING, 1, projected(False), projected(True), "projected"),
    ("float-residual", T_WARNING, 1, projected(False), branches, "branches"),
    ("float-residual", T_WARNING, 1, bottleneck(), added_elsewhere, "no bottleneck"),
    ("unequal-scales", T_WARNING, 1, concat(0.1, 0.2, 0.1), concat(0.1, 0.1, 0.1), "Concat"),
    ("unequal-scales", T_WARNING, 1, concat(0.1, 0.2, 0.1), concat(0.1, 0.2, None), "float reader"),
    (
        "unequal-scales",
        T_WARNING,
        1,
        concat(0.1, 0.2, 0.1, other="Relu"),
        concat(0.1, 0.1, 0.1, other="Relu"),
        "Concat beside a float reader",
    ),
    (
        "unequal-scales",
        T_WARNING,
        2,
        pool_behind_pool(0.2, "Shape"),
        pool_behind_pool(0.1, "Shape"),
        "chain whose shape is read",
    ),
    (
        "unequal-scales",
        T_WARNING,
        1,
        concat(0.1, 0.2, 0.2, True),
        concat(0.1, 0.1, 0.1, True),
        "Concat of pairs",
    ),
    (
        "unequal-scales",
        T_WARNING,
        1,
        concat_of_pairs(0.1, 0.2),
        concat_of_pairs(0.1, 0.1),
        "Concat alone",
    ),
    ("unequal-scales", T_WARNING, 2, pool_behind_pool(0.2), pool_behind_pool(0.1), "chain"),
    (
        "unequal-scales",
        T_WARNING,
        1,
        handing_on("MaxPool", 0.1, 0.2, False),
        handing_on("MaxPool", 0.1, 0.1, False),
        "MaxPool of floats",
    ),
    (
        "unequal-scales",
        T_WARNING | ORT_WARNING,
        1,
        handing_on("MaxPool", 0.1, 0.2),
        handing_on("MaxPool", 0.1, 0.1),
        "MaxPool",
    ),
    (
        "unequal-scales",
        T_WARNING | ORT_WARNING,
        1,
        handing_on("Resize", 0.1, 0.2, mode="nearest"),
        handing_on("Resize", 0.1, 0.2, mode="linear"),
        "Resize",
    ),
    ("float-output", ORT_WARNING, 1, integer_silu(conv=True), integer_silu(), ""),
    ("float-output", ORT_WARNING, 1, integer_clip("Relu"), integer_clip("Relu", zero=-128), "ReLU"),
    (
        "float-output",
        ORT_WARNING,
        1,
        integer_clip("Clip", 0, 6, scale=0.03, zero=-128),
        integer_clip("Clip", 0, 6, scale=0.02, zero=-128),
        "ReLU6",
    ),
    ("float-between", ORT_WARNING, 1, integer_silu(gate=True), integer_silu(), "Sigmoid"),
    ("float-between", ORT_WARNING, 1, integer_silu(gate=True), float_region, "float region"),
    ("float-between", ORT_WARNING, 1, integer_add(False), integer_add(True), "residual"),
]


@pytest.mark.parametrize(
    ("rule", "levels", "nodes", "bad", "good"),
    [pytest.param(*case[:5], id=f"{case[0]} {case[5]}".strip()) for case in CASES],
)
def test_rule(rule: str, levels: dict[str, str], nodes: int, bad: Draw, good: Draw) -> None:
    for target in TARGETS:
        hits = [item for item in found(bad, target) if item[1] == rule]
        assert {level for level, _, _ in hits} == {levels[target]} if target in levels else not hits
        assert sum(count for _, _, count in hits) == (nodes if target in levels else 0), target
        assert [item for item in found(good, target) if item[1] == rule] == [], target


@pytest.mark.parametrize(
    ("draw", "rule"),
    [
        pytest.param(integer_bias, "int32-bias", id="a bias has no zero-point to write"),
        pytest.param(behind_conv("Relu"), "before-activation", id="no other placement"),
        pytest.param(silu_with("conv"), "inside-silu", id="no other placement around SiLU"),
        pytest.param(ROUNDED_TWICE, "two-scales", id="no siblings"),
        pytest.param(readers(0.1, 0.2), "sibling-scales", id="nothing but siblings"),
        pytest.param(concat(0.1, 0.2, 0.2, True), "unequal-scales", id="one group"),
    ],
)
def test_one_fault_breaks_one_rule(draw: Draw, rule: str) -> None:
    assert {finding.rule for finding in lint(drawn(draw), TENSORRT)} == {rule}


def test_every_rule_has_a_case() -> None:
    elsewhere = {"opset", "opset-fp16", "fp32-node", "unknown-operator"}
    assert {rule.name for rule in RULES} == {case[0] for case in CASES} | elsewhere


@pytest.mark.parametrize("case", [pytest.param(case, id=f"{case[0]} {case[5]}") for case in CASES])
def test_graphs_are_valid(case: Any) -> None:
    for draw in case[3:5]:
        model = drawn(draw)
        for output in model.graph.output:
            output.type.tensor_type.shape.SetInParent()
        onnx.checker.check_model(model)


def without_import(domain: str) -> Change:
    """Takes the import of a domain from a model."""

    def change(model: onnx.ModelProto) -> onnx.ModelProto:
        left = [each for each in model.opset_import if each.domain != domain]
        del model.opset_import[:]
        model.opset_import.extend(left)
        return model

    return change


def in_a_branch(model: onnx.ModelProto) -> onnx.ModelProto:
    """Puts the last node into a branch of an If."""
    node = model.graph.node.pop()
    value = helper.make_tensor_value_info(node.output[0], FLOAT, None)
    branch = helper.make_graph([node], "branch", [], [value])
    condition = numpy_helper.from_array(np.array(True), "condition")
    model.graph.initializer.append(condition)
    both = {"then_branch": branch, "else_branch": branch}
    model.graph.node.append(helper.make_node("If", ["condition"], node.output, "if", **both))
    return model


@pytest.mark.parametrize(
    ("domain", "change", "refused"),
    [
        pytest.param("", without_import("none"), True, id="ONNX's own domain"),
        pytest.param("ai.onnx.ml", without_import("none"), True, id="ONNX's second domain"),
        pytest.param("TRT", without_import("TRT"), True, id="a domain that is not imported"),
        pytest.param("TRT", without_import("none"), False, id="a domain that is imported"),
        pytest.param("", in_a_branch, True, id="in a branch"),
    ],
)
@pytest.mark.parametrize("op", ["EfficientNMS_TRT", "Convolve"])
def test_the_rest_of_a_graph_with_a_plugin(
    op: str, domain: str, change: Change, refused: bool
) -> None:
    """Only the other engines refuse an operator that ONNX does not have, and all see the rest."""
    n = Net()
    model = change(n.model(n.add(op, n.conv(n.pair("x", np.nan)), domain=domain)))
    before = model.SerializeToString()
    for target in TARGETS:
        rules = {finding.rule: finding for finding in lint(model, target)}
        assert rules["scale-value"].level == "error"
        assert ("unknown-operator" in rules) == (refused and target != TENSORRT)
        assert ("plugin" in rules) == (op == "Convolve" and target == TENSORRT)
        for rule in rules.keys() & {"unknown-operator", "plugin"}:
            assert op in rules[rule].message and rules[rule].nodes
    assert model.SerializeToString() == before


@pytest.mark.parametrize("target", FUSED)
def test_the_other_name_of_the_default_domain(target: str) -> None:
    def graph(domain: str) -> onnx.ModelProto:
        n = Net()
        return n.model(n.add("Relu", n.pair(n.conv(n.pair("x"))), domain=domain))

    findings = lint(graph(""), target)
    assert findings
    assert lint(without_import("ai.onnx")(graph("ai.onnx")), target) == findings


@pytest.mark.parametrize("target", [TENSORRT, OPENVINO])
def test_a_network_as_it_should_be_has_no_finding(target: str) -> None:
    assert found(block, target) == []
    assert found(bottleneck(residual=True), target) == []
    rules = {rule for _, rule, _ in found(concat(0.1, 0.1, 0.1), target)}
    assert rules == ({"signed-concat"} if target == OPENVINO else set())


def test_a_network_as_onnxruntime_wants_it_has_no_finding() -> None:
    assert found(integer_silu(), ONNXRUNTIME) == []


@pytest.mark.parametrize("target", TARGETS)
def test_a_float_network_has_no_finding(target: str) -> None:
    assert found(lambda n: n.model(n.silu(n.float_conv("x"))), target) == []
    assert found(lambda n: n.model(n.silu(n.float_conv("x"))), target, opset=9) == []
    assert found(float_batch_norm, target, opset=11) == []


@pytest.mark.parametrize(
    ("opset", "options", "expected"),
    [
        pytest.param(12, {}, {TENSORRT: [("error", "opset", 0)]}, id="no axis yet"),
        pytest.param(13, {}, {}, id="axis"),
        pytest.param(18, HALF_NET, HALF_TOO_EARLY, id="FP16"),
        pytest.param(19, HALF_NET, {}, id="FP16 in time"),
    ],
)
def test_opset(
    opset: int, options: dict[str, Any], expected: dict[str, list[tuple[str, str, int]]]
) -> None:
    def draw(n: Net) -> onnx.ModelProto:
        return n.model(n.pair(n.add("Cast", "x", to=FLOAT if not options else HALF)))

    for target in TARGETS:
        assert found(draw, target, opset=opset, **options) == expected.get(target, [])


@pytest.mark.parametrize(
    ("draw", "nodes"),
    [
        pytest.param(typed(), 0, id="FP32 image and decode"),
        pytest.param(typed_with_shapes, 0, id="FP32 shapes"),
        pytest.param(typed(FLOAT), 1, id="FP32 scale"),
        pytest.param(typed(middle="Exp"), 2, id="FP32 in the middle"),
        pytest.param(typed_head, 1, id="FP32 convolution at the end"),
    ],
)
def test_fp32_in_a_typed_model(draw: Draw, nodes: int) -> None:
    findings = [f for f in lint(drawn(draw, **HALF_NET), TENSORRT) if f.rule == "fp32-node"]
    assert sum(len(finding.nodes) for finding in findings) == nodes
    assert all(finding.level == "warning" for finding in findings)
    for target in (OPENVINO, ONNXRUNTIME):
        assert "fp32-node" not in {f.rule for f in lint(drawn(draw, **HALF_NET), target)}


def test_fp32_weights_behind_dq_are_named() -> None:
    def draw(n: Net) -> onnx.ModelProto:
        scale = n.constant(np.full(4, 0.01), np.float32)
        integers = n.constant(np.ones((4, 4, 1, 1)), np.int8)
        weight = n.add("Cast", n.add("DequantizeLinear", integers, scale, axis=0), to=HALF)
        return n.model(n.conv(n.pair(n.add("Cast", "x", to=HALF)), weight), types=[HALF])

    [finding] = [f for f in lint(drawn(draw, **HALF_NET), TENSORRT) if f.rule == "fp32-node"]
    assert finding.message == "DequantizeLinear in FP32"


def test_a_finding_names_its_nodes_and_the_fix() -> None:
    assert lint(drawn(bottleneck()), TENSORRT) == [
        LintFinding(
            "warning",
            "float-residual",
            ("Add_15",),
            "residual input is float",
            "let the Q/DQ of the bottleneck's input serve the Add as well",
        )
    ]


def test_scales_are_named() -> None:
    [finding] = lint(drawn(readers(0.1, 0.2)), TENSORRT)
    assert finding.message == "they read one tensor with scales 0.1, 0.2"


def test_errors_come_first_and_equal_places_are_one_finding() -> None:
    def draw(n: Net) -> onnx.ModelProto:
        return n.model(*(n.conv("x") for _ in range(5)), n.dq(n.q("x", 0.0), 0.0))

    levels = [(f.level, len(f.nodes)) for f in lint(drawn(draw), TENSORRT)]
    assert levels == [("error", 2), ("warning", 5)]


def test_an_unknown_target_is_named() -> None:
    with pytest.raises(UserError, match=r"--target tensorrt8: not one of tensorrt, openvino, onnx"):
        lint(drawn(block), "tensorrt8")
