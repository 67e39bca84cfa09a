"""Convolutions and poolings: windows that are moved over a map."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx_graphsurgeon as gs
from numpy.typing import NDArray

from yoloq.base.errors import EngineError
from yoloq.engines.ncnn.net_file import Parameters, flagged, floats
from yoloq.engines.ncnn.net_state import NetState

MAXIMUM, MEAN = 0, 1  # of a Pooling
FULL, VALID = 0, 1  # whether a Pooling has a window that reaches over the edge
RELU = 1  # an activation in a convolution


def convolution(state: NetState, node: gs.Node) -> None:
    """A convolution with its bias, and with a ReLU that stands behind it."""
    held = state.weights.get(node.inputs[1].name)
    values = node.inputs[1].values if held is None else held[0]
    group, count = node.attrs.get("group", 1), len(values)
    parameters: dict[int, Any] = {0: count, **_window(node, values.shape[2:]), 6: values.size}
    if len(node.inputs) > 2:
        parameters[5] = 1
    if group > 1:
        parameters[7] = group
    each = group in (1, count)  # it has one scale for each group
    if held is not None and each and node.inputs[0].name in state.pairs:
        read, weights = _quantized(state, node, *held)
        parameters[8] = 1
    else:
        floating = values if held is None else values * _along(held[1])
        read, weights = state.blob(node.inputs[0]), flagged(floating) + _bias(node)
    relu = _relu_behind(state, node)
    if relu is not None:
        parameters[9] = RELU
        state.taken.add(id(relu))
    kind = "Convolution" if group == 1 else "ConvolutionDepthWise"
    result = node.outputs[0] if relu is None else relu.outputs[0]
    state.emit(kind, [read], node, dict(sorted(parameters.items())), weights, result)


def _quantized(
    state: NetState, node: gs.Node, integers: NDArray[np.int8], scale: NDArray[np.float32]
) -> tuple[str, bytes]:
    """The blob of integers that it reads, and its weights; ncnn's scales are steps of a unit."""
    read, step = state.integers(node.inputs[0])
    steps = np.broadcast_to(scale, len(integers))
    scales = floats(1 / steps) + floats(np.array([1 / step]))
    return read, flagged(integers) + _bias(node) + scales


def _along(scale: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray(scale, np.float32).reshape(-1, 1, 1, 1)


def _bias(node: gs.Node) -> bytes:
    return floats(node.inputs[2].values) if len(node.inputs) > 2 else b""


def _relu_behind(state: NetState, node: gs.Node) -> gs.Node | None:
    """A ReLU that alone reads a convolution."""
    tensor = node.outputs[0]
    if tensor.name in state.outputs or len(tensor.outputs) != 1:
        return None
    return tensor.outputs[0] if tensor.outputs[0].op == "Relu" else None


def _window(node: gs.Node, size: Sequence[int]) -> Parameters:
    """Parameters of size, holes, steps and pads, as a convolution numbers them."""
    if len(size) != 2:
        raise EngineError(
            f"the ncnn engine has no windows of {len(size)} axes ({node.name}); take "
            "--engine onnxruntime"
        )
    top, left, bottom, right = node.attrs.get("pads", [0, 0, 0, 0])
    strides, dilations = (node.attrs.get(key, [1, 1]) for key in ("strides", "dilations"))
    return {
        **{1: int(size[1]), 11: int(size[0]), 2: dilations[1], 12: dilations[0]},
        **{3: strides[1], 13: strides[0], 4: left, 14: top, 15: right, 16: bottom},
    }


def max_pool(state: NetState, node: gs.Node) -> None:
    """The largest of each window."""
    _pool(state, node, MAXIMUM)


def average_pool(state: NetState, node: gs.Node) -> None:
    """The mean of each window, with pads where these count."""
    _pool(state, node, MEAN)


def _pool(state: NetState, node: gs.Node, kind: int) -> None:
    window = _window(node, node.attrs["kernel_shape"])
    if (window[2], window[12]) != (1, 1):
        raise EngineError(
            f"the ncnn engine has no pooling with holes ({node.name}); take --engine onnxruntime"
        )
    parameters: dict[int, Any] = {
        **{0: kind, 1: window[1], 11: window[11], 2: window[3], 12: window[13]},
        **{3: window[4], 13: window[14], 14: window[15], 15: window[16]},
        5: FULL if node.attrs.get("ceil_mode", 0) else VALID,
        6: node.attrs.get("count_include_pad", 0),
    }
    state.emit("Pooling", [state.blob(node.inputs[0])], node, dict(sorted(parameters.items())))


def every_second(state: NetState, name: str, blob: str, steps: Sequence[int]) -> str:
    """The blob's values at each so many rows and columns: the largest of windows of one."""
    parameters = {0: MAXIMUM, 1: 1, 2: steps[1], 5: VALID, 11: 1, 12: steps[0]}
    state.file.add("Pooling", [blob], [name], parameters)
    return name
