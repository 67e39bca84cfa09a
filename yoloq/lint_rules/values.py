"""Rules on single Q and DQ nodes: scales, zero-points, types, and what stands around them."""

from collections.abc import Iterator

import numpy as np
import onnx
from onnx import TensorProto

from .graph import Graph, Hit, hits
from .nodes import (
    CASTS,
    CONVOLUTIONS,
    DEQUANTIZE,
    MOVES,
    PAIR,
    QUANTIZE,
    attribute,
    kind,
    label,
    numbers,
)

SIGNED = {  # what TensorRT quantizes to, each without a zero-point
    TensorProto.INT8: "int8",
    TensorProto.FLOAT8E4M3FN: "float8e4m3fn",
    TensorProto.INT4: "int4",
}
PER_CHANNEL = 13  # the first opset whose Q/DQ have an axis
HALF_SCALES = 19  # the first opset whose Q/DQ take scales in FP16
INTEGER_OPERATORS = ("ConvInteger", "MatMulInteger", "DynamicQuantizeLinear", "QGemm", "QAttention")


def zero_points(graph: Graph) -> Iterator[Hit]:
    """TensorRT's integers are signed and symmetric.

    Its ONNX parser refuses uint8 and zero-points other than 0. Where none is written it takes int8
    (version 8 refuses), while ONNX means uint8: the engine computes something else without a word.
    """

    def wrong(node: onnx.NodeProto) -> str | None:
        if _is_bias(graph, node):
            return None
        integers = node.input[0] if kind(node) == DEQUANTIZE else node.output[0]
        stated = attribute(node, "output_dtype", 0) if kind(node) == QUANTIZE else 0
        if len(node.input) < 3 or not node.input[2]:
            return None if stated in SIGNED else "zero-point is not written"
        found = graph.types.get(node.input[2]) or graph.types.get(integers, TensorProto.UNDEFINED)
        if found not in SIGNED and found != TensorProto.UNDEFINED:
            return f"zero-point is {_name(found)}"
        values = graph.array(node.input[2])
        if values is not None and np.any(values.astype(np.float64)):
            return "zero-point is not 0"
        return None

    return hits(graph.pairs, wrong)


def weight_zero_points(graph: Graph) -> Iterator[Hit]:
    """A weight's integers stand around 0: the kernels of CPUs correct for the input's alone.

    ONNX Runtime refuses different zero-points per channel when it runs the convolution, OpenVINO
    computes it in float.
    """

    def wrong(node: onnx.NodeProto) -> str | None:
        weight = graph.dequantizer(node.input[1])
        if weight is None or len(weight.input) < 3 or weight.input[0] not in graph.constant:
            return None
        values = graph.array(weight.input[2])
        shifted = values is not None and np.any(values.astype(np.float64))
        return "weight has a zero-point other than 0" if shifted else None

    return hits(graph.convolutions, wrong)


def scale_values(graph: Graph) -> Iterator[Hit]:
    """A scale is a finite number above 0; TensorRT's parser refuses others, no one computes well.

    A scale below 6e-8 is 0 in FP16.
    """

    def wrong(node: onnx.NodeProto) -> str | None:
        values = graph.array(node.input[1])
        if values is None:
            return None
        scales = numbers(values)
        if not scales:
            return "scale is empty"
        if not np.isfinite(scales).all():
            return "scale is not finite"
        return "scale is 0 or less" if min(scales) <= 0 else None

    return hits(graph.pairs, wrong)


def computed_scales(graph: Graph) -> Iterator[Hit]:
    """Engines choose integer kernels while they are built, when only constants are known."""

    def wrong(node: onnx.NodeProto) -> str | None:
        return None if node.input[1] in graph.constant else "scale is computed by the graph"

    return hits(graph.pairs, wrong)


def scale_lengths(graph: Graph) -> Iterator[Hit]:
    """One scale a tensor, or one a channel of a weight, along the output channels.

    ONNX's default axis is 1, TensorRT's parser takes 0 where no axis is written, and integer
    kernels of convolutions have a factor for each output channel: axis 0 of a convolution's weight,
    1 of a transposed one's. Blocks are for weights of 4 bits.
    """

    def wrong(node: onnx.NodeProto) -> str | None:
        scale, shape = graph.dims(node.input[1]), graph.dims(node.input[0])
        if scale is None or int(np.prod(scale)) == 1 or node.input[0] not in graph.constant:
            return None
        if attribute(node, "block_size", 0) and not _in_8_bits(graph, node):
            return None
        axis = attribute(node, "axis", 1)
        if shape is not None and not (-len(shape) <= axis < len(shape) and scale == (shape[axis],)):
            return f"scale of shape {list(scale)} for axis {axis} of a weight of {list(shape)}"
        users = {kind(user) for user in graph.users(node.output[0], (*PAIR, *CASTS))}
        wanted = next((channel for op, channel in CHANNELS.items() if op in users), axis)
        rank = len(shape or ())
        return (
            None if axis in (wanted, wanted - rank) else f"scales along axis {axis}, not {wanted}"
        )

    return hits(graph.pairs, wrong)


