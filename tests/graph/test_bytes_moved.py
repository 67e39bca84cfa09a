"""Bytes moved in another way: the same results bit for bit, and fewer operators in the way."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper
from onnx_graphs import fused_operators, run
from shallow_net import POLICIES, shallow
from tiny_quant import pictures, tiny_quantized

from yoloq.graph.bytes_moved import in_pairs, move_bytes
from yoloq.graph.export import INPUT, export_float
from yoloq.graph.integer import lower_integer
from yoloq.quant.spec import QuantSpec

pytestmark = pytest.mark.usefixtures("one_thread")

FLOAT, BYTE = onnx.TensorProto.FLOAT, onnx.TensorProto.UINT8


def test_pairs_lie_column_colour_row() -> None:
    weight = np.arange(12, dtype=np.int8).reshape(1, 3, 2, 2)  # of colour c, row r: 4c + 2r, + 1
    assert in_pairs(weight, [0, 0]).ravel().tolist() == [0, 2, 4, 6, 8, 10, 1, 3, 5, 7, 9, 11]


def test_pairs_begin_one_earlier_where_the_padding_is_odd() -> None:
    weight = np.arange(1, 10, dtype=np.int8).reshape(1, 1, 3, 3)
    top_left, top_right, bottom_left, bottom_right = in_pairs(weight, [1, 1])[0].reshape(4, 4).T
    assert top_left.tolist() == [0, 0, 0, 1]  # even column: even row, odd row; odd column
    assert top_right.tolist() == [0, 2, 0, 3]
    assert bottom_left.tolist() == [0, 0, 4, 7]
    assert bottom_right.tolist() == [5, 8, 6, 9]


@pytest.mark.parametrize("kernel", [(1, 1), (2, 2), (3, 3), (4, 4), (5, 3), (6, 6), (7, 7)])
@pytest.mark.parametrize("pads", [(0, 0), (1, 1), (2, 2), (3, 0)])
def test_first_convolution_over_pairs_is_the_same(
    kernel: tuple[int, int], pads: tuple[int, int]
) -> None:
    plain = first_convolution(kernel, pads, scale=1.0)
    moved = move_bytes(plain)
    assert "Cast" not in operators(moved)
    images = np.random.default_rng(1).integers(0, 256, (1, 16, 12, 3), np.uint8)
    (wanted,), (found,) = run(plain, images), run(moved, images)
    assert np.array_equal(wanted, found)


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"scale": 2.0}, "bytes change"),
        ({"stride": 1}, "pixel by pixel"),
        ({"dilation": 2}, "gaps between rows"),
        ({"size": (15, 12)}, "an odd row"),
    ],
)
def test_other_first_convolutions_keep_their_form(options: dict[str, object], why: str) -> None:
    plain = first_convolution((3, 3), (1, 1), **options)  # type: ignore[arg-type]
    moved = move_bytes(plain)
    makers = {out: node.op_type for node in moved.graph.node for out in node.output}
    (cast,) = (node for node in moved.graph.node if node.op_type == "Cast")
    assert makers[cast.input[0]] == "Transpose", why
    images = np.random.default_rng(1).integers(0, 256, (1, *options.get("size", (16, 12)), 3))  # type: ignore[misc]
    (wanted,), (found,) = run(plain, images.astype(np.uint8)), run(moved, images.astype(np.uint8))
    assert np.array_equal(wanted, found)


@pytest.mark.parametrize("name", ["everything", "asymmetric", "float stem and head", "nothing"])
@pytest.mark.parametrize("stem", ["conv", "focus"])
def test_networks_are_the_same(name: str, stem: str) -> None:
    net, ranges = shallow(POLICIES[name], stem)
    plain = lower_integer(export_float(net, 64), net, ranges)
    for wanted, found in zip(
        run(plain, pictures(2)), run(move_bytes(plain), pictures(2)), strict=True
    ):
        assert np.array_equal(wanted, found)


def test_whole_network_has_integers_as_before(tmp_path: Path) -> None:
    quantized = tiny_quantized(float_first=0, activation=QuantSpec(symmetric=False))
    net = quantized.model.net
    plain = lower_integer(export_float(net, 64), net, quantized.outputs)
    moved = move_bytes(plain)
    before, after = (fused_operators(model, tmp_path) for model in (plain, moved))
    assert (before["Resize"], after["Resize"], after["Expand"]) == (2, 0, 2)
    assert (before["Cast"], after["Cast"]) == (1, 0)
    same = ("QLinearConv", "Conv", "QLinearSigmoid", "QLinearMul", "QLinearConcat", "QLinearAdd")
    assert [before[name] for name in same] == [after[name] for name in same]
    assert after["QuantizeLinear"] == before["QuantizeLinear"] - 1, "that of the image"
    for wanted, found in zip(run(plain, pictures(1)), run(moved, pictures(1)), strict=True):
        assert np.array_equal(wanted, found)


def operators(model: onnx.ModelProto) -> list[str]:
    """In their order."""
    return [node.op_type for node in model.graph.node]


def first_convolution(
    kernel: tuple[int, int],
    pads: tuple[int, int],
    scale: float = 1.0,
    stride: int = 2,
    dilation: int = 1,
    size: tuple[int, int] = (16, 12),
) -> onnx.ModelProto:
    """Cast, Transpose, Q/DQ and a convolution with an integer weight, of an image."""
    weight = np.random.default_rng(0).integers(-127, 128, (4, 3, *kernel), np.int8)
    constants = {
        "scale": np.array(scale, np.float32),
        "zero": np.array(0, np.uint8),
        "weight": weight,
        "weight_scale": np.float32([0.5, 1, 2, 4]),
        "weight_zero": np.zeros(4, np.int8),
    }
    about = {"strides": [stride] * 2, "pads": [*pads, *pads], "kernel_shape": list(kernel)}
    chain = [
        ("Cast", [INPUT], {"to": FLOAT}),
        ("Transpose", ["t0"], {"perm": [0, 3, 1, 2]}),
        ("QuantizeLinear", ["t1", "scale", "zero"], {}),
        ("DequantizeLinear", ["t2", "scale", "zero"], {}),
        ("DequantizeLinear", ["weight", "weight_scale", "weight_zero"], {"axis": 0}),
        ("Conv", ["t3", "t4"], about | {"dilations": [dilation] * 2, "group": 1}),
        ("Transpose", ["t5"], {"perm": [0, 2, 3, 1]}),
    ]
    nodes = [
        helper.make_node(op, inputs, [f"t{at}"], name=f"/net/{op}{at}", **attributes)
        for at, (op, inputs, attributes) in enumerate(chain)
    ]
    graph = helper.make_graph(
        nodes,
        "first",
        [helper.make_tensor_value_info(INPUT, BYTE, [1, *size, 3])],
        [helper.make_tensor_value_info("t6", FLOAT, None)],
        [numpy_helper.from_array(values, name) for name, values in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=9)


def test_a_resize_of_unknown_size_stays() -> None:
    """The sizes of a network with chunks are names behind the first of them."""
    quantized = tiny_quantized("yolov8n")
    net = quantized.model.net
    model = lower_integer(export_float(net, 64), net, quantized.outputs)
    images = pictures(2)
    for found, wanted in zip(run(move_bytes(model), images), run(model, images), strict=True):
        assert np.array_equal(found, wanted)
