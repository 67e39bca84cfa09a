"""What becomes of each of ONNX's operators in ncnn: a function and a row."""

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx_graphsurgeon as gs

from yoloq.base.errors import EngineError
from yoloq.engines.ncnn.net_file import Parameters, flagged, floats
from yoloq.engines.ncnn.net_state import NetState, axis_of, sizes
from yoloq.engines.ncnn.window_layers import average_pool, convolution, every_second, max_pool
from yoloq.graph.activation_nodes import activation_behind
from yoloq.graph.export import INPUT

Translate = Callable[[NetState, gs.Node], None]
TO_CHANNELS_FIRST, TO_CHANNELS_LAST = [0, 3, 1, 2], [0, 2, 3, 1]
ORDERS: dict[tuple[int, ...], int] = {  # of a Permute: which axis each of the result was
    (0, 1): 0,
    (1, 0): 1,
    **{(0, 1, 2): 0, (0, 2, 1): 1, (1, 0, 2): 2, (1, 2, 0): 3, (2, 0, 1): 4, (2, 1, 0): 5},
}
NEAREST, BILINEAR = 1, 2  # of an Interp
BINARY = {"Add": 0, "Sub": 1, "Mul": 2, "Div": 3}
TURNED = {"Sub": 7, "Div": 8}  # with the number on the left
MEAN = 3  # of a Reduction


def _quantize(state: NetState, node: gs.Node) -> None:
    """What is rounded, and how, is kept for whatever reads it."""
    scale, zero_point = (tensor.values for tensor in node.inputs[1:])
    assert zero_point.dtype == np.int8 and not zero_point.any(), "check_symmetric was asked before"
    state.pairs[node.outputs[0].name] = (node.inputs[0], float(scale))


def _dequantize(state: NetState, node: gs.Node) -> None:
    """Weights are kept for their convolution; what is read behind a pair is that pair's."""
    integers, output = node.inputs[0], node.outputs[0].name
    if isinstance(integers, gs.Constant):
        state.weights[output] = (integers.values, node.inputs[1].values)
    else:
        state.pairs[output] = state.pairs[integers.name]


def _alias(state: NetState, node: gs.Node) -> None:
    """What changes nothing: ncnn reads the image as floats."""
    state.blobs[node.outputs[0].name] = state.blob(node.inputs[0])


def _transpose(state: NetState, node: gs.Node) -> None:
    """Axes in another order; the image and the results of the network have channels first here."""
    order, blob = list(node.attrs["perm"]), state.blob(node.inputs[0])
    image = blob == INPUT and order == TO_CHANNELS_FIRST
    if image or (node.outputs[0].name in state.outputs and order == TO_CHANNELS_LAST):
        _alias(state, node)
        return
    moved = tuple(axis - 1 for axis in order[1:])
    if order[0] or moved not in ORDERS:
        raise EngineError(
            f"the ncnn engine cannot put axes in the order of {node.name}; take "
            "--engine onnxruntime"
        )
    state.emit("Permute", [blob], node, {0: ORDERS[moved]})


def _unary(kind: str, **numbers: tuple[int, float]) -> Translate:
    """A layer on each element.

    Args:
        numbers: attribute -> parameter, and its default.
    """

    def translate(state: NetState, node: gs.Node) -> None:
        parameters = {n: float(node.attrs.get(key, d)) for key, (n, d) in numbers.items()}
        state.emit(kind, [state.blob(node.inputs[0])], node, parameters)

    return translate


def _unary_op(number: int) -> Translate:
    """One of the functions that a UnaryOp has."""

    def translate(state: NetState, node: gs.Node) -> None:
        state.emit("UnaryOp", [state.blob(node.inputs[0])], node, {0: number})

    return translate


def _with_gate(kind: str, gate: str, **numbers: tuple[int, float]) -> Translate:
    """An activation that a product with its input stands behind is one layer with that."""
    alone = _unary(gate, **numbers)

    def translate(state: NetState, node: gs.Node) -> None:
        found = activation_behind(node.inputs[0])
        product = found.nodes[-1] if found and found.nodes[0] is node else node
        if product.op != "Mul" or len(node.outputs[0].outputs) > 1:
            alone(state, node)
            return
        state.taken.add(id(product))
        parameters = {n: float(node.attrs.get(key, d)) for key, (n, d) in numbers.items()}
        read = [state.blob(node.inputs[0])]
        state.emit(kind, read, node, parameters, result=product.outputs[0])

    return translate


