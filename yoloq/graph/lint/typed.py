"""Rules on types: FP32 where the rest computes in FP16, weights that no kernel reads."""

from collections.abc import Iterator

import onnx
from onnx import TensorProto

from yoloq.graph.lint.lookup import Hit, OnnxView
from yoloq.graph.lint.nodes import CONVOLUTIONS, DEQUANTIZE, MOVES, kind, label

FOUR_BITS = (TensorProto.INT4, TensorProto.UINT4)
HALF, SINGLE = TensorProto.FLOAT16, TensorProto.FLOAT


def single_in_half(graph: OnnxView) -> Iterator[Hit]:
    """TensorRT computes in the types that a typed model states; FP32 between FP16 costs time.

    A DQ gives the type of its scale, so FP32 scales make FP32 convolutions and activations. Of FP32
    may be: the image before the first convolution as long as it is only moved and cast, shapes, and
    the decode of boxes, which FP16 would round to half a pixel: all that leads to no convolution in
    FP16. Engines for CPUs choose their float type themselves.
    """
    if not any(graph.types.get(conv.output[0]) == HALF for conv in graph.convolutions):
        return
    leading, raw = _leading_to_half(graph), _raw(graph)
    for node in graph.nodes:
        single = any(graph.types.get(tensor) == SINGLE for tensor in node.output)
        free = not raw.isdisjoint(node.output) or not single
        inside = id(node) in leading or (kind(node) in CONVOLUTIONS and not _sums_up(graph, node))
        if inside and not free and (kind(node) == DEQUANTIZE or not _is_constant(graph, node)):
            yield Hit((label(node),), f"{kind(node)} in FP32")


def four_bit_weights(graph: OnnxView) -> Iterator[Hit]:
    """OpenVINO convolves in float where a weight is stored in four bits; so it gains no time.

    Seen with 2026.4: the numbers are right, and the convolution took 3.7 times that of int8.
    """
    for conv in graph.convolutions:
        weight = graph.dequantizer(conv.input[1])
        if weight is not None and graph.types.get(weight.input[0]) in FOUR_BITS:
            yield Hit((label(conv),), "its weight has four bits")


def _leading_to_half(graph: OnnxView) -> set[int]:
    """Ids of the nodes from which a convolution in FP16 is computed."""
    found: set[int] = set()
    for node in reversed(graph.nodes):
        readers = (user for tensor in node.output for user in graph.readers.get(tensor, ()))
        if any(id(user) in found or _in_half(graph, user) for user in readers):
            found.add(id(node))
    return found


def _in_half(graph: OnnxView, node: onnx.NodeProto) -> bool:
    return kind(node) in CONVOLUTIONS and graph.types.get(node.output[0]) == HALF


def _raw(graph: OnnxView) -> set[str]:
    """The image as long as it is only moved and cast, and what is computed from shapes alone."""
    inputs = {info.name for info in graph.model.graph.input}
    found = set(inputs)
    shapes: set[str] = set()
    for node in graph.nodes:
        real = [tensor for tensor in node.input if tensor and tensor not in graph.constant]
        if kind(node) in ("Shape", "Size") or (real and shapes.issuperset(real)):
            shapes.update(node.output)
        elif kind(node) in (*MOVES, "Cast", "Pad") and found.issuperset(real):
            found.update(node.output)
    return (found - inputs) | shapes


def _is_constant(graph: OnnxView, node: onnx.NodeProto) -> bool:
    return graph.constant.issuperset(node.output)


def _sums_up(graph: OnnxView, conv: onnx.NodeProto) -> bool:
    """Whether it has one output channel: the expectation over distances in the decode of boxes."""
    weight = graph.dims(conv.input[1])
    return weight is not None and weight[:1] == (1,)
