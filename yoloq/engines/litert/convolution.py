"""Convolutions and poolings: windows that are moved over a map, and what pads it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_graphsurgeon as gs
from numpy.typing import NDArray

from yoloq.base.errors import EngineError
from yoloq.engines.litert.graph_state import GraphState, Value
from yoloq.engines.litert.tflite_file import Steps

LAST = (0, 2, 3, 1)  # channels last, where the graph has them second
SAME, VALID = 0, 1  # padding in the schema
RELU, RELU6 = 1, 3  # activations there
SMALLEST = float(np.finfo(np.float32).tiny)


@dataclass(frozen=True)
class Window:
    """A window of (height, width): its size, its steps, its holes, and pads before and behind."""

    size: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    pads: tuple[tuple[int, int], ...]

    @staticmethod
    def of(node: gs.Node, size: Sequence[int]) -> "Window":
        """That of an ONNX node."""
        pads = list(node.attrs.get("pads", [0, 0, 0, 0]))
        strides, dilations = (node.attrs.get(key, [1, 1]) for key in ("strides", "dilations"))
        return Window(
            tuple(size), tuple(strides), tuple(dilations), ((pads[0], pads[2]), (pads[1], pads[3]))
        )

    def padding(self, shape: Sequence[int]) -> int | None:
        """How the schema calls the pads on a map of (height, width); None: it has no word."""
        if not any(map(any, self.pads)):
            return VALID
        sides = zip(shape, self.size, self.strides, self.dilations, self.pads, strict=True)
        return SAME if all(_same(*side) for side in sides) else None

    def options(self, padding: int) -> dict[str, Any]:
        """Of the schema that convolutions and poolings share."""
        return {"padding": padding, "strideH": self.strides[0], "strideW": self.strides[1]}


def _same(size: int, window: int, stride: int, dilation: int, pads: tuple[int, int]) -> bool:
    """Whether pads are those with which LiteRT has a window for each step of a side."""
    whole = max((-(-size // stride) - 1) * stride + (window - 1) * dilation + 1 - size, 0)
    return pads == (whole // 2, whole - whole // 2)


def padded(
    state: GraphState, name: str, x: Value, window: Window, least: bool = False
) -> tuple[Value, int]:
    """The map with pads where the schema has no word for them, and how it calls what is left.

    Args:
        least: pads are the smallest number, as for a maximum; else zeros.
    """
    padding = window.padding(state.file.shape(x.number)[1:3])
    if padding is not None:
        return x, padding
    return with_pads(state, name, x, window, least), VALID


def with_pads(state: GraphState, name: str, x: Value, window: Window, least: bool = False) -> Value:
    """The map with pads of its own."""
    pads = [(0, 0), *window.pads, (0, 0)]
    sides = zip(state.file.shape(x.number), pads, strict=True)
    shape = [size + sum(pair) for size, pair in sides]
    inputs = [x, state.constant(f"{name}_pads", np.array(pads, np.int32))]
    if least:
        inputs.append(_least(state, f"{name}_least", x.steps))
    operator = "PADV2" if least else "PAD"
    return state.step(f"{name}_padded", operator, inputs, shape, x.order, x.steps)


def _least(state: GraphState, name: str, steps: Steps | None) -> Value:
    if steps is None:
        return state.constant(name, np.array(-np.inf, np.float32))
    return state.constant(name, np.array(np.iinfo(steps.dtype).min, steps.dtype), steps)


def convolution(state: GraphState, node: gs.Node) -> None:
    """A convolution with its bias, and with a ReLU that stands behind it."""
    weights, scale = _weights(state, node.inputs[1])
    clip, activation = _clip_behind(state, node)
    result = node.outputs[0] if clip is None else clip.outputs[0]
    steps = None if scale is None else state.computed(node, result)
    x = state.value(node.inputs[0], LAST)
    if steps is None:
        x = state.real(x)
        weights, scale = weights if scale is None else weights * _along(scale), None
    name = node.outputs[0].name
    window = Window.of(node, weights.shape[2:])
    channels, group = state.file.shape(x.number)[3], node.attrs.get("group", 1)
    x, padding = padded(state, name, x, window)
    each = 1 < group == channels  # a filter for each channel
    kernel = _kernel(state, f"{name}_weight", weights, scale, each)
    bias = _bias(state, node, x, scale, len(weights))
    options = window.options(padding) | {
        "dilationHFactor": window.dilations[0],
        "dilationWFactor": window.dilations[1],
        "fusedActivationFunction": activation,
    }
    if each:
        options["depthMultiplier"] = len(weights) // channels
    kind = "DepthwiseConv2DOptions" if each else "Conv2DOptions"
    operator = "DEPTHWISE_CONV_2D" if each else "CONV_2D"
    state.emit(operator, [x, kernel, bias], result, LAST, steps, (kind, options), name)
    if clip is not None:
        state.taken.add(id(clip))


def _weights(
    state: GraphState, tensor: gs.Tensor
) -> tuple[NDArray[Any], NDArray[np.float32] | None]:
    """(out, in, height, width) integers and a scale for each output, or floats and None."""
    if tensor.name not in state.weights:
        return tensor.values, None
    integers, scale = state.weights[tensor.name]
    return integers, np.broadcast_to(scale, len(integers)).astype(np.float32)


def _along(scale: NDArray[np.float32]) -> NDArray[np.float32]:
    return scale.reshape(-1, 1, 1, 1)


def _clip_behind(state: GraphState, node: gs.Node) -> tuple[gs.Node | None, int]:
    """A ReLU or ReLU6 that alone reads a convolution, and its number in the schema."""
    tensor = node.outputs[0]
    if tensor.name in state.outputs or len(tensor.outputs) != 1:
        return None, 0
    [reader] = tensor.outputs
    if reader.op == "Relu":
        return reader, RELU
    bounds = reader.inputs[1:] if reader.op == "Clip" else []
    values = [float(bound.values) for bound in bounds if isinstance(bound, gs.Constant)]
    return (reader, RELU6) if values == [0, 6] else (None, 0)


def _kernel(
    state: GraphState,
    name: str,
    weights: NDArray[Any],
    scale: NDArray[np.float32] | None,
    each: bool,
) -> Value:
    """Weights with the axes of the schema; of filters for each channel it has the outputs last."""
    moved = weights.transpose(1, 2, 3, 0) if each else weights.transpose(0, 2, 3, 1)
    steps = None if scale is None else Steps(tuple(scale.tolist()), axis=3 if each else 0)
    return state.constant(name, moved, steps)


def _bias(
    state: GraphState, node: gs.Node, x: Value, scale: NDArray[np.float32] | None, count: int
) -> Value:
    """Zeros where there is none; whole steps of the product of both scales, where those are."""
    values = node.inputs[2].values if len(node.inputs) > 2 else np.zeros(count, np.float32)
    name = f"{node.outputs[0].name}_bias"
    if scale is None:
        return state.constant(name, values)
    assert x.steps is not None
    products = np.maximum(scale * np.float32(x.steps.scale[0]), SMALLEST)
    dtype = np.dtype(np.int32 if x.steps.dtype == "int8" else np.int64)
    most = np.iinfo(np.int32).max
    integers = np.rint(values.astype(np.float64) / products).clip(-most, most).astype(dtype)
    return state.constant(name, integers, Steps(tuple(products.tolist()), dtype=dtype.name))


def max_pool(state: GraphState, node: gs.Node) -> None:
    """The largest of each window, whatever it is held in."""
    window = Window.of(node, node.attrs["kernel_shape"])
    x = state.value(node.inputs[0], LAST)
    x, padding = padded(state, node.outputs[0].name, x, window, least=True)
    _pool(state, node, "MAX_POOL_2D", x, window, padding)


def average_pool(state: GraphState, node: gs.Node) -> None:
    """The mean of each window, in floats; with pads where these count."""
    window = Window.of(node, node.attrs["kernel_shape"])
    x = state.real(state.value(node.inputs[0], LAST))
    name, padding = node.outputs[0].name, window.padding(state.file.shape(x.number)[1:3])
    if padding != VALID and node.attrs.get("count_include_pad", 0):
        x, padding = with_pads(state, name, x, window), VALID
    if padding is None:
        raise EngineError(
            f"the litert engine has no mean that leaves out pads of one side ({node.name}); train "
            "the network with other layers there, or take --engine onnxruntime"
        )
    _pool(state, node, "AVERAGE_POOL_2D", x, window, padding)


def _pool(
    state: GraphState, node: gs.Node, operator: str, x: Value, window: Window, padding: int
) -> None:
    options = window.options(padding)
    options |= {"filterHeight": window.size[0], "filterWidth": window.size[1]}
    state.emit(operator, [x], node.outputs[0], LAST, x.steps, ("Pool2DOptions", options))