def _clip(state: NetState, node: gs.Node) -> None:
    parameters = {at - 1: found for at in (1, 2) if (found := _bound(node, at)) is not None}
    state.emit("Clip", [state.blob(node.inputs[0])], node, parameters)


def _bound(node: gs.Node, at: int) -> float | None:
    tensor = node.inputs[at] if len(node.inputs) > at else None
    return float(tensor.values) if isinstance(tensor, gs.Constant) else None


def _prelu(state: NetState, node: gs.Node) -> None:
    slopes = node.inputs[1].values.ravel()
    read = [state.blob(node.inputs[0])]
    state.emit("PReLU", read, node, {0: len(slopes)}, floats(slopes))


def _binary(state: NetState, node: gs.Node) -> None:
    """Two blobs of one shape, or one of them repeated along axes; or a blob and a number."""
    left, right = node.inputs
    number, blob = (left, right) if isinstance(left, gs.Constant) else (right, left)
    if isinstance(number, gs.Constant) and number.values.size == 1:
        op = TURNED.get(node.op, BINARY[node.op]) if number is left else BINARY[node.op]
        parameters: Parameters = {0: op, 1: 1, 2: float(number.values.item())}
        state.emit("BinaryOp", [state.blob(blob)], node, parameters)
        return
    rank = len(node.outputs[0].shape)
    read = [_operand(state, tensor, rank, node) for tensor in node.inputs]
    state.emit("BinaryOp", read, node, {0: BINARY[node.op]})


def _operand(state: NetState, tensor: gs.Tensor, rank: int, node: gs.Node) -> str:
    """A blob; of a constant with as many axes as the result has."""
    if not isinstance(tensor, gs.Constant):
        return state.blob(tensor)
    values = tensor.values.reshape((1,) * (rank - tensor.values.ndim) + tensor.values.shape)
    return state.constant(f"{node.name}_{tensor.name}", values[0])


def _concat(state: NetState, node: gs.Node) -> None:
    axis = axis_of(node.attrs["axis"], node.outputs[0])
    state.emit("Concat", [state.blob(tensor) for tensor in node.inputs], node, {0: axis})


def _split(state: NetState, node: gs.Node) -> None:
    axis = node.attrs.get("axis", 0)
    parts = [int(part.shape[axis]) for part in node.outputs]
    parameters: Parameters = {0: parts, 1: axis_of(axis, node.inputs[0])}
    state.emit("Slice", [state.blob(node.inputs[0])], node, parameters)


def _slice(state: NetState, node: gs.Node) -> None:
    """A part of a blob, by begins, ends and steps of some axes."""
    source, result = node.inputs[0], node.outputs[0]
    given = [np.atleast_1d(tensor.values).tolist() for tensor in node.inputs[1:]]
    axes = given[2] if len(given) > 2 else range(len(given[0]))
    steps = given[3] if len(given) > 3 else [1] * len(given[0])
    starts, ends = [], []
    for axis, low, high in zip(axes, *given[:2], strict=True):
        size = source.shape[axis]
        starts.append(max(low + size, 0) if low < 0 else min(low, size))
        ends.append(max(high + size, 0) if high < 0 else min(high, size))
    places = [axis_of(axis, source) for axis in axes]
    by = dict(zip(places, steps, strict=True))
    parameters = {9: starts, 10: ends, 11: places}
    blob = state.blob(source)
    if all(step == 1 for step in steps):
        state.emit("Crop", [blob], node, parameters)
        return
    if len(source.shape) != 4 or by.get(0, 1) != 1 or min(steps) < 1:
        raise EngineError(
            f"the ncnn engine has no slice with such steps ({node.name}); take --engine onnxruntime"
        )
    state.file.add("Crop", [blob], [f"{result.name}_part"], parameters)
    every_second(state, result.name, f"{result.name}_part", (by.get(1, 1), by.get(2, 1)))
    state.blobs[result.name] = result.name


def _pad(state: NetState, node: gs.Node) -> None:
    """Zeros around a map, or what the node names."""
    low, high = np.reshape(node.inputs[1].values, (2, -1)).tolist()
    if len(low) != 4 or low[0] or high[0]:
        raise EngineError(
            f"the ncnn engine pads maps alone ({node.name}); take --engine onnxruntime"
        )
    value = _bound(node, 2) or 0.0
    sides = {0: low[2], 1: high[2], 2: low[3], 3: high[3], 5: value, 7: low[1], 8: high[1]}
    state.emit("Padding", [state.blob(node.inputs[0])], node, sides)


