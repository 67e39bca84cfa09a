"""ONNX graphs of an operator or two on an image, which runtimes have to compute alike."""

from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from yoloq.graph.export import INPUT, OPSET

SIDE = 8
RANDOM = np.random.default_rng(0)
IMAGES = RANDOM.integers(0, 256, (2, SIDE, SIDE, 3), np.uint8)
Step = tuple[str, list[str], dict[str, Any]]  # operator, what it reads, attributes


def weight(*shape: int) -> NDArray[np.float32]:
    return RANDOM.normal(size=shape).astype(np.float32)


def ints(*values: int) -> NDArray[np.int64]:
    return np.array(values, np.int64)


CONSTANTS = {
    **{"w3": weight(4, 3, 3, 3), "w6": weight(4, 3, 6, 6), "each": weight(6, 1, 3, 3)},
    **{"grouped": weight(6, 2, 1, 1), "six": weight(6, 3, 1, 1), "bias": weight(4)},
    **{"slope": weight(3, 1, 1), "row": weight(3, 1, 1), "matrix": weight(64, 5)},
    **{"linear": weight(5, 192), "five": weight(5), "zero": np.float32(0)},
    **{"half": np.float32(0.5), "top": np.float32(6), "low": np.float32(-0.25)},
    **{"flat": ints(1, 3, 64), "line": ints(1, 192), "sizes": ints(1, 2), "two": ints(2)},
    **{"begin": ints(1, 0), "end": ints(-1, 1 << 40), "axes": ints(2, 3), "by": ints(2, 1)},
    **{"twice": np.array([1, 1, 2, 2], np.float32), "thrice": np.array([1, 1, 3, 3], np.float32)},
    **{"around": ints(0, 0, 1, 0, 0, 0, 2, 3)},
    **{"map": ints(2, 3), "last": ints(2)},
}
NEAREST = {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
POOL = {"kernel_shape": [3, 3], "strides": [1, 1], "pads": [1, 1, 1, 1]}
CASES: dict[str, list[Step]] = {
    "conv": [("Conv", ["x", "w3", "bias"], {"pads": [1, 1, 1, 1]})],
    "conv, no bias": [("Conv", ["x", "w3"], {})],
    "conv, stride": [("Conv", ["x", "w3", "bias"], {"pads": [1] * 4, "strides": [2, 2]})],
    "conv, stem": [("Conv", ["x", "w6", "bias"], {"pads": [2] * 4, "strides": [2, 2]})],
    "conv, dilated": [("Conv", ["x", "w3", "bias"], {"pads": [2] * 4, "dilations": [2, 2]})],
    "conv, pads of one side": [("Conv", ["x", "w3", "bias"], {"pads": [0, 1, 2, 0]})],
    "conv, groups": [
        ("Conv", ["x", "six"], {}),
        ("Conv", ["", "grouped"], {"group": 3}),
    ],
    "conv, filters for each channel": [
        ("Conv", ["x", "each"], {"group": 3, "pads": [1] * 4, "strides": [2, 2]})
    ],
    "conv, relu": [("Conv", ["x", "w3", "bias"], {}), ("Relu", [""], {})],
    "conv, relu6": [("Conv", ["x", "w3", "bias"], {}), ("Clip", ["", "zero", "top"], {})],
    "maximum": [("MaxPool", ["x"], POOL)],
    "maximum of two": [("MaxPool", ["x"], {"kernel_shape": [2, 2], "strides": [2, 2]})],
    "maximum, pads of one side": [("MaxPool", ["x"], {**POOL, "pads": [0, 0, 2, 2]})],
    "average": [("AveragePool", ["x"], {"kernel_shape": [2, 2], "strides": [2, 2]})],
    "average with pads": [("AveragePool", ["x"], {**POOL, "count_include_pad": 1})],
    "average of all": [("GlobalAveragePool", ["x"], {})],
    "mean": [("ReduceMean", ["x", "map"], {"keepdims": 1})],
    "mean without its axes": [("ReduceMean", ["x", "map"], {"keepdims": 0})],
    "sigmoid": [("Sigmoid", ["x"], {})],
    "relu": [("Relu", ["x"], {})],
    "leaky relu": [("LeakyRelu", ["x"], {"alpha": 0.1})],
    "hardswish": [("HardSwish", ["x"], {})],
    "hardsigmoid": [("HardSigmoid", ["x"], {"alpha": 0.3, "beta": 0.4})],
    "tanh": [("Tanh", ["x"], {})],
    "elu": [("Elu", ["x"], {})],
    "softplus": [("Softplus", ["x"], {})],
    "erf": [("Erf", ["x"], {})],
    "prelu": [("PRelu", ["x", "slope"], {})],
    "clip": [("Clip", ["x", "low", "half"], {})],
    "clip from below": [("Clip", ["x", "low"], {})],
    "exp, sqrt": [("Exp", ["x"], {}), ("Sqrt", [""], {})],
    "add, a value of each channel": [("Add", ["x", "row"], {})],
    "mul by a number": [("Mul", ["x", "half"], {})],
    "a number less": [("Sub", ["half", "x"], {})],
    "div": [("Div", ["x", "half"], {})],
    "concat of channels": [("Concat", ["x", "x"], {"axis": 1})],
    "concat of rows": [("Concat", ["x", "x"], {"axis": -2})],
    "split": [("Split", ["x", "sizes"], {"axis": 1})],
    "slice": [("Slice", ["x", "begin", "end", "axes"], {})],
    "slice with steps": [("Slice", ["x", "begin", "end", "axes", "by"], {})],
    "nearest, twice": [("Resize", ["x", "", "twice"], {"mode": "nearest", **NEAREST})],
    "nearest, thrice": [("Resize", ["x", "", "thrice"], {"mode": "nearest", **NEAREST})],
    "bilinear": [("Resize", ["x", "", "twice"], {"mode": "linear"})],
    "pads": [("Pad", ["x", "around"], {})],
    "pads of a value": [("Pad", ["x", "around", "half"], {})],
    "transpose": [("Transpose", ["x"], {"perm": [0, 2, 1, 3]})],
    "transpose, conv": [
        ("Transpose", ["x"], {"perm": [0, 1, 3, 2]}),
        ("Conv", ["", "w3", "bias"], {}),
    ],
    "reshape, product, softmax": [
        ("Reshape", ["x", "flat"], {}),
        ("MatMul", ["", "matrix"], {}),
        ("Softmax", [""], {"axis": 1}),
    ],
    "linear": [
        ("Reshape", ["x", "line"], {}),
        ("Gemm", ["", "linear", "five"], {"transB": 1}),
    ],
    "unsqueeze, squeeze": [("Unsqueeze", ["x", "last"], {}), ("Squeeze", ["", "last"], {})],
    "softmax of channels": [("Softmax", ["x"], {"axis": 1})],
    "other axes beside each other": [
        ("Transpose", ["x"], {"perm": [0, 1, 3, 2]}),
        ("Add", ["", "x"], {}),
    ],
}


def operator_graph(steps: list[Step]) -> onnx.ModelProto:
    """A graph that makes floats in -1..1 of an image and leads them through steps; "" is the last.

    A step of a blank name reads what the step before wrote; before the first that is `x`.
    """
    nodes = [
        helper.make_node("Cast", [INPUT], ["pixels"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["pixels"], ["moved"], perm=[0, 3, 1, 2]),
        helper.make_node("Mul", ["moved", "scale"], ["scaled"]),
        helper.make_node("Sub", ["scaled", "one"], ["x"]),
    ]
    for number, (op, read, attributes) in enumerate(steps):
        before = f"y{number - 1}"
        inputs = [name or (before if place == 0 else "") for place, name in enumerate(read)]
        nodes.append(helper.make_node(op, inputs, [f"y{number}"], f"step{number}", **attributes))
    if steps[-1][0] == "Split":
        nodes[-1].output.append("rest")
    used = {name for node in nodes for name in node.input}
    values = {**CONSTANTS, "scale": np.float32(1 / 128), "one": np.float32(1)}
    made = [numpy_helper.from_array(np.asarray(v), n) for n, v in values.items() if n in used]
    image = helper.make_tensor_value_info(INPUT, TensorProto.UINT8, [1, SIDE, SIDE, 3])
    result = helper.make_tensor_value_info(nodes[-1].output[-1], TensorProto.FLOAT, None)
    whole = helper.make_graph(nodes, "steps", [image], [result], made)
    model = helper.make_model(whole, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=9)
    return onnx.shape_inference.infer_shapes(model, strict_mode=True)


def in_onnx_runtime(model: onnx.ModelProto, image: NDArray[np.uint8]) -> NDArray[Any]:
    """The result of a graph on an image."""
    session = onnxruntime.InferenceSession(model.SerializeToString())
    return session.run(None, {INPUT: image})[0]
