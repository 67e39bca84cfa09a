"""Graphs that break a rule of the linter, and the same without the fault."""

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
from lint_graphs import FLOAT, HALF, Net
from onnx import TensorProto, helper

from yoloq.graph.lint.table import lint

Draw = Callable[[Net], onnx.ModelProto]


def block(n: Net) -> onnx.ModelProto:
    """A quantized convolution behind a float one, as every rule wants it."""
    return n.model(n.block(n.silu(n.float_conv("x"))))


def conv_with(**dq: Any) -> Draw:
    """A convolution whose weight has another DQ than usual."""

    def draw(n: Net) -> onnx.ModelProto:
        integers = n.constant(np.ones((4, 4, 1, 1)), dq.get("dtype", np.int8))
        options = {"scale": np.full(4, 0.01), "axis": 0} | dq
        return n.model(n.conv(n.pair("x"), n.dq(integers, **options)))

    return draw


def conv_reading(**pair: Any) -> Draw:
    return lambda n: n.model(n.conv(n.pair("x", **pair)))


def computed_scale(n: Net) -> onnx.ModelProto:
    scale = n.add("ReduceMax", "x", keepdims=0)
    return n.model(n.conv(n.dq(n.q("x", scale), scale)))


def float_weight_between_qdq(n: Net, **options: Any) -> onnx.ModelProto:
    """A weight as some tools write it: float, Q, DQ."""
    weight = n.constant(np.ones((4, 4, 1, 1)))
    options = {"scale": np.full(4, 0.01), "axis": 0} | options
    return n.model(n.conv(n.pair("x"), n.dq(n.q(weight, **options), **options)))


def weight_without_zero_points(n: Net) -> onnx.ModelProto:
    """Its integers are uint8 by ONNX, which has no such weight below 0."""
    return float_weight_between_qdq(n, zero=None)


def weight_zeros_of_another_length(n: Net) -> onnx.ModelProto:
    integers = n.constant(np.ones((4, 4, 1, 1)), np.int8)
    scale, zeros = n.constant(np.full(4, 0.01)), n.constant(np.zeros(2), np.int8)
    weight = n.add("DequantizeLinear", integers, scale, zeros, axis=0)
    return n.model(n.conv(n.pair("x"), weight))


def blocks_of_a_weight(n: Net, dtype: Any = None) -> onnx.ModelProto:
    """A scale for every two input channels, which opset 21 has."""
    n.opset = 21
    dtype = dtype or helper.tensor_dtype_to_np_dtype(TensorProto.INT4)
    integers = n.constant(np.ones((4, 4, 1, 1)), dtype)
    scale = np.full((4, 2, 1, 1), 0.01)
    weight = n.dq(integers, scale, dtype=dtype, axis=1, block_size=2)
    return n.model(n.conv(n.pair("x"), weight))


def float_region(n: Net) -> onnx.ModelProto:
    """SiLU of a float convolution in front of a quantized one, through a pool."""
    pooled = n.add("MaxPool", n.pair(n.silu(n.float_conv("x"))), kernel_shape=[1, 1])
    return n.model(n.pair(n.conv(pooled)))


def integer_bias(n: Net) -> onnx.ModelProto:
    bias = n.dq(n.constant(np.zeros(4), np.int32), np.full(4, 0.001), None, axis=0)
    return n.model(n.add("Conv", n.pair("x"), n.weight(), bias))


def microsoft(op: str, domain: str = "com.microsoft") -> Draw:
    return lambda n: n.model(n.dq(n.add(op, n.q("x"), domain=domain)))


def transposed(n: Net) -> onnx.ModelProto:
    weight = n.dq(n.constant(np.ones((4, 8, 1, 1)), np.int8), np.full(8, 0.01), axis=1)
    return n.model(n.conv(n.pair("x"), weight, "ConvTranspose"))


def quantized_output(n: Net) -> onnx.ModelProto:
    return n.model(n.q(n.block("x")), types=[TensorProto.INT8])


