"""Rules on the numbers of single Q and DQ nodes: zero-points and scales."""

import math
from collections.abc import Iterator

import numpy as np
import onnx
from onnx import TensorProto

from yoloq.graph.lint.folded import folded
from yoloq.graph.lint.lookup import Hit, OnnxView, hits
from yoloq.graph.lint.nodes import (
    CASTS,
    CONVOLUTIONS,
    DEQUANTIZE,
    PAIR,
    QUANTIZE,
    attribute,
    kind,
    numbers,
    operator,
)

BYTES = (TensorProto.INT8, TensorProto.UINT8)
SIGNED = (TensorProto.INT8, TensorProto.FLOAT8E4M3FN, TensorProto.INT4)  # of TensorRT
SCALES = {  # inputs of integer operators that are scales, where they stand elsewhere
    "QGemm": (1, 4, 7),
    "MatMulIntegerToFloat": (2, 3),
    "DynamicQuantizeMatMul": (2,),
}
WEIGHTS = {  # place of the input
    **dict.fromkeys(("Conv", "ConvTranspose", "ConvInteger", "Gemm", "MatMul"), 1),
    "QLinearConv": 3,
}
CHANNELS = dict(zip(CONVOLUTIONS, (0, 1), strict=True))  # axis of a weight's output channels


def zero_points(graph: OnnxView) -> Iterator[Hit]:
    """TensorRT's integers are signed and symmetric.

    Its ONNX parser refuses zero-points other than 0, and more or fewer of them than scales. uint8
    with a zero-point of 0, and a Q without any, which ONNX takes for uint8, it takes for int8: the
    engine clips at half the range without a word. A DQ alone has the type of what it reads.
    """

    def wrong(node: onnx.NodeProto) -> str | None:
        if is_bias(graph, node):
            return None
        integers = node.input[0] if kind(node) == DEQUANTIZE else node.output[0]
        stated = attribute(node, "output_dtype", 0) if kind(node) == QUANTIZE else 0
        if len(node.input) < 3 or not node.input[2]:
            # a DQ of a constant has its type; what a Q writes is uint8
            read = graph.types.get(integers) if kind(node) == DEQUANTIZE else stated
            return None if read in SIGNED else "zero-point is not written"
        found = graph.types.get(node.input[2]) or graph.types.get(integers, TensorProto.UNDEFINED)
        if found not in SIGNED and found != TensorProto.UNDEFINED:
            return f"zero-point is {_name(found)}"
        values, scale = graph.array(node.input[2]), graph.dims(node.input[1])
        if values is not None and np.any(values.astype(np.float64)):
            return "zero-point is not 0"
        if values is not None and scale is not None and values.size != math.prod(scale):
            return f"{values.size} zero-points for {math.prod(scale)} scales"
        return None

    return hits(graph.pairs, wrong)


def weight_zero_points(graph: OnnxView) -> Iterator[Hit]:
    """OpenVINO convolves in float where a weight has a zero-point other than 0.

    Seen with 2026.4; ONNX Runtime 1.31 has kernels for such weights.
    """

    def wrong(node: onnx.NodeProto) -> str | None:
        weight = graph.dequantizer(node.input[1])
        if weight is None or len(weight.input) < 3 or weight.input[0] not in graph.constant:
            return None
        values = graph.array(weight.input[2])
        shifted = values is not None and np.any(values.astype(np.float64))
        return "weight has a zero-point other than 0" if shifted else None

    return hits(graph.convolutions, wrong)


def scale_values(graph: OnnxView) -> Iterator[Hit]:
    """A scale is a finite number above 0; TensorRT's parser refuses others, no one computes well.

    A scale below 6e-8 is 0 in FP16.
    """

    def wrong(node: onnx.NodeProto) -> str | None:
        arrays = (graph.array(tensor) for tensor in _scales(graph, node))
        found = (_wrong_scale(numbers(values)) for values in arrays if values is not None)
        return next((text for text in found if text), None)

    return hits(graph.nodes, wrong)


def weight_values(graph: OnnxView) -> Iterator[Hit]:
    """A weight that is 0 throughout, or not finite, makes a layer that tells nothing of an image.

    It comes of a scale of 0 that was multiplied in before the file was written, or is in the graph.
    """

    def wrong(node: onnx.NodeProto) -> str | None:
        at = WEIGHTS.get(operator(node))
        values = None if at is None else folded(graph, graph.source(node.input[at]))
        if values is None or not values.size:
            return None
        if not np.isfinite(values.astype(np.float64)).all():
            return "weight is not finite"
        return None if values.any() else "weight is 0 throughout"

    return hits(graph.nodes, wrong)


def _wrong_scale(scales: tuple[float, ...]) -> str | None:
    if not scales:
        return "scale is empty"
    if not np.isfinite(scales).all():
        return "scale is not finite"
    return "scale is 0 or less" if min(scales) <= 0 else None


