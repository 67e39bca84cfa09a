"""Rules on where Q/DQ pairs stand: around convolutions, activations and residual additions."""

from collections import defaultdict
from collections.abc import Iterator

import onnx
from onnx import TensorProto

from yoloq.graph.lint.lookup import Hit, OnnxView, Rounding, hits, listed
from yoloq.graph.lint.nodes import (
    CASTS,
    CONVOLUTIONS,
    DEQUANTIZE,
    GATES,
    MOVES,
    PAIR,
    QUANTIZE,
    kind,
    label,
)

ACTIVATIONS = (*GATES, "Clip", "Elu", "HardSwish", "LeakyRelu", "PRelu", "Relu", "Softplus", "Tanh")
READS_INTEGERS = (  # gains from an input in integers, or hands them on
    *CONVOLUTIONS,
    *MOVES,
    *PAIR,
    "Add",
    "Concat",
    "Gemm",
    "MatMul",
    "MaxPool",
    "Resize",
    "Upsample",
)


def half_quantized(graph: OnnxView) -> Iterator[Hit]:
    """A convolution runs in integers where both its sides are; one alone costs time for nothing.

    Neither side is fine: that is a layer kept in float. What a Concat, pool or resize hands on from
    DQ is in integers: TensorRT and OpenVINO move the DQ behind them.
    """

    def wrong(conv: onnx.NodeProto) -> str | None:
        match graph.sides(conv):
            case True, False:
                return "input is quantized, weight is float"
            case False, True:
                return "weight is quantized, input is float"
        return None

    return hits(graph.convolutions, wrong)


def before_activation(graph: OnnxView) -> Iterator[Hit]:
    """Q right behind a convolution or a sigmoid keeps it and what follows from being fused.

    TensorRT and OpenVINO fuse a convolution with its activation and round once behind that. Fine is
    a pair that the next convolution, a Concat, pool, resize or addition reads: there was no
    activation to fuse. SiLU has a rule of its own. ONNX Runtime wants these pairs.
    """
    in_silu = {id(node) for silu in graph.silus for node in silu[:2]}
    for quantize in graph.of(QUANTIZE):
        maker = graph.makers.get(graph.before(quantize.input[0], CASTS))
        if maker is None or kind(maker) not in (*CONVOLUTIONS, *GATES) or id(maker) in in_silu:
            continue
        users = graph.users(quantize.output[0], (DEQUANTIZE, *CASTS))
        tensors = [t for user in graph.readers[quantize.output[0]] for t in user.output]
        ends = bool(graph.outputs.intersection(tensors))
        if ends or any(kind(user) not in READS_INTEGERS for user in users):
            yield Hit((label(maker),), f"Q right behind {kind(maker)}")


def inside_silu(graph: OnnxView) -> Iterator[Hit]:
    """Q/DQ inside Conv -> Sigmoid -> Mul: TensorRT and OpenVINO then run SiLU as separate layers.

    Measured here with OpenVINO: the convolutions became three times faster and SiLU took all of
    that back. ONNX Runtime wants these pairs.
    """
    for conv, sigmoid, product in graph.silus:
        if any(graph.dequantizer(tensor) for tensor in (*sigmoid.input, *product.input)):
            yield Hit((label(conv),), "Q/DQ between the convolution and the end of its SiLU")


def two_scales(graph: OnnxView) -> Iterator[Hit]:
    """One tensor rounded with two scales: each costs a pass over memory, and a rounding.

    Also where a dequantized tensor is rounded again. Engines merge pairs of equal scale, and
    convolutions that read one tensor have a rule of their own.
    """
    for tensor, quantizes in _quantizes(graph).items():
        users = {kind(u) for q in quantizes for u in graph.users(q.output[0], (DEQUANTIZE, *CASTS))}
        found = {graph.affine(quantize) for quantize in quantizes}
        again = graph.dequantizer(tensor)
        if again is not None:
            found.add(graph.affine(again))
        if len(found) > 1 and (again is not None or not users.issubset(CONVOLUTIONS)):
            names = tuple(label(quantize) for quantize in quantizes)
            yield Hit(names, f"one tensor with scales {listed(found)}")


def _quantizes(graph: OnnxView) -> dict[str, list[onnx.NodeProto]]:
    """The Q nodes that read each activation."""
    found: dict[str, list[onnx.NodeProto]] = defaultdict(list)
    for node in graph.of(QUANTIZE):
        if node.input[0] not in graph.constant:
            found[graph.before(node.input[0], CASTS)].append(node)
    return found


