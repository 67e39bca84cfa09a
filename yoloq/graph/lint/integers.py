"""Rules of ONNX Runtime: it computes in integers from Q to Q, operator by operator."""

from collections.abc import Iterator

import numpy as np
import onnx

from yoloq.graph.lint.lookup import Hit, OnnxView
from yoloq.graph.lint.nodes import CASTS, MOVES, QUANTIZE, kind, label

KERNELS = (  # have an integer kernel beside the convolution's
    "Add",
    "AveragePool",
    "Concat",
    "GlobalAveragePool",
    "LeakyRelu",
    "MaxPool",
    "Mul",
    "Resize",
    "Sigmoid",
)
CLIPS = ("Relu", "Clip")
NEAR = 1e-7  # by how much ONNX Runtime lets a range end outside of a clip's bounds


def float_inputs(graph: OnnxView) -> Iterator[Hit]:
    """A quantized weight gains nothing where the input has no DQ: ONNX Runtime convolves in float.

    The other way round is fine: a layer kept in float that reads what an operator in integers
    wrote, which has to be dequantized. It moves no DQ through a Concat or a Resize.
    """
    for conv in graph.convolutions:
        around = graph.before(conv.input[0], (*MOVES, "MaxPool"))
        if graph.dequantizer(conv.input[1]) and not graph.dequantizer(around):
            yield Hit((label(conv),), "weight is quantized, input is float")


def float_outputs(graph: OnnxView) -> Iterator[Hit]:
    """ONNX Runtime forms an integer convolution only where the output is quantized too.

    Else it dequantizes input and weight and convolves in float: measured here, three times slower
    than the same network without Q/DQ. TensorRT and OpenVINO want no pair there. A clip may stand
    between, if rounding to the integers behind it clips alike: it is folded.
    """
    for conv in filter(graph.quantized, graph.convolutions):
        if not any(_quantizes(graph, user) for user in graph.users(conv.output[0])):
            yield Hit((label(conv),), "input and weight are quantized, its output is not")


def _quantizes(graph: OnnxView, node: onnx.NodeProto) -> bool:
    """Whether a node rounds to integers, at once or as a clip that is folded into rounding."""
    if kind(node) not in CLIPS:
        return kind(node) == QUANTIZE
    users = graph.users(node.output[0])
    low, high = _bounds(graph, node)
    spans = [graph.span(user) for user in users if kind(user) == QUANTIZE]
    return len(users) == len(spans) and all(
        span is not None and low - NEAR <= span[0] and span[1] <= high + NEAR for span in spans
    )


def _bounds(graph: OnnxView, clip: onnx.NodeProto) -> tuple[float, float]:
    """Between which values a clip leaves what it reads."""
    if kind(clip) == "Relu":
        return 0.0, np.inf
    given = [graph.array(tensor) if tensor else None for tensor in clip.input[1:3]]
    low, high = (*given, None, None)[:2]
    return (-np.inf if low is None else float(low)), (np.inf if high is None else float(high))


def float_between(graph: OnnxView) -> Iterator[Hit]:
    """An operator between integers that hands its result on in float is computed in float.

    ONNX Runtime has integer kernels of SiLU's parts, Add, Concat and pools; it takes one where Q/DQ
    stand on every input and on the output. Operators in front of a float layer may stay in float.
    """
    from_integers, to_integers = _after_dequantize(graph), _before_quantize(graph)
    for node in graph.of(*KERNELS):
        tensor = node.output[0]
        if tensor in from_integers and tensor in to_integers:
            yield Hit((label(node),), f"{kind(node)} hands its result on in float")


def _after_dequantize(graph: OnnxView) -> set[str]:
    """Float tensors that operators with an integer kernel computed from integers alone."""
    found: set[str] = set()
    for node in graph.nodes:
        read = [tensor for tensor in node.input if tensor and tensor not in graph.constant]
        starts = kind(node) in KERNELS and all(
            graph.dequantizer(tensor) or tensor in found for tensor in read
        )
        if starts or (kind(node) in CASTS and node.input[0] in found):
            found.update(node.output)
    return found


def _before_quantize(graph: OnnxView) -> set[str]:
    """Tensors from which a float operator with an integer kernel leads to integers again."""
    found: set[str] = set()
    for node in reversed(graph.nodes):
        for tensor in node.output:
            users = graph.users(tensor)
            if any(_leads_to_quantize(graph, user, found) for user in users):
                found.add(tensor)
    return found


def _leads_to_quantize(graph: OnnxView, user: onnx.NodeProto, found: set[str]) -> bool:
    if kind(user) not in KERNELS:
        return False
    quantized = any(kind(next_) == QUANTIZE for next_ in graph.users(user.output[0]))
    return quantized or user.output[0] in found