def _scales(graph: OnnxView, node: onnx.NodeProto) -> list[str]:
    """The tensors that a node reads as scales.

    Integer operators state them as well; a dynamically quantized weight's is multiplied by that of
    the input.
    """
    op, inputs = node.op_type, list(node.input)
    if kind(node) in PAIR:
        return inputs[1:2]
    if op == "QLinearConcat":
        return [*inputs[:1], *inputs[3::3]]
    if op.startswith("QLinear") or op in SCALES:
        places = SCALES.get(op, (1, 3) if len(inputs) <= 5 else (1, 4, 6))
        return [inputs[at] for at in places if at < len(inputs) and inputs[at]]
    if op == "Mul":
        makers = [graph.makers.get(tensor) for tensor in inputs]
        dynamic = [m is not None and m.op_type == "DynamicQuantizeLinear" for m in makers]
        scaled = [a or _is_integer_weight(graph, t) for a, t in zip(dynamic, inputs, strict=True)]
        return [t for t, other in zip(inputs, reversed(scaled), strict=True) if other]
    return []


def _is_integer_weight(graph: OnnxView, tensor: str) -> bool:
    """Whether a tensor is a constant of 8 bits that was cast, less a zero-point or not."""
    maker = graph.makers.get(tensor)
    if maker is not None and kind(maker) == "Sub":
        maker = graph.makers.get(maker.input[0])
    if maker is None or kind(maker) != "Cast":
        return False
    source = graph.before(maker.input[0], CASTS)
    return source in graph.constant and graph.types.get(source) in BYTES


def computed_scales(graph: OnnxView) -> Iterator[Hit]:
    """TensorRT and OpenVINO choose integer kernels when they build, and know constants only then.

    TensorRT refuses the model, OpenVINO convolves in float; ONNX Runtime hands the scale to its
    integer kernel as it comes.
    """

    def wrong(node: onnx.NodeProto) -> str | None:
        return None if node.input[1] in graph.constant else "scale is computed by the graph"

    return hits(graph.pairs, wrong)


def scale_lengths(graph: OnnxView) -> Iterator[Hit]:
    """One scale a weight, or one for each index along its axis; blocks are for 4 bits."""

    def wrong(node: onnx.NodeProto) -> str | None:
        scale, shape = graph.dims(node.input[1]), graph.dims(node.input[0])
        if scale is None or shape is None or not _per_channel(graph, node):
            return None
        axis = attribute(node, "axis", 1)
        if -len(shape) <= axis < len(shape) and scale == (shape[axis],):
            return None
        return f"scale of shape {list(scale)} for axis {axis} of a weight of shape {list(shape)}"

    return hits(graph.pairs, wrong)


def scale_axes(graph: OnnxView) -> Iterator[Hit]:
    """A convolution's scales stand along its output channels: axis 0, of a transposed one 1.

    Where no axis is written ONNX and TensorRT's parser take 1. Along another axis ONNX Runtime
    takes them for those of the output channels (seen with 1.31); OpenVINO and TensorRT (for RTX,
    1.7) convolve in float.
    """

    def wrong(node: onnx.NodeProto) -> str | None:
        if not _per_channel(graph, node):
            return None
        users = {kind(user) for user in graph.users(node.output[0], (*PAIR, *CASTS))}
        axis, rank = attribute(node, "axis", 1), len(graph.dims(node.input[0]) or ())
        for op in users.intersection(CHANNELS):
            if axis not in (CHANNELS[op], CHANNELS[op] - rank):
                return f"scales along axis {axis} of a {op}'s weight, not {CHANNELS[op]}"
        return None

    return hits(graph.pairs, wrong)


def block_axes(graph: OnnxView) -> Iterator[Hit]:
    """TensorRT's parser takes blocks along the last axis or the one before it."""

    def wrong(node: onnx.NodeProto) -> str | None:
        shape = graph.dims(node.input[0])
        if shape is None or not attribute(node, "block_size", 0):
            return None
        axis, rank = attribute(node, "axis", 1), len(shape)
        return None if axis % rank >= rank - 2 else f"blocks along axis {axis} of {rank}"

    return hits(graph.pairs, wrong)


def _per_channel(graph: OnnxView, node: onnx.NodeProto) -> bool:
    """Whether a weight has several scales, other than one a block of a few bits."""
    scale = graph.dims(node.input[1])
    if scale is None or math.prod(scale) <= 1 or node.input[0] not in graph.constant:
        return False
    types = {graph.types.get(tensor) for tensor in (node.input[0], node.output[0])}
    blocks = attribute(node, "block_size", 0)
    return not blocks or not types.isdisjoint((TensorProto.INT8, TensorProto.UINT8))


def activation_scales(graph: OnnxView) -> Iterator[Hit]:
    """An activation has one scale: a sum over channels cannot take another factor for each.

    ONNX Runtime refuses to run it, OpenVINO and TensorRT (for RTX, 1.7) convolve in float.
    """

    def wrong(node: onnx.NodeProto) -> str | None:
        scale = graph.dims(node.input[1])
        if scale is None or math.prod(scale) <= 1 or node.input[0] in graph.constant:
            return None
        return f"activation with {math.prod(scale)} scales"

    return hits(graph.pairs, wrong)


def is_bias(graph: OnnxView, node: onnx.NodeProto) -> bool:
    """Whether a node dequantizes sums of products rather than 8-bit integers."""
    return kind(node) == DEQUANTIZE and graph.types.get(node.input[0]) == TensorProto.INT32


def _name(data_type: int) -> str:
    known = data_type in TensorProto.DataType.values()
    return TensorProto.DataType.Name(data_type).lower() if known else f"of type {data_type}"
