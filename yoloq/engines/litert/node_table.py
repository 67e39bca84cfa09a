"""What becomes of each of ONNX's operators in a .tflite file: a function and a row."""

from collections.abc import Callable, Sequence

import numpy as np
import onnx_graphsurgeon as gs

from yoloq.engines.litert.convolution import LAST, average_pool, convolution, max_pool
from yoloq.engines.litert.graph_state import FIXED, GraphState, Order, Value
from yoloq.engines.litert.tflite_file import NONE, Options

Translate = Callable[[GraphState, gs.Node], None]
FAR = 1 << 30  # an end of a slice beyond every axis


def _quantize(state: GraphState, node: gs.Node) -> None:
    """A tensor as integers; a sigmoid's stay in the only steps that it can write."""
    tensor = node.inputs[0]
    value = state.value(tensor)
    sigmoid = any(maker.op == "Sigmoid" for maker in tensor.inputs)
    if not (sigmoid and value.steps == FIXED[state.bits]):
        value = state.integers(value, state.steps(node))
    state.values[node.outputs[0].name] = value


def _dequantize(state: GraphState, node: gs.Node) -> None:
    """Weights are kept for their convolution; other integers are read as such."""
    integers, output = node.inputs[0], node.outputs[0].name
    if isinstance(integers, gs.Constant):
        state.weights[output] = (integers.values, node.inputs[1].values)
    else:
        state.values[output] = state.value(integers)


def _alias(state: GraphState, node: gs.Node) -> None:
    """What changes nothing: the cast of the image, whose integers are read as they are."""
    state.values[node.outputs[0].name] = state.value(node.inputs[0])


def _transpose(state: GraphState, node: gs.Node) -> None:
    """Axes get other numbers; the tensor stays where it is."""
    value, axes = state.value(node.inputs[0]), list(node.attrs["perm"])
    order = tuple(axes.index(axis) for axis in value.order)
    state.values[node.outputs[0].name] = Value(value.number, order, value.steps)


def _unary(operator: str) -> Translate:
    """An operator on each element, in integers where it can be."""

    def translate(state: GraphState, node: gs.Node) -> None:
        steps, x = state.computed(node), state.value(node.inputs[0])
        x = state.real(x) if steps is None else x
        state.emit(operator, [x], node.outputs[0], x.order, steps, _slope(node))

    return translate


def _slope(node: gs.Node) -> Options:
    """That of a leaky ReLU, the only such operator with options."""
    if node.op != "LeakyRelu":
        return NONE
    return "LeakyReluOptions", {"alpha": node.attrs.get("alpha", 0.01)}


def _binary(operator: str) -> Translate:
    """An operator on two tensors of one shape, or with one of them repeated along axes."""

    def translate(state: GraphState, node: gs.Node) -> None:
        steps = state.computed(node)
        order = _common(state, node)
        inputs = [_operand(state, tensor, order, steps is None) for tensor in node.inputs]
        state.emit(operator, inputs, node.outputs[0], order, steps)

    return translate


def _common(state: GraphState, node: gs.Node) -> Order:
    """The order of the axes of a result: that of what is read, where all have as many."""
    read = [t for t in node.inputs if not isinstance(t, gs.Constant)]
    orders = [state.value(tensor).order for tensor in read]
    rank = len(node.outputs[0].shape)
    return orders[0] if all(len(o) == rank for o in orders) else tuple(range(rank))


def _operand(state: GraphState, tensor: gs.Tensor, order: Order, real: bool) -> Value:
    if isinstance(tensor, gs.Constant):
        values = np.asarray(tensor.values)
        whole = values.reshape((1,) * (len(order) - values.ndim) + values.shape)
        return state.constant(tensor.name, whole.transpose(order))
    value = state.value(tensor)
    rank = len(value.order)
    value = state.reordered(value, order if rank == len(order) else tuple(range(rank)))
    return state.real(value) if real else value


def _concat(state: GraphState, node: gs.Node) -> None:
    """In the integers that everything reads, or in those that all parts are in, else in floats."""
    values = [state.value(tensor) for tensor in node.inputs]
    order = values[0].order
    parts = [state.reordered(value, order) for value in values]
    alike = len({part.steps for part in parts}) == 1
    steps = state.computed(node) or (parts[0].steps if alike else None)
    read = [state.real(each) if steps is None else state.integers(each, steps) for each in parts]
    axis = order.index(node.attrs["axis"] % len(order))
    joined = ("ConcatenationOptions", {"axis": axis})
    state.emit("CONCATENATION", read, node.outputs[0], order, steps, joined)


def _split(state: GraphState, node: gs.Node) -> None:
    """Parts along an axis, of any sizes."""
    x = state.value(node.inputs[0])
    axis = x.order.index(node.attrs.get("axis", 0) % len(x.order))
    begin = 0
    for part in node.outputs:
        size = part.shape[node.attrs.get("axis", 0)]
        starts, ends = [0] * len(x.order), list(state.file.shape(x.number))
        starts[axis], ends[axis] = begin, begin + size
        begin += size
        _sliced(state, x, part, starts, ends, [1] * len(x.order))