def unread(n: Net) -> onnx.ModelProto:
    n.dq(n.q("x"))
    return n.model(n.block("x"))


def integer_input(n: Net) -> onnx.ModelProto:
    return n.model(n.conv(n.dq(n.add("Cast", "x", to=TensorProto.INT8))))


def pool_of_integers(n: Net) -> onnx.ModelProto:
    return n.model(n.conv(n.dq(n.add("MaxPool", n.q("x"), kernel_shape=[1, 1]))))


def moved_integers(n: Net) -> onnx.ModelProto:
    moved = n.add("Transpose", n.q("x"), perm=[0, 1, 3, 2])
    return n.model(n.conv(n.dq(moved)))


def batch_norm(n: Net) -> onnx.ModelProto:
    y = n.conv(n.pair("x"))
    return n.model(n.add("BatchNormalization", y, *(n.constant(np.ones(4)) for _ in range(4))))


def float_batch_norm(n: Net) -> onnx.ModelProto:
    y = n.float_conv("x")
    return n.model(n.add("BatchNormalization", y, *(n.constant(np.ones(4)) for _ in range(4))))


def behind_conv(op: str, *edge: str) -> Draw:
    """Conv, a pair, an operator, and a pair at the next convolution."""

    def draw(n: Net) -> onnx.ModelProto:
        y = n.pair(n.conv(n.pair("x")))
        return n.model(n.conv(n.pair(n.add(op, y, *edge))))

    return draw


def two_convs(n: Net) -> onnx.ModelProto:
    return n.model(n.conv(n.pair(n.conv(n.pair("x")))))


def silu_with(*edges: str) -> Draw:
    """SiLU with pairs on some of: conv (its output), sigmoid's input, gate, value of the Mul."""

    def draw(n: Net) -> onnx.ModelProto:
        def at(edge: str, tensor: str) -> str:
            return n.pair(tensor) if edge in edges else tensor

        y = at("conv", n.conv(n.pair("x")))
        gate = at("gate", n.add("Sigmoid", at("sigmoid", y)))
        return n.model(n.add("Mul", gate, at("value", y)))

    return draw


def gate_of_channels(quantized: bool) -> Draw:
    """Squeeze and excite: a sigmoid that multiplies another tensor than its own input."""

    def draw(n: Net) -> onnx.ModelProto:
        y = n.block("x")
        gate = n.add("Sigmoid", n.conv(n.pair(n.add("GlobalAveragePool", y))))
        return n.model(n.add("Mul", y, n.pair(gate) if quantized else gate))

    return draw


def readers(first: float, second: float, op: str = "Conv") -> Draw:
    """One tensor in two pairs: of a convolution, and of another or of an addition."""

    def draw(n: Net) -> onnx.ModelProto:
        y = n.silu(n.float_conv("x"))
        one, other = n.pair(y, first), n.pair(y, second)
        left = n.conv(one)
        right = n.conv(other) if op == "Conv" else n.add(op, other, other)
        return n.model(n.silu(left), n.silu(right) if op == "Conv" else right)

    return draw


def one_sibling_in_float(n: Net) -> onnx.ModelProto:
    y = n.silu(n.float_conv("x"))
    return n.model(n.block(y), n.silu(n.float_conv(y)))


def rounded_again(first: float, second: float) -> Draw:
    return lambda n: n.model(n.conv(n.pair(n.pair("x", first), second)))


def bottleneck(quantized: bool = True, residual: bool = False, late: bool = False) -> Draw:
    """x + cv2(cv1(x)), with pairs on the residual input or on the other one."""

    def draw(n: Net) -> onnx.ModelProto:
        x = n.silu(n.float_conv("x"))
        read = n.pair(x)
        inner = n.silu(n.conv(read))
        y = n.block(inner) if quantized else n.silu(n.float_conv(inner))
        return n.model(n.add("Add", read if residual else x, n.pair(y) if late else y))

    return draw


