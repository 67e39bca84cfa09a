"""Rules on what a graph takes and gives: images, boxes, scores."""

from collections.abc import Iterator

import onnx
from onnx import TensorProto

from yoloq.graph.lint.lookup import Hit, OnnxView
from yoloq.graph.lint.nodes import CASTS, DEQUANTIZE, MOVES, PAIR, kind, label

SCORES = ("Sigmoid", "HardSigmoid", "Softmax", "QLinearSigmoid", "QLinearSoftmax")  # give 0 to 1
PRODUCTS = ("Mul", "QLinearMul")
JOINS = ("Concat", "QLinearConcat")
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
    computes what the graph says. Where no sigmoid tells what is a score, at the end of the network,
    an input is one whose own range is of a few of the steps.
    """
    for node in graph.nodes:
        step = _step_of_join(graph, node) if _operator(node) in JOINS else None
        if step is None:
            continue
        inputs = node.input if _operator(node) == "Concat" else node.input[2::3]
        ranges = [1.0 for tensor in inputs if _is_score(graph, tensor)]
        if _ends(graph, node.output[0]):
            ranges += [width for at in range(len(inputs)) if (width := _width(graph, node, at))]
        if ranges and min(ranges) < FEWEST * step:
            text = f"values within {min(ranges):.3g} are joined with others in steps of {step:.3g}"
            yield Hit((label(node),), text)


def _operator(node: onnx.NodeProto) -> str:
    """Without the domain: Microsoft's QLinearConcat."""
    return kind(node).rpartition(".")[2]


def _width(graph: OnnxView, join: onnx.NodeProto, at: int) -> float:
    """Of the range of what a Concat's input was rounded in before; 0 where it was not."""
    if _operator(join) == "Concat":
        dequantize = graph.dequantizer(join.input[at])
        scale = None if dequantize is None else graph.array(dequantize.input[1])
    else:
        scale = graph.array(join.input[3 + 3 * at])
    return 0.0 if scale is None or scale.size != 1 else 255 * float(scale.reshape(-1)[0])


def _ends(graph: OnnxView, tensor: str) -> bool:
    """Whether a tensor becomes an output of the graph by being moved, rounded and joined alone."""
    waiting, seen = [tensor], {tensor}
    while waiting:
        name = waiting.pop()
        if name in graph.outputs:
            return True
        for node in graph.readers.get(name, ()):
            if _operator(node) in (*PAIR, *CASTS, *MOVES, *JOINS):
                waiting += set(node.output) - seen
                seen.update(node.output)
    return False


def coarse_outputs(graph: OnnxView) -> Iterator[Hit]:
    """An output that is rounded in coarse steps has lost what the network computed."""
    for name in graph.outputs:
        for node in _dequantizers(graph, name):
            scale = graph.array(node.input[1])
            step = 0.0 if scale is None or scale.size != 1 else float(scale.reshape(-1)[0])
            least = 1 / FEWEST if _is_score(graph, node.output[0]) else COARSE
            if step > least:
                yield Hit((label(node),), f"output {name} comes in steps of {step:.3g}")


def _step_of_join(graph: OnnxView, node: onnx.NodeProto) -> float | None:
    """The largest step in which a Concat's result is rounded; None where it is not."""
    rounds = [user for user in graph.users(node.output[0], (*CASTS, *MOVES)) if kind(user) in PAIR]
    scales = [user.input[1] for user in rounds]
    if kind(node) != "Concat":
        scales = [node.input[0]]  # of the integers that it gives
    values = [graph.array(scale) for scale in scales]
    return max((float(v.max()) for v in values if v is not None and v.size), default=None)


def _is_score(graph: OnnxView, tensor: str) -> bool:
    """Whether a tensor is a sigmoid's result or a product of such, moved and rounded or not."""
    maker = graph.makers.get(graph.before(tensor, (*PAIR, *CASTS, *MOVES)))
    if maker is None or _operator(maker) not in PRODUCTS:
        return maker is not None and _operator(maker) in SCORES
    factors = maker.input[:2] if _operator(maker) == "Mul" else maker.input[:4:3]
    return all(_is_score(graph, factor) for factor in factors)


def _dequantizers(graph: OnnxView, tensor: str) -> Iterator[onnx.NodeProto]:
    """The DQ nodes from which an output is moved and joined together."""
    waiting, seen = [tensor], {tensor}
    while waiting:
        maker = graph.makers.get(graph.before(waiting.pop(), (*CASTS, *MOVES)))
        if maker is None:
            continue
        if kind(maker) == DEQUANTIZE:
            yield maker
        elif kind(maker) == "Concat":
            waiting += [t for t in maker.input if t not in seen]
            seen.update(maker.input)