def _slice(state: GraphState, node: gs.Node) -> None:
    """A part of a tensor, by begins, ends and steps of some axes."""
    x = state.value(node.inputs[0])
    shape = state.file.shape(x.number)
    starts, ends, strides = [0] * len(shape), list(shape), [1] * len(shape)
    given = [list(np.atleast_1d(tensor.values)) for tensor in node.inputs[1:]]
    axes = given[2] if len(given) > 2 else range(len(given[0]))
    for position, axis in enumerate(axes):
        at = x.order.index(int(axis) % len(shape))
        size = shape[at]
        low, high = (int(given[side][position]) for side in (0, 1))
        starts[at] = max(low + size, 0) if low < 0 else min(low, size)
        ends[at] = max(high + size, 0) if high < 0 else min(high, size)
        strides[at] = int(given[3][position]) if len(given) > 3 else 1
    _sliced(state, x, node.outputs[0], starts, ends, strides)


def _sliced(
    state: GraphState,
    x: Value,
    result: gs.Tensor,
    starts: Sequence[int],
    ends: Sequence[int],
    strides: Sequence[int],
) -> None:
    places = zip(("begin", "end", "strides"), (starts, ends, strides), strict=True)
    numbers = [state.numbers(f"{result.name}_{what}", values) for what, values in places]
    options = ("StridedSliceOptions", dict[str, int]())
    state.emit("STRIDED_SLICE", [x, *numbers], result, x.order, x.steps, options)


def _pad(state: GraphState, node: gs.Node) -> None:
    """Zeros around a map, or what the node names."""
    x, result, given = state.value(node.inputs[0]), node.outputs[0], node.inputs[1].values
    pads = np.reshape(given, (2, -1)).T[list(x.order)].astype(np.int32)
    value = _bound(node, 2) or 0.0
    x = state.real(x) if value else x
    read = [x, state.constant(f"{result.name}_pads", pads)]
    if value:
        read.append(state.constant(f"{result.name}_value", np.array(value, np.float32)))
    state.emit("PADV2" if value else "PAD", read, result, x.order, x.steps)


def _reshape(state: GraphState, node: gs.Node) -> None:
    """The same numbers in another shape, which counts axes as the graph has them."""
    x, result = state.plain(node.inputs[0]), node.outputs[0]
    shape = [int(size) for size in result.shape]
    inputs = [x, state.numbers(f"{result.name}_shape", shape)]
    order = tuple(range(len(shape)))
    state.emit("RESHAPE", inputs, result, order, x.steps, ("ReshapeOptions", {"newShape": shape}))


def _matmul(state: GraphState, node: gs.Node) -> None:
    """A product of matrices, in floats."""
    inputs = [state.real(state.plain(tensor)) for tensor in node.inputs]
    order = tuple(range(len(node.outputs[0].shape)))
    state.emit("BATCH_MATMUL", inputs, node.outputs[0], order)


def _gemm(state: GraphState, node: gs.Node) -> None:
    """A linear layer, in floats: x times a constant matrix, and a bias."""
    x, weight, *bias = node.inputs
    values = weight.values if node.attrs.get("transB", 0) else weight.values.T
    name, count = node.outputs[0].name, len(values)
    offset = bias[0].values if bias else np.zeros(count, np.float32)
    inputs = [
        state.real(state.value(x, (0, 1))),
        state.constant(f"{name}_weight", values),
        state.constant(f"{name}_bias", offset),
    ]
    state.emit("FULLY_CONNECTED", inputs, node.outputs[0], (0, 1))


def _softmax(state: GraphState, node: gs.Node) -> None:
    """LiteRT's is along the last axis, in floats."""
    x = state.value(node.inputs[0])
    rank = len(x.order)
    axis = node.attrs.get("axis", -1) % rank
    order = (*(each for each in range(rank) if each != axis), axis)
    x = state.real(state.reordered(x, order))
    state.emit("SOFTMAX", [x], node.outputs[0], order, None, ("SoftmaxOptions", {"beta": 1.0}))


def _mean(state: GraphState, node: gs.Node) -> None:
    """The mean over axes, in floats; over a whole map where the node names none."""
    x, result = state.value(node.inputs[0]), node.outputs[0]
    rank = len(x.order)
    named = node.inputs[1].values if len(node.inputs) > 1 else node.attrs.get("axes", (2, 3))
    axes = [int(axis) % rank for axis in named]
    kept = len(result.shape) == rank
    order = LAST if kept and rank == len(LAST) else tuple(range(rank))
    x = state.real(state.reordered(x, order))
    places = state.numbers(f"{result.name}_axes", [order.index(axis) for axis in axes])
    made = order if kept else tuple(range(len(result.shape)))
    state.emit("MEAN", [x, places], result, made, None, ("ReducerOptions", {"keepDims": kept}))