def projected(residual: bool) -> Draw:
    def draw(n: Net) -> onnx.ModelProto:
        x = n.pair(n.silu(n.float_conv("x")))
        shortcut, y = n.conv(x), n.conv(n.pair(n.add("Relu", n.conv(x))))
        return n.model(n.add("Add", n.pair(shortcut) if residual else shortcut, y))

    return draw


def branches(n: Net) -> onnx.ModelProto:
    """Two convolutions of one tensor that are added: one layer in training's form."""
    x = n.pair(n.silu(n.float_conv("x")))
    return n.model(n.silu(n.add("Add", n.conv(x), n.conv(x))))


def added_elsewhere(n: Net) -> onnx.ModelProto:
    """Additions of other kinds: of float paths, of a constant, of paths that do not meet before."""
    y = n.add("Add", n.silu(n.float_conv("x")), n.silu(n.float_conv("x")))
    y = n.add("Add", n.block(y), n.constant(np.ones((1, 4, 1, 1))))
    other = n.silu(n.float_conv("x"))
    return n.model(n.add("Add", y, n.block(other)), n.block(y))


def concat(
    first: float,
    second: float,
    behind: float | None,
    pairs: bool = False,
    other: str = "",
) -> Draw:
    """Two tensors, each read by a convolution too, and joined; scales of the three readers.

    `other` is an operator that reads the joined tensors as well, in float.
    """

    def draw(n: Net) -> onnx.ModelProto:
        parts, ends = [], []
        for scale in (first, second):
            y = n.silu(n.float_conv("x"))
            read = n.pair(y, scale)
            ends.append(n.silu(n.conv(read)))
            ends += [n.add(other, y)] if other else []
            parts.append(read if pairs else y)
        joined = n.add("Concat", *parts, axis=1)
        if behind is None:
            ends.append(n.add("Relu", joined))
        else:
            weight = n.weight((4, 8, 1, 1))
            ends.append(n.silu(n.conv(n.pair(joined, behind), weight)))
        return n.model(*ends)

    return draw


def concat_of_pairs(first: float, second: float) -> Draw:
    """Pairs in front of a Concat alone: a convolution reads what it joins as it comes."""

    def draw(n: Net) -> onnx.ModelProto:
        parts = [n.pair(n.silu(n.float_conv("x")), scale) for scale in (first, second)]
        moved = n.add("MaxPool", n.add("Concat", *parts, axis=1), kernel_shape=[1, 1])
        return n.model(n.silu(n.conv(moved, n.weight((4, 8, 1, 1)))))

    return draw


def concat_read(dtype: Any, zero: int = 0, op: str = "Concat") -> Draw:
    """Two convolutions joined, and a third that reads that in integers.

    Args:
        dtype: of the Q behind the join; None: one of int8 on each branch in its place.
    """

    def draw(n: Net) -> onnx.ModelProto:
        image = n.pair("x", 0.1, 128, np.uint8)
        parts = [n.silu(n.conv(image)) for _ in range(2)]
        parts = [n.pair(part, 0.1) for part in parts] if dtype is None else parts
        joined = n.add(op, *parts, **({"axis": 1} if op == "Concat" else {}))
        read = joined if dtype is None else n.pair(joined, 0.1, zero, dtype)
        return n.model(n.conv(read, n.weight((4, 8 if op == "Concat" else 4, 1, 1))))

    return draw


def half_concat(n: Net) -> onnx.ModelProto:
    """Only one part of what a convolution reads was rounded."""
    y = n.silu(n.float_conv("x"))
    joined = n.add("Concat", n.pair(y), y, axis=1)
    return n.model(n.silu(n.conv(joined, n.weight((4, 8, 1, 1)))))


