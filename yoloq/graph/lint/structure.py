"""Rules on what a quantized graph may hold at all: operators, opset, ends of Q/DQ pairs."""

from collections.abc import Iterator

import onnx
from onnx import TensorProto

from yoloq.graph.lint.lookup import Hit, OnnxView, hits
from yoloq.graph.lint.nodes import DEQUANTIZE, MOVES, PAIR, QUANTIZE, every, kind, label
from yoloq.graph.lint.operators import UNKNOWN
from yoloq.graph.lint.values import is_bias

PER_CHANNEL = 13  # the first opset whose Q/DQ have an axis
HALF_SCALES = 19  # the first opset whose Q/DQ take scales in FP16
INTEGER_OPERATORS = ("ConvInteger", "MatMulInteger", "DynamicQuantizeLinear", "QGemm", "QAttention")


def integer_operators(graph: OnnxView) -> Iterator[Hit]:
    """TensorRT reads quantization from Q/DQ around float operators, not from integer operators.

    OpenVINO convolves them in float, and lets sums of Microsoft's QLinearAdd wrap around where they
    should saturate (seen with 2026.4). ONNX Runtime made them.
    """

    return hits(graph.nodes, lambda node: node.op_type if _is_integer(node) else None)


def unknown_operators(graph: OnnxView) -> Iterator[Hit]:
    """OpenVINO and ONNX Runtime refuse an operator that no opset of the model has.

    One of another domain that the model imports may be of an extension that the user loads.
    """

    def wrong(node: onnx.NodeProto) -> str | None:
        if node.domain == UNKNOWN:
            return f"{node.op_type} is no operator of ONNX's opset {graph.opset}"
        missing = node.domain in graph.unimported
        return f"{node.op_type}: domain {node.domain} is not imported" if missing else None

    return hits(every(graph.nodes), wrong)


def plugins(graph: OnnxView) -> Iterator[Hit]:
    """TensorRT looks for an operator that it does not know among its plugins, by its name alone.

    The domain and its import do not matter. Plugins on `_TRT` (EfficientNMS_TRT) come with it.
    """

    def wrong(node: onnx.NodeProto) -> str | None:
        is_known = not node.domain or kind(node) in PAIR or _is_integer(node)
        comes_along = node.op_type.endswith("_TRT")
        if is_known or comes_along:
            return None
        return f"{node.op_type} is no operator of ONNX's opset {graph.opset}"

    return hits(every(graph.nodes), wrong)


def integer_bias(graph: OnnxView) -> Iterator[Hit]:
    """TensorRT dequantizes 8 bits and fewer, and adds a bias in float: an int32 one stops it.

    CPU engines fold such a bias, or hand it to their integer kernel as it is.
    """
    for node in graph.of(DEQUANTIZE):
        if is_bias(graph, node):
            yield Hit((label(node),), "dequantizes int32")


def bare_integers(graph: OnnxView) -> Iterator[Hit]:
    """TensorRT's builder takes an int8 constant for a quantized one, which DQ alone may read.

    What else is written in integers (Cast, Sub, Mul in the place of a DQ) it refuses to build.
    """
    constants = {n for n in graph.initializers if graph.types.get(n) == TensorProto.INT8}
    for node in graph.nodes:
        read = constants.intersection(node.input)
        if read and kind(node) not in PAIR and not _is_integer(node):
            yield Hit((label(node),), f"{kind(node)} reads an int8 constant")


def opset(graph: OnnxView) -> Iterator[Hit]:
    """Before opset 13 Q/DQ have no axis, so that weights have one scale for all channels."""
    if graph.opset < PER_CHANNEL and any(graph.pairs):
        yield Hit((), f"opset {graph.opset}")


def opset_of_half_scales(graph: OnnxView) -> Iterator[Hit]:
    """Before opset 19 ONNX has no FP16 scales; with them DQ gives FP16."""
    if graph.opset < HALF_SCALES:
        half = (TensorProto.FLOAT16, TensorProto.BFLOAT16)
        for node in graph.pairs:
            if graph.types.get(node.input[1]) in half:
                yield Hit((label(node),), f"FP16 scale in opset {graph.opset}")


def quantized_outputs(graph: OnnxView) -> Iterator[Hit]:
    """Integers that leave the network are of no use but to whoever knows their scale.

    TensorRT builds it (seen for RTX, 1.7).
    """
    for node in graph.of(QUANTIZE):
        if graph.outputs.intersection(_moved(graph, node.output[0])):
            yield Hit((label(node),), "its integers are an output of the graph")


def dangling(graph: OnnxView) -> Iterator[Hit]:
    """TensorRT fuses pairs: Q is read by DQ alone, and DQ reads what a Q wrote or a weight.

    It builds the rest as it stands, a MaxPool on integers among it (seen for RTX, 1.7).
    """
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


def batch_norm(graph: OnnxView) -> Iterator[Hit]:
    """A batch norm cannot be folded into integers, so it has to be before calibration.

    Left in the graph it stands between a convolution and its activation and keeps them apart; it
    runs, in the kernel behind the convolution (seen for RTX, 1.7).
    OpenVINO hangs it on its integer convolution; and without Q/DQ every engine folds it by itself.
    """
    if any(graph.pairs):
        for node in graph.of("BatchNormalization"):
            yield Hit((label(node),), "batch norm in a quantized graph")


def _is_integer(node: onnx.NodeProto) -> bool:
    return node.op_type.startswith("QLinear") or node.op_type in INTEGER_OPERATORS


def _moved(graph: OnnxView, tensor: str) -> set[str]:
    """The tensor and those that hold the same numbers in another shape."""
    found, waiting = {tensor}, [tensor]
    while waiting:
        for node in graph.readers.get(waiting.pop(), ()):
            if kind(node) in MOVES:
                waiting += set(node.output) - found
                found.update(node.output)
    return found