def _resize(state: GraphState, node: gs.Node) -> None:
    """The nearest pixel's value, or between those near.

    XNNPACK has no operator for the nearest. What it has instead for twice the size, a concatenation
    with itself whose channels are dealt out to two by two pixels, took as long (yolov5n, 640).
    """
    x, result = state.value(node.inputs[0], LAST), node.outputs[0]
    name = result.name
    sizes = [int(result.shape[axis]) for axis in (2, 3)]
    if node.attrs.get("mode", "nearest") != "nearest":
        half = "half_pixel" in node.attrs.get("coordinate_transformation_mode", "half_pixel")
        inputs = [state.real(x), state.numbers(f"{name}_size", sizes)]
        options = {"halfPixelCenters": half, "alignCorners": not half}
        bilinear = ("ResizeBilinearOptions", options)
        state.emit("RESIZE_BILINEAR", inputs, result, LAST, None, bilinear)
    else:
        inputs = [x, state.numbers(f"{name}_size", sizes)]
        state.emit("RESIZE_NEAREST_NEIGHBOR", inputs, result, LAST, x.steps)


class _Floats:
    """Operators one behind another on the elements of one tensor, in floats."""

    def __init__(self, state: GraphState, node: gs.Node) -> None:
        self.state, self.node, self.count = state, node, 0
        self.x = state.real(state.value(node.inputs[0]))

    def __call__(self, operator: str, *inputs: Value | float) -> Value:
        read = [each if isinstance(each, Value) else self._constant(each) for each in inputs]
        name, shape = self._name(), self.state.file.shape(self.x.number)
        return self.state.step(name, operator, read, shape, self.x.order)

    def end(self, value: Value) -> None:
        """The value is the node's result."""
        self.state.values[self.node.outputs[0].name] = value

    def _constant(self, value: float) -> Value:
        return self.state.constant(self._name(), np.array(value, np.float32))

    def _name(self) -> str:
        self.count += 1
        return f"{self.node.outputs[0].name}_{self.count}"


def _clip(state: GraphState, node: gs.Node) -> None:
    run = _Floats(state, node)
    low, high = (_bound(node, at) for at in (1, 2))
    value = run.x
    if low is not None:
        value = run("MAXIMUM", value, low)
    if high is not None:
        value = run("MINIMUM", value, high)
    run.end(value)


def _bound(node: gs.Node, at: int) -> float | None:
    tensor = node.inputs[at] if len(node.inputs) > at else None
    return float(tensor.values) if isinstance(tensor, gs.Constant) else None


def _hard_sigmoid(state: GraphState, node: gs.Node) -> None:
    run = _Floats(state, node)
    line = run("MUL", run.x, node.attrs.get("alpha", 0.2))
    line = run("ADD", line, node.attrs.get("beta", 0.5))
    run.end(run("MINIMUM", run("MAXIMUM", line, 0.0), 1.0))


def _softplus(state: GraphState, node: gs.Node) -> None:
    """log(1 + exp(x)) = max(x, 0) + log(1 + exp(-|x|)), which does not overflow."""
    run = _Floats(state, node)
    small = run("EXP", run("NEG", run("ABS", run.x)))
    run.end(run("ADD", run("RELU", run.x), run("LOG", run("ADD", small, 1.0))))


# Abramowitz and Stegun, 7.1.26: off by 1.5e-7 at most
ERF = (0.254829592, -0.284496736, 1.421413741, -1.453152027, 1.061405429)
ERF_P = 0.3275911


def _erf(state: GraphState, node: gs.Node) -> None:
    run = _Floats(state, node)
    size = run("ABS", run.x)
    t = run("DIV", 1.0, run("ADD", run("MUL", size, ERF_P), 1.0))
    total = run("MUL", t, ERF[-1])
    for factor in reversed(ERF[:-1]):
        total = run("MUL", run("ADD", total, factor), t)
    bell = run("EXP", run("NEG", run("MUL", size, size)))
    run.end(run("MUL", run("SIGN", run.x), run("SUB", 1.0, run("MUL", total, bell))))


def _prelu(state: GraphState, node: gs.Node) -> None:
    x = state.real(state.value(node.inputs[0], LAST))
    slope = node.inputs[1].values.reshape(1, 1, -1)
    alpha = state.constant(f"{node.outputs[0].name}_slope", slope)
    state.emit("PRELU", [x, alpha], node.outputs[0], LAST)


NODES: dict[str, Translate] = {
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
    "Sigmoid": _unary("LOGISTIC"),
    "Relu": _unary("RELU"),
    "LeakyRelu": _unary("LEAKY_RELU"),
    "HardSwish": _unary("HARD_SWISH"),
    "Tanh": _unary("TANH"),
    "Elu": _unary("ELU"),
    "Exp": _unary("EXP"),
    "Sqrt": _unary("SQRT"),
    "Add": _binary("ADD"),
    "Mul": _binary("MUL"),
    "Sub": _binary("SUB"),
    "Div": _binary("DIV"),
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
    "Clip": _clip,
    "HardSigmoid": _hard_sigmoid,
    "Softplus": _softplus,
    "Erf": _erf,
    "PRelu": _prelu,
}