def handing_on(op: str, before: float, behind: float, explicit: bool = True, **more: Any) -> Draw:
    """MaxPool or Resize of a tensor that a convolution reads as well."""

    def draw(n: Net) -> onnx.ModelProto:
        y = n.silu(n.float_conv("x"))
        read = n.pair(y, before)
        source = read if explicit else y
        if op == "Resize":
            moved = n.upsample(source, **more)
        else:
            moved = n.add(op, source, kernel_shape=[1, 1])
        return n.model(n.silu(n.conv(read)), n.silu(n.conv(n.pair(moved, behind))))

    return draw


def pool_behind_pool(behind: float, other: str = "") -> Draw:
    """The scale of what a chain of pools ends in reaches back to its start.

    `other` is an operator that reads every pool as well.
    """

    def draw(n: Net) -> onnx.ModelProto:
        y = n.silu(n.float_conv("x"))
        pools = [y]
        for _ in range(2):
            pools.append(n.add("MaxPool", pools[-1], kernel_shape=[1, 1]))
        seen = [n.add(other, pool) for pool in pools] if other else []
        joined = n.add("Concat", *pools, axis=1)
        last = n.conv(n.pair(joined, behind), n.weight((4, 12, 1, 1)))
        types = [FLOAT] * 2 + [TensorProto.INT64] * len(seen)
        return n.model(n.block(y), n.silu(last), *seen, types=types)

    return draw


def typed(scale_type: int = HALF, middle: str = "", **more: Any) -> Draw:
    """The image cast to FP16, a quantized network, boxes in FP32."""

    def draw(n: Net) -> onnx.ModelProto:
        moved = n.add("Transpose", "x", perm=[0, 1, 2, 3])
        y = n.silu(n.float_conv(n.add("Cast", moved, to=HALF)))
        dtype = helper.tensor_dtype_to_np_dtype(scale_type)
        integers, scale = n.q(y), n.constant(0.1, dtype)
        y = n.dq(integers, scale)
        if scale_type == FLOAT:
            y = n.add("Cast", y, to=HALF)
        y = n.upsample(n.silu(n.conv(y)))
        if middle:
            y = n.add("Cast", n.add(middle, n.add("Cast", y, to=FLOAT)), to=HALF)
        y = n.add("Cast", n.silu(n.float_conv(y)), to=FLOAT)
        weight = n.constant(np.ones((1, 4, 1, 1)), np.float32)
        return n.model(n.add("Exp", y), n.add("Conv", n.add("Softmax", y, axis=1), weight))

    return draw


def typed_with_shapes(n: Net) -> onnx.ModelProto:
    y = n.float_conv(n.add("Cast", "x", to=HALF))
    size = n.add("Cast", n.add("Shape", y), to=FLOAT)
    sizes = n.add("Cast", n.add("Floor", size), to=TensorProto.INT64)
    return n.model(n.float_conv(n.add("Resize", y, "", "", sizes)), types=[HALF])


def typed_head(n: Net) -> onnx.ModelProto:
    y = n.float_conv(n.add("Cast", "x", to=HALF))
    weight = n.constant(np.ones((4, 4, 1, 1)), np.float32)
    return n.model(n.add("Conv", n.add("Cast", y, to=FLOAT), weight))


def decoded(step: float | None, output: float | None = None, score: str = "Sigmoid") -> Draw:
    """Boxes of a hundred pixels joined with scores, rounded behind that and at the output.

    Without a `score` operator the scores are told by the scale that they were rounded in alone.
    """

    def draw(n: Net) -> onnx.ModelProto:
        y = n.silu(n.float_conv("x"))
        boxes = n.add("Mul", y, n.constant(100.0))
        scores = n.add(score, y) if score else n.pair(n.add("Clip", y), 1 / 255)
        joined = n.add("Concat", boxes, scores, axis=1)
        joined = joined if step is None else n.pair(joined, step)
        flat = n.add("Flatten", joined)
        return n.model(flat if output is None else n.pair(flat, output))

    return draw


