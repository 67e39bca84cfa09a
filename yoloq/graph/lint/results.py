"""Rules on what a graph takes and gives: images, boxes, scores."""

from collections.abc import Iterator

import onnx
from onnx import TensorProto

from yoloq.graph.lint.held import JOINS, PRODUCTS, SCORES, result_step, rounded_scores
from yoloq.graph.lint.lookup import EDGES, Hit, OnnxView
from yoloq.graph.lint.nodes import (
    CASTS,
    CONVOLUTIONS,
    DEQUANTIZE,
    MOVES,
    PAIR,
    QUANTIZE,
    kind,
    label,
    operator,
)

LAYERS = (
    *(*CONVOLUTIONS, "QLinearConv", "ConvInteger"),
    *("Gemm", "QGemm", "MatMul", "QLinearMatMul", "MatMulInteger"),
)
FEWEST = 16  # steps that a score needs to be told from another
COARSE = 0.5  # step of an output: boxes are in pixels, raw maps in logits, scores from 0 to 1


def images(graph: OnnxView) -> Iterator[Hit]:
    """TensorRT's parser takes uint8 images into a Cast alone: it refuses a Transpose (seen)."""
    for value in graph.model.graph.input:
        if value.type.tensor_type.elem_type == TensorProto.UINT8 and value.name in graph.readers:
            for node in graph.readers[value.name]:
                if kind(node) != "Cast":
                    yield Hit((label(node),), f"{kind(node)} reads the uint8 input {value.name}")


def joined_scores(graph: OnnxView) -> Iterator[Hit]:
    """Scores that are rounded in one tensor with boxes come out as 0, or as one of a few values.

    Boxes reach to the image's size, so that a step of their 256 is more than a score. Every engine
    computes what the graph says. Where no sigmoid tells what is a score, behind the last
    layer, an input of a Concat is one whose own range is of a few of the steps.
    """
    found = {label(node): (1.0, step) for node, step in rounded_scores(graph, FEWEST)}
    for node in graph.nodes:
        step = _step_of_join(graph, node) if operator(node) in JOINS else None
        if step is None or label(node) in found or _leads_to_layer(graph, node):
            continue
        inputs = range(len(node.input if operator(node) == "Concat" else node.input[2::3]))
        widths = [width for at in inputs if (width := _width(graph, node, at))]
        if widths and min(widths) < FEWEST * step:
            found[label(node)] = (min(widths), step)
    for name, (width, step) in found.items():
        text = f"values within {width:.3g} are joined with others in steps of {step:.3g}"
        yield Hit((name,), text)


def _width(graph: OnnxView, join: onnx.NodeProto, at: int) -> float:
    """Of the range that a Concat's input was rounded in before; 0 where it was not."""
    if operator(join) == "Concat":
        dequantize = graph.dequantizer(join.input[at])
        span = None if dequantize is None else graph.span(dequantize)
        return 0.0 if span is None else span[1] - span[0]
    scale, zero = join.input[3 + 3 * at], join.input[4 + 3 * at]
    low, high = EDGES.get(graph.types.get(zero, TensorProto.UNDEFINED), (0, 255))
    return (high - low) * _number(graph, scale)


def _number(graph: OnnxView, tensor: str) -> float:
    """The one number of a constant; 0 where it has none or several."""
    values = graph.array(tensor)
    return float(values.reshape(-1)[0]) if values is not None and values.size == 1 else 0.0


def _leads_to_layer(graph: OnnxView, node: onnx.NodeProto) -> bool:
    """Whether a layer with weights, an integer one too, reads what is computed from a result."""
    waiting, seen = list(node.output), set(node.output)
    while waiting:
        for user in graph.readers.get(waiting.pop(), ()):
            if operator(user) in LAYERS:
                return True
            waiting += set(user.output) - seen
            seen.update(user.output)
    return False


def coarse_outputs(graph: OnnxView) -> Iterator[Hit]:
    """An output that is rounded in coarse steps has lost what the network computed.

    Whether a DQ stands behind it, or its integers leave and are scaled outside.
    """
    for name in graph.outputs:
        for node in _roundings(graph, name):
            read = node.input[1] if kind(node) == DEQUANTIZE else ""
            step = _number(graph, read) if read else result_step(graph, node) or 0.0
            least = 1 / FEWEST if _is_score(graph, node.output[0]) else COARSE
            if step > least:
                yield Hit((label(node),), f"output {name} comes in steps of {step:.3g}")


def _step_of_join(graph: OnnxView, node: onnx.NodeProto) -> float | None:
    """The largest step in which a Concat's result is rounded; None where it is not."""
    if operator(node) != "Concat":
        return result_step(graph, node)
    users = graph.users(node.output[0], (*CASTS, *MOVES))
    steps = [result_step(graph, user) for user in users if kind(user) == QUANTIZE]
    return max((step for step in steps if step is not None), default=None)


def _is_score(graph: OnnxView, tensor: str) -> bool:
    """Whether a tensor is a sigmoid's result or a product of such, moved and rounded or not."""
    maker = graph.makers.get(graph.before(tensor, (*PAIR, *CASTS, *MOVES)))
    if maker is None or operator(maker) not in PRODUCTS:
        return maker is not None and operator(maker) in SCORES
    factors = maker.input[:2] if operator(maker) == "Mul" else maker.input[:4:3]
    return all(_is_score(graph, factor) for factor in factors)


def _roundings(graph: OnnxView, tensor: str) -> Iterator[onnx.NodeProto]:
    """The DQ nodes from which an output is moved and joined together; what gives its integers."""
    waiting, seen = [tensor], {tensor}
    while waiting:
        maker = graph.makers.get(graph.before(waiting.pop(), (*CASTS, *MOVES)))
        if maker is None:
            continue
        if kind(maker) in PAIR or operator(maker).startswith("QLinear"):
            yield maker
        elif kind(maker) == "Concat":
            waiting += [t for t in maker.input if t not in seen]
            seen.update(maker.input)