def _reshape(state: NetState, node: gs.Node) -> None:
    """The same numbers in another shape."""
    shape = node.outputs[0].shape
    if shape[0] != node.inputs[0].shape[0]:
        raise EngineError(
            f"the ncnn engine has one image at a time, and {node.name} gives more; take "
            "--engine onnxruntime"
        )
    state.emit("Reshape", [state.blob(node.inputs[0])], node, sizes(shape[1:]))


def _matmul(state: NetState, node: gs.Node) -> None:
    rank = len(node.outputs[0].shape)
    state.emit("MatMul", [_operand(state, t, rank, node) for t in node.inputs], node)


def _gemm(state: NetState, node: gs.Node) -> None:
    """A linear layer: x times a constant matrix, and a bias."""
    x, weight, *bias = node.inputs
    values = weight.values if node.attrs.get("transB", 0) else weight.values.T
    weights = flagged(values) + b"".join(floats(each.values) for each in bias)
    parameters = {0: len(values), 1: len(bias), 2: values.size}
    state.emit("InnerProduct", [state.blob(x)], node, parameters, weights)


def _softmax(state: NetState, node: gs.Node) -> None:
    axis = axis_of(node.attrs.get("axis", -1), node.inputs[0])
    state.emit("Softmax", [state.blob(node.inputs[0])], node, {0: axis, 1: 1})


def _mean(state: NetState, node: gs.Node) -> None:
    """The mean over axes; over a whole map where the node names none."""
    source = node.inputs[0]
    named = node.inputs[1].values if len(node.inputs) > 1 else node.attrs.get("axes", (2, 3))
    axes = [axis_of(int(axis), source) for axis in named]
    kept = int(len(node.outputs[0].shape) == len(source.shape))
    parameters: dict[int, Any] = {0: MEAN, 1: 0, 2: 1.0, 3: axes, 4: kept, 5: 1}
    state.emit("Reduction", [state.blob(source)], node, parameters)


def _resize(state: NetState, node: gs.Node) -> None:
    """The nearest pixel's value, or between those near."""
    height, width = (int(size) for size in node.outputs[0].shape[2:])
    nearest = node.attrs.get("mode", "nearest") == "nearest"
    half = "half_pixel" in node.attrs.get("coordinate_transformation_mode", "half_pixel")
    parameters: Parameters = {
        **{0: NEAREST if nearest else BILINEAR, 3: height, 4: width},
        6: int(not nearest and not half),
    }
    state.emit("Interp", [state.blob(node.inputs[0])], node, parameters)


ROWS: dict[str, Translate] = {
    "QuantizeLinear": _quantize,
    "DequantizeLinear": _dequantize,
    "Conv": convolution,
    "MaxPool": max_pool,
    "AveragePool": average_pool,
    "GlobalAveragePool": _mean,
    "ReduceMean": _mean,
    "Cast": _alias,
    "Identity": _alias,
    "Transpose": _transpose,
    "Sigmoid": _with_gate("Swish", "Sigmoid"),
    "HardSigmoid": _with_gate("HardSwish", "HardSigmoid", alpha=(0, 0.2), beta=(1, 0.5)),
    "HardSwish": _unary("HardSwish", alpha=(0, 1 / 6), beta=(1, 0.5)),
    "Relu": _unary("ReLU"),
    "LeakyRelu": _unary("ReLU", alpha=(0, 0.01)),
    "Elu": _unary("ELU", alpha=(0, 1.0)),
    "Tanh": _unary("TanH"),
    "Softplus": _unary("Softplus"),
    "Erf": _unary("Erf"),
    "Exp": _unary_op(7),
    "Sqrt": _unary_op(5),
    "Clip": _clip,
    "PRelu": _prelu,
    "Add": _binary,
    "Mul": _binary,
    "Sub": _binary,
    "Div": _binary,
    "Concat": _concat,
    "Split": _split,
    "Slice": _slice,
    "Pad": _pad,
    "Reshape": _reshape,
    "Flatten": _reshape,
    "Squeeze": _reshape,
    "Unsqueeze": _reshape,
    "MatMul": _matmul,
    "Gemm": _gemm,
    "Softmax": _softmax,
    "Resize": _resize,
}