def integers_joined(step: float) -> Draw:
    """Microsoft's QLinearConcat of boxes and scores, and DQ as the last node."""

    def draw(n: Net) -> onnx.ModelProto:
        zero, parts = n.constant(0, np.int8), []
        y = n.silu(n.float_conv("x"))
        for tensor, scale in ((n.add("Clip", y), 1 / 255), (y, step)):
            parts += [n.q(tensor, scale), n.constant(scale), zero]
        joined = n.add("QLinearConcat", n.constant(step), zero, *parts, domain="com.microsoft")
        return n.model(n.dq(joined, step))

    return draw


def uint8_images(first: str) -> Draw:
    """A uint8 image that is cast first, or transposed first."""

    def draw(n: Net) -> onnx.ModelProto:
        to, perm = {"to": FLOAT}, {"perm": [0, 1, 2, 3]}
        if first == "Cast":
            y = n.add("Transpose", n.add("Cast", "x", **to), **perm)
        else:
            y = n.add("Cast", n.add("Transpose", "x", **perm), **to)
        model = n.model(n.float_conv(y))
        model.graph.input[0].type.tensor_type.elem_type = TensorProto.UINT8
        return model

    return draw


def dynamic(scale: float) -> Draw:
    """A weight as ONNX Runtime's dynamic quantization writes it."""

    def draw(n: Net) -> onnx.ModelProto:
        q = n.add("DynamicQuantizeLinear", "x", outputs=3)
        weight, zero = n.constant(np.ones((4, 4, 1, 1)), np.int8), n.constant(0, np.int8)
        sums = n.add("Cast", n.add("ConvInteger", q, weight, f"{q}_2", zero), to=FLOAT)
        return n.model(n.add("Mul", sums, n.add("Mul", f"{q}_1", n.constant(scale))))

    return draw


def integer_conv(weight_scale: float) -> Draw:
    """QLinearConv, whose scales are inputs of its own."""

    def draw(n: Net) -> onnx.ModelProto:
        one, zero = n.constant(0.1), n.constant(0, np.int8)
        weight = n.constant(np.ones((4, 4, 1, 1)), np.int8)
        scales = n.constant(np.full(4, weight_scale))
        zeros = n.constant(np.zeros(4), np.int8)
        edges = (one, zero, weight, scales, zeros, one, zero)
        return n.model(n.dq(n.add("QLinearConv", n.q("x"), *edges)))

    return draw


def integer_silu(**missing: bool) -> Draw:
    """Conv -> SiLU as ONNX Runtime wants it: Q/DQ on every edge, but for the missing ones."""

    def draw(n: Net) -> onnx.ModelProto:
        def edge(name: str, tensor: str) -> str:
            return tensor if missing.get(name) else n.pair(tensor, 0.1, 128, np.uint8)

        y = edge("conv", n.conv(n.pair("x")))
        gate = edge("gate", n.add("Sigmoid", y))
        return n.model(edge("silu", n.add("Mul", y, gate)))

    return draw


def integer_clip(op: str, *bounds: float, **pair: Any) -> Draw:
    """A convolution, a clip, and a pair that stands for values which the clip lets through."""

    def draw(n: Net) -> onnx.ModelProto:
        edges = [n.constant(bound) for bound in bounds]
        return n.model(n.pair(n.add(op, n.conv(n.pair("x")), *edges), **pair))

    return draw


def integer_add(residual: bool) -> Draw:
    def draw(n: Net) -> onnx.ModelProto:
        x = n.add("Mul", n.pair("x"), n.pair("x"))
        read = n.pair(x)
        y = n.pair(n.conv(read))
        return n.model(n.pair(n.add("Add", read if residual else x, y)))

    return draw


def drawn(draw: Draw, **options: Any) -> onnx.ModelProto:
    return draw(Net(**options))


def found(draw: Draw, target: str, **options: Any) -> list[tuple[str, str, int]]:
    """Level, rule and number of nodes of each finding."""
    findings = lint(drawn(draw, **options), target)
    return [(finding.level, finding.rule, len(finding.nodes)) for finding in findings]


U8 = {"zero": 128, "dtype": np.uint8}
