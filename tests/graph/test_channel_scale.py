"""One scale a weight and a factor behind the convolution: the same numbers in another form."""

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx_graphs import LEVELS

from yoloq.graph.channel_scale import scale_behind

SCALES = np.array([0.5, 0.125, 2.0, 0.25], np.float16)  # whose quotients FP16 holds exactly
FACTORS = [4.0, 1.0, 16.0, 2.0]


def graph(scales, bias: bool, input_pair: bool = True) -> onnx.ModelProto:
    """A quantized convolution of 3 to 4 channels, with FP16 around it."""
    draw = np.random.default_rng(0)
    values = {
        "weight": draw.integers(-127, 128, (4, 3, 3, 3)).astype(np.int8),
        "scale": np.asarray(scales, np.float16),
        "zero": np.zeros(np.shape(scales), np.int8),
        "x_scale": np.array(0.25, np.float16),
        "x_zero": np.array(0, np.int8),
        "bias": np.array([1, -2, 3, 0.5], np.float16),
    }
    axis = {"axis": 0} if np.ndim(scales) else {}
    pair = [
        helper.make_node("QuantizeLinear", ["x", "x_scale", "x_zero"], ["q"], "x_Q"),
        helper.make_node("DequantizeLinear", ["q", "x_scale", "x_zero"], ["d"], "x_DQ"),
    ]
    read = ["d" if input_pair else "x", "w", *(["bias"] if bias else [])]
    nodes = [
        *(pair if input_pair else []),
        helper.make_node("DequantizeLinear", ["weight", "scale", "zero"], ["w"], "w_DQ", **axis),
        helper.make_node("Conv", read, ["y"], "/net/c/Conv"),
    ]
    ends = [
        helper.make_tensor_value_info("x", TensorProto.FLOAT16, [1, 3, 8, 8]),
        helper.make_tensor_value_info("y", TensorProto.FLOAT16, [1, 4, 6, 6]),
    ]
    used = {name for node in nodes for name in node.input}
    constants = [numpy_helper.from_array(v, k) for k, v in values.items() if k in used]
    made = helper.make_graph(nodes, "g", ends[:1], ends[1:], constants)
    opset = [helper.make_opsetid("", 19)]
    return helper.make_model(made, opset_imports=opset, ir_version=9)


def run(model: onnx.ModelProto) -> np.ndarray:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = LEVELS.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model.SerializeToString(), options)
    x = np.random.default_rng(1).normal(size=(1, 3, 8, 8)).astype(np.float16)
    return session.run(None, {"x": x})[0].astype(np.float64)


def values(model: onnx.ModelProto, end: str) -> np.ndarray:
    [found] = [t for t in model.graph.initializer if t.name.endswith(end)]
    return numpy_helper.to_array(found)


@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no bias"])
def test_the_numbers_are_the_same(bias: bool) -> None:
    before = graph(SCALES, bias)
    after = scale_behind(before)
    operators = [node.op_type for node in after.graph.node]
    assert operators.count("Mul") == 1 and operators.count("Add") == int(bias)
    assert values(after, "Conv_factor_values").ravel().tolist() == FACTORS
    [dequantize] = [node for node in after.graph.node if node.name == "w_DQ"]
    scale = {t.name: t for t in after.graph.initializer}[dequantize.input[1]]
    assert numpy_helper.to_array(scale) == 0.125 and not dequantize.attribute
    [conv] = [node for node in after.graph.node if node.op_type == "Conv"]
    assert conv.name == "/net/c/Conv" and len(conv.input) == 2
    wanted = run(before)
    assert np.abs(run(after) - wanted).max() <= 2**-10 * np.abs(wanted).max()


@pytest.mark.parametrize(
    ("scales", "pair"), [(0.5, True), (SCALES, False)], ids=["one scale", "floats in"]
)
def test_what_stays_as_it_is(scales, pair: bool) -> None:
    before = graph(scales, True, pair)
    after = scale_behind(before)
    assert sorted(node.op_type for node in after.graph.node) == sorted(
        node.op_type for node in before.graph.node
    )
    assert np.array_equal(run(after), run(before))


def test_the_given_graph_is_not_changed() -> None:
    before = graph(SCALES, True)
    kept = before.SerializeToString()
    scale_behind(before)
    assert before.SerializeToString() == kept
