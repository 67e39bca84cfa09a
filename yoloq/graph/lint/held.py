"""Which tensors hold scores, alone or beside boxes, and where they are rounded away."""

from collections.abc import Iterator, Mapping, Sequence
from enum import Enum
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from yoloq.graph.lint.lookup import OnnxView
from yoloq.graph.lint.nodes import CASTS, MOVES, PAIR, QUANTIZE, kind, operator

SCORES = ("Sigmoid", "HardSigmoid", "Softmax", "QLinearSigmoid", "QLinearSoftmax")  # give 0 to 1
PRODUCTS = ("Mul", "QLinearMul")
SUMS = ("Add", "QLinearAdd", "Sub")
JOINS = ("Concat", "QLinearConcat")
SELECTS = ("Slice", "Split", "Gather", "GatherElements", "GatherND", "ReduceMax", "TopK")
KEEPS = (  # hand on the values of their first input, or roots and powers of them
    *PAIR,
    *CASTS,
    *(move for move in MOVES if move not in SELECTS),
    *("Clip", "Expand", "Pad", "Pow", "Sqrt", "Tile"),
)
CHOICES = {  # hand on values of these inputs
    "Max": slice(None),
    "Min": slice(None),
    "Where": slice(1, 3),
    "ScatterElements": slice(0, 3, 2),
    "ScatterND": slice(0, 3, 2),
}
CORNERS = 4  # of a decoded box, in front of its scores


class Held(Enum):
    """What a tensor holds."""

    SCORES = 1  # nothing else
    BOTH = 2  # scores beside other values


def rounded_scores(graph: OnnxView, fewest: int) -> Iterator[tuple[onnx.NodeProto, float]]:
    """The node whose result is rounded, and the step, where that leaves scores fewer steps.

    Only where they are rounded together with other values: the gate of a SiLU is a sigmoid too.
    They are followed from the sigmoids on, until they are rounded away.
    """
    held: dict[str, Held] = {}
    for node in graph.nodes:
        found = _held(graph, node, held)
        step = result_step(graph, node) if found is Held.BOTH else None
        if step is not None and fewest * step > 1:
            yield _rounded(graph, node), step
        elif found is not None:
            held |= dict.fromkeys(node.output, found)


def result_step(graph: OnnxView, node: onnx.NodeProto) -> float | None:
    """The step in which a node rounds its result to integers; None where it does not."""
    scale = node.input[1] if kind(node) == QUANTIZE else ""
    if operator(node) == "QLinearConcat":
        scale = node.input[0]
    elif operator(node) in ("QLinearMul", "QLinearAdd", "QLinearConv"):
        scale = node.input[6]
    elif operator(node) in ("QLinearSigmoid", "QLinearSoftmax"):
        scale = node.input[3]
    values = graph.array(scale) if scale else None
    return None if values is None or not values.size else float(values.max())


def _rounded(graph: OnnxView, node: onnx.NodeProto) -> onnx.NodeProto:
    """What computes that which a Q rounds; an operator on integers itself."""
    if kind(node) != QUANTIZE:
        return node
    return graph.makers.get(graph.before(node.input[0], (*PAIR, *CASTS, *MOVES)), node)


def _held(graph: OnnxView, node: onnx.NodeProto, held: Mapping[str, Held]) -> Held | None:
    """What a node's result holds of scores; None: none that one knows of."""
    op = operator(node)
    if op in SCORES or _is_written_out(graph, node):
        return Held.SCORES
    if op in (*KEEPS, *SELECTS):
        found = held.get(node.input[0])
        return None if found is Held.BOTH and op in SELECTS else found
    if op in (*PRODUCTS, *SUMS):
        return _computed(graph, op, node.input[:4:3] if "QLinear" in op else node.input[:2], held)
    read: Sequence[str] = ()
    if op in JOINS:
        read = node.input if op == "Concat" else node.input[2::3]
    elif op in CHOICES:
        read = node.input[CHOICES[op]]
    states = {held.get(tensor) for tensor in read}
    return None if states <= {None} else Held.SCORES if states == {Held.SCORES} else Held.BOTH


def _computed(
    graph: OnnxView, op: str, read: Sequence[str], held: Mapping[str, Held]
) -> Held | None:
    """What a sum or a product of two tensors holds.

    Products of scores are scores. A row of constants may make boxes of the first columns alone, and
    boxes may be added to scores that are padded with zeros in their place.
    """
    states = {held.get(tensor) for tensor in read}
    if states == {Held.SCORES} and op in PRODUCTS:
        return Held.SCORES
    if states <= {None}:
        return None
    padded = op in SUMS and "Pad" in (_operator_of(graph, tensor) for tensor in read)
    row = _leaves_scores(graph, read, 1 if op in PRODUCTS else 0)
    return Held.BOTH if padded or row else None


def _is_written_out(graph: OnnxView, node: onnx.NodeProto) -> bool:
    """Whether a node ends 1 / (1 + exp(-x))."""
    if operator(node) not in ("Div", "Reciprocal"):
        return False
    total = graph.makers.get(graph.source(node.input[-1]))
    return (
        total is not None
        and operator(total) == "Add"
        and any(_operator_of(graph, term) == "Exp" for term in total.input)
    )


def _operator_of(graph: OnnxView, tensor: str) -> str:
    maker = graph.makers.get(graph.source(tensor))
    return "" if maker is None else operator(maker)


def _leaves_scores(graph: OnnxView, tensors: Sequence[str], neutral: float) -> bool:
    """Whether a constant among the tensors changes boxes and leaves the scores behind them."""
    arrays = [graph.array(graph.source(tensor)) for tensor in tensors]
    return any(_is_row(values, neutral) for values in arrays if values is not None)


def _is_row(values: NDArray[Any], neutral: float) -> bool:
    """Whether a constant changes the corners of boxes along an axis, and nothing behind them."""
    for axis, columns in enumerate(values.shape):
        moved = np.moveaxis(values, axis, 0)
        if columns > CORNERS and (moved[CORNERS:] == neutral).all():
            return bool((moved[:CORNERS] != neutral).any())
    return False