def signed_concats(graph: OnnxView) -> Iterator[Hit]:
    """On x86 without AMX OpenVINO rounds a Concat that is convolved in int8 to whole numbers.

    It makes uint8 of int8 there, whose products are faster, and the scale is lost on the way to the
    branches of the Concat: 0.35 becomes 0. Seen with 2026.4 on AVX-512 VNNI: a Concat of 13 of
    ModelOpt's yolov5n is enough to move boxes. uint8 with a zero-point of 128 has the same steps
    and is right; so is int8 where a float layer reads the Concat, and int8 with AMX.
    """

    def wrong(conv: onnx.NodeProto) -> str | None:
        maker = graph.maker(conv.input[0])
        if maker is None or kind(maker) != "Concat" or not graph.quantized(conv):
            return None
        pairs = [graph.dequantizer(tensor) for tensor in (conv.input[0], *maker.input)]
        signed = any(pair and graph.types.get(pair.input[0]) == TensorProto.INT8 for pair in pairs)
        return "reads a Concat in signed integers" if signed else None

    return hits(graph.convolutions, wrong)


def sibling_scales(graph: OnnxView) -> Iterator[Hit]:
    """Convolutions that read one tensor read one copy of it in integers, if their scales agree.

    A sibling that is kept in float reads the tensor as it is.
    """
    groups: dict[str, list[tuple[onnx.NodeProto, Rounding]]] = defaultdict(list)
    for conv in graph.convolutions:
        dequantize = graph.dequantizer(conv.input[0])
        if dequantize is not None:
            groups[graph.source(conv.input[0])].append((conv, graph.affine(dequantize)))
    for group in groups.values():
        found = {affine for _, affine in group}
        if len(found) > 1:
            names = tuple(label(conv) for conv, _ in group)
            yield Hit(names, f"they read one tensor with scales {listed(found)}")


def float_residual(graph: OnnxView) -> Iterator[Hit]:
    """TensorRT fuses an addition into the convolution before it where the other input is int8.

    NVIDIA's guide has Q/DQ on that residual input. Only where the bottleneck around the addition is
    quantized: where it stays in float, so does the addition. CPU engines add in float as fast.
    """

    def wrong(add: onnx.NodeProto) -> str | None:
        if graph.constant.intersection(add.input):
            return None
        rounded = [graph.from_integers(tensor) for tensor in add.input]
        ways = ((0, 1), (1, 0))
        late = any(not rounded[i] and _around(graph, add.input[i], add.input[j]) for i, j in ways)
        late = late or (not any(rounded) and _projected(graph, add))
        return "residual input is float" if late else None

    return hits(graph.of("Add"), wrong)


def _around(graph: OnnxView, residual: str, other: str) -> bool:
    """Whether quantized convolutions lead from one input of an addition to the other."""
    residual = graph.source(residual)
    readers = graph.users(residual, (*PAIR, *CASTS))
    return (
        graph.quantized(_convolution_before(graph, other))
        and any(graph.quantized(node) for node in readers)
        and _leads(graph, residual, other)
    )


def _projected(graph: OnnxView, add: onnx.NodeProto) -> bool:
    """Whether both inputs end a quantized convolution of their own: a shortcut that has one.

    Two convolutions that read one tensor are branches of one layer, and neither is a shortcut.
    """
    alone = all(len(graph.users(tensor)) == 1 for tensor in add.input)
    ends = [_convolution_before(graph, tensor) for tensor in add.input]
    read = {graph.source(conv.input[0]) for conv in ends if conv is not None}
    return alone and len(read) == 2 and all(graph.quantized(conv) for conv in ends)


def _leads(graph: OnnxView, first: str, last: str) -> bool:
    """Whether a tensor is computed from another."""
    seen, waiting = {last}, [last]
    while waiting:
        maker = graph.makers.get(waiting.pop())
        for tensor in maker.input if maker is not None else ():
            if tensor == first:
                return True
            if tensor and tensor not in seen:
                seen.add(tensor)
                waiting.append(tensor)
    return False


def _convolution_before(graph: OnnxView, tensor: str) -> onnx.NodeProto | None:
    """The convolution whose (activated) output a tensor is."""
    node = graph.maker(tensor)
    silu = next((silu for silu in graph.silus if silu.product is node), None)
    if silu is not None:
        return silu.conv
    while node is not None and kind(node) in ACTIVATIONS:
        node = graph.maker(node.input[0])
    return node if node is not None and kind(node) in CONVOLUTIONS else None
