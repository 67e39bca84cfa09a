"""Graphs that are dead on arrival, by many ways to write a decode; and the same alive."""

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
from lint_draws import Draw
from lint_graphs import FLOAT, Net
from onnx import TensorProto


def written_out(n: Net, x: str) -> str:
    """1 / (1 + exp(-x))."""
    one = n.constant(1.0)
    return n.add("Div", one, n.add("Add", one, n.add("Exp", n.add("Neg", x))))


def by_concat(n: Net, boxes: str, scores: str) -> str:
    return n.add("Concat", boxes, scores, axis=2)


def by_padding(n: Net, boxes: str, scores: str) -> str:
    front, behind = (
        n.constant(pads, np.int64) for pads in ([0, 0, 4, 0, 0, 0], [0, 0, 0, 0, 0, 4])
    )
    return n.add("Add", n.add("Pad", boxes, behind), n.add("Pad", scores, front))


def by_choice(n: Net, boxes: str, scores: str) -> str:
    return n.add("Where", n.constant(np.array([True]), np.bool_), boxes, scores)


def by_scatter(n: Net, boxes: str, scores: str) -> str:
    places = n.constant(np.zeros((1, 8, 4)), np.int64)
    return n.add("ScatterElements", scores, places, boxes, axis=2)


def by_row(n: Net, boxes: str, scores: str) -> str:
    """One tensor of all columns, times 100 in the first four and times 1 behind."""
    both = n.add("Concat", scores, scores, axis=2)
    return n.add("Mul", both, n.constant([[[100.0] * 4 + [1.0] * 4]]))


def kept_by_nms(
    step: float | None, join: Callable[..., str] = by_concat, score: Any = "Sigmoid", more: str = ""
) -> Draw:
    """Boxes and scores (1, 8, 4) that are joined and rounded, then parted and the best taken.

    The outputs are in float: neither is a rounded tensor that is moved.
    """

    def draw(n: Net) -> onnx.ModelProto:
        shape = n.constant([1, -1, 4], np.int64)
        y = n.add("Reshape", n.float_conv("x"), shape)
        scores = n.add(score, y) if isinstance(score, str) else score(n, y)
        scores = n.add(more, scores) if more else scores
        boxes = n.add("Mul", y, n.constant(100.0))
        joined = join(n, boxes, scores)
        joined = joined if step is None else n.pair(joined, step)
        starts, ends = n.constant([4], np.int64), n.constant([8], np.int64)
        best = n.add("ReduceMax", n.add("Slice", joined, starts, ends, n.constant([2], np.int64)))
        return n.model(best, n.add("Exp", joined))

    return draw


def widths(step: float, zero: Any = 0, dtype: Any = np.int8, layer: str = "") -> Draw:
    """Two tensors within a hundred and within 1, joined in these steps; a sum or a layer."""

    def draw(n: Net) -> onnx.ModelProto:
        levels = np.iinfo(dtype).max - np.iinfo(dtype).min
        y = n.float_conv("x")
        parts = [n.pair(n.add(op, y), top / levels, zero, dtype) for op, top in
                 (("Neg", 100), ("Clip", 1))]  # fmt: skip
        joined = n.pair(n.add("Concat", *parts, axis=1), step, zero, dtype)
        if layer == "Conv":
            return n.model(n.conv(joined, n.constant(np.ones((4, 8, 1, 1)))))
        return n.model(n.add(layer or "Mul", joined, n.constant(np.ones((8, 8)))))

    return draw


def integers_out(step: float) -> Draw:
    return lambda n: n.model(n.q(n.silu(n.float_conv("x")), step), types=[TensorProto.INT8])


def cast_weight(scale: float) -> Draw:
    """An int8 weight that is cast and multiplied where others write a DQ."""

    def draw(n: Net) -> onnx.ModelProto:
        integers = n.add("Cast", n.constant(np.ones((4, 4, 1, 1)), np.int8), to=FLOAT)
        integers = n.add("Sub", integers, n.constant(3.0))
        return n.model(n.conv("x", n.add("Mul", integers, n.constant(scale))))

    return draw


def weight_of(value: float) -> Draw:
    return lambda n: n.model(n.conv("x", n.constant(np.full((4, 4, 1, 1), value))))


def rounded_weight(scale: float) -> Draw:
    """A float weight that the graph itself rounds, by operators that are no Q and DQ."""

    def draw(n: Net) -> onnx.ModelProto:
        weight, step = n.constant(np.ones((4, 4, 1, 1))), n.constant(np.full((4, 1, 1, 1), scale))
        steps = n.add("Clip", n.add("Mul", weight, n.constant(10.0)), n.constant(-8.0))
        return n.model(n.conv("x", n.add("Mul", n.add("Round", steps), step)))

    return draw


def reshaped_weight(value: float) -> Draw:
    def draw(n: Net) -> onnx.ModelProto:
        shape = n.constant([4, 4, 1, 1], np.int64)
        return n.model(n.conv("x", n.add("Reshape", n.constant(np.full(16, value)), shape)))

    return draw


def matrix_of(value: float, op: str = "MatMul") -> Draw:
    def draw(n: Net) -> onnx.ModelProto:
        x = n.add("Reshape", "x", n.constant([32, 8], np.int64))
        return n.model(n.add(op, x, n.constant(np.full((8, 8), value))))

    return draw


def integer_weight_of(value: int) -> Draw:
    def draw(n: Net) -> onnx.ModelProto:
        integers = n.constant(np.full((4, 4, 1, 1), value), np.int8)
        return n.model(n.conv(n.pair("x"), n.dq(integers, np.full(4, 0.01), axis=0)))

    return draw