CHANNELS = dict(zip(CONVOLUTIONS, (0, 1), strict=True))  # axis of the output channels of a weight


def activation_scales(graph: Graph) -> Iterator[Hit]:
    """An activation has one scale: a sum over channels cannot take another factor for each."""

    def wrong(node: onnx.NodeProto) -> str | None:
        scale = graph.dims(node.input[1])
        if scale is None or int(np.prod(scale)) <= 1 or node.input[0] in graph.constant:
            return None
        return f"activation with {int(np.prod(scale))} scales"

    return hits(graph.pairs, wrong)


def integer_operators(graph: Graph) -> Iterator[Hit]:
    """TensorRT reads quantization from Q/DQ around float operators, not from integer operators."""

    def wrong(node: onnx.NodeProto) -> str | None:
        op = node.op_type
        return op if op.startswith("QLinear") or op in INTEGER_OPERATORS else None

    return hits(graph.nodes, wrong)


def integer_bias(graph: Graph) -> Iterator[Hit]:
    """TensorRT dequantizes 8 bits and fewer, and adds a bias in float: an int32 one stops it.

    CPU engines fold such a bias, or hand it to their integer kernel as it is.
    """
    for node in graph.of(DEQUANTIZE):
        if _is_bias(graph, node):
            yield Hit((label(node),), "dequantizes int32")


def opset(graph: Graph) -> Iterator[Hit]:
    """Before opset 13 Q/DQ have no axis, so that weights have one scale for all channels."""
    if graph.opset < PER_CHANNEL and any(graph.pairs):
        yield Hit((), f"opset {graph.opset}")


def opset_of_half_scales(graph: Graph) -> Iterator[Hit]:
    """Before opset 19 ONNX has no FP16 scales; with them DQ gives FP16."""
    if graph.opset < HALF_SCALES:
        half = (TensorProto.FLOAT16, TensorProto.BFLOAT16)
        for node in graph.pairs:
            if graph.types.get(node.input[1]) in half:
                yield Hit((label(node),), f"FP16 scale in opset {graph.opset}")


def quantized_outputs(graph: Graph) -> Iterator[Hit]:
    """TensorRT's Q is one half of a pair: integers that leave the network have no DQ to fuse."""
    for node in graph.of(QUANTIZE):
        if graph.outputs.intersection(_moved(graph, node.output[0])):
            yield Hit((label(node),), "its integers are an output of the graph")


def dangling(graph: Graph) -> Iterator[Hit]:
    """TensorRT fuses pairs: Q is read by DQ alone, and DQ reads what a Q wrote or a weight."""
    for node in graph.of(DEQUANTIZE):
        integers = graph.before(node.input[0], MOVES)
        maker = graph.makers.get(integers)
        paired = maker is not None and kind(maker) == QUANTIZE
        if not paired and integers not in graph.constant:
            yield Hit((label(node),), "no Q in front of it")
        elif not graph.outputs.intersection(node.output) and not graph.readers[node.output[0]]:
            yield Hit((label(node),), "nothing reads it")
    for node in graph.of(QUANTIZE):
        users = graph.users(node.output[0], MOVES)
        ends = bool(graph.outputs.intersection(_moved(graph, node.output[0])))
        if not ends and not (users and all(kind(user) == DEQUANTIZE for user in users)):
            yield Hit((label(node),), "no DQ behind it")


def batch_norm(graph: Graph) -> Iterator[Hit]:
    """A batch norm cannot be folded into integers, so it has to be before calibration.

    Left in the graph it stands between a convolution and its activation and keeps them apart. In a
    graph without Q/DQ every engine folds it by itself.
    """
    if any(graph.pairs):
        for node in graph.of("BatchNormalization"):
            yield Hit((label(node),), "batch norm in a quantized graph")


def _is_bias(graph: Graph, node: onnx.NodeProto) -> bool:
    """Whether a node dequantizes sums of products rather than 8-bit integers."""
    return kind(node) == DEQUANTIZE and graph.types.get(node.input[0]) == TensorProto.INT32


def _in_8_bits(graph: Graph, node: onnx.NodeProto) -> bool:
    types = {graph.types.get(tensor) for tensor in (node.input[0], node.output[0])}
    return not types.isdisjoint((TensorProto.INT8, TensorProto.UINT8))


def _moved(graph: Graph, tensor: str) -> set[str]:
    """The tensor and those that hold the same numbers in another shape."""
    found, waiting = {tensor}, [tensor]
    while waiting:
        for node in graph.readers.get(waiting.pop(), ()):
            if kind(node) in MOVES:
                waiting += set(node.output) - found
                found.update(node.output)
    return found


def _name(data_type: int) -> str:
    return TensorProto.DataType.Name(data_type).lower()
