"""The typed FP16 variant of an exported graph, for engines that take precision from its types.

The output type of a DequantizeLinear is its scale's, so FP16 scales are what makes the float part
of a Q/DQ graph run in FP16. FP16 has its full precision from 2**-14 to 65504; a smaller weight is
off by 2**-25 at most, but a smaller scale would be off by much more of itself.
"""

from collections.abc import Iterator

import numpy as np
import onnx
import onnx_graphsurgeon as gs

from yoloq.base.errors import PolicyError
from yoloq.graph.qdq import import_graph, swap

SMALLEST = 2.0**-14  # normal number of FP16
LARGEST = 65504.0
PIXEL = 2.0**-8  # a pixel times this is exact in FP16


def to_fp16(model: onnx.ModelProto) -> onnx.ModelProto:
    """The graph with FP16 weights, biases, scales and operators; the outputs are cast to FP32.

    int8 weights stay, and so do the scales of a Resize, which ONNX has in FP32 alone. A weight's
    integers were rounded with its FP32 scale; that scale's own rounding moves the largest of them
    by at most 127 * 2**-11, a sixteenth of a step.

    Args:
        model: what `export_float` or a lowering to Q/DQ returned; not changed.

    Raises:
        PolicyError: a weight, a bias or a scale is out of FP16's range; names it.
    """
    graph = import_graph(model)
    _shrink_pixels(graph)
    for node in graph.nodes:
        if node.op == "QuantizeLinear":
            _check_scale(node)
        elif node.op == "DequantizeLinear" and isinstance(node.inputs[0], gs.Constant):
            _widen_scale(node)
    for constant in list(_floats(graph)):
        constant.values = _half(constant)
    _cast_ends(graph)
    typed = gs.export_onnx(graph.cleanup().toposort())
    del typed.graph.value_info[:]  # the types of before
    onnx.checker.check_model(typed, full_check=True)
    return typed


def _shrink_pixels(graph: gs.Graph) -> None:
    """Multiply pixels by 2**-8 and the first convolution's weights by 2**8.

    The division by 255 is in those weights (`export_float`): the small ones would lose precision.
    """
    first = next(i for i, node in enumerate(graph.nodes) if node.op == "Conv")
    for node in graph.nodes[:first]:
        if node.op == "QuantizeLinear":  # its DequantizeLinear has the same scale
            node.inputs[1].values = np.asarray(node.inputs[1].values * np.float32(PIXEL))
    weight = graph.nodes[first].inputs[1]
    if not isinstance(weight, gs.Constant):
        weight = weight.inputs[0].inputs[1]  # the scale of its DequantizeLinear
    weight.values = np.asarray(weight.values / np.float32(PIXEL))

    cast = next(node for node in graph.nodes if node.op == "Cast")
    pixels = cast.outputs[0]
    shrunk = gs.Variable(f"{pixels.name}_shrunk", pixels.dtype, pixels.shape)
    for user in list(pixels.outputs):
        swap(user, pixels, shrunk)
    factor = gs.Constant(f"{pixels.name}_factor", np.array(PIXEL, np.float32))
    graph.nodes.append(gs.Node("Mul", f"{cast.name}_shrink", {}, [pixels, factor], [shrunk]))


def _check_scale(node: gs.Node) -> None:
    """An activation's scale."""
    scale = float(node.inputs[1].values)
    if not SMALLEST <= scale <= LARGEST:
        raise PolicyError(
            f"{node.inputs[0].name}: its scale {scale:.3g} is out of FP16's range "
            f"({SMALLEST:.2g} to {LARGEST:.0f}); keep what reads it in float (--keep-float)"
        )


def _widen_scale(node: gs.Node) -> None:
    """Round the integers of channels with tiny weights anew, to a scale that FP16 holds.

    Their weights are then off by at most 2**-15.
    """
    integers, scale = node.inputs[:2]
    wider = np.asarray(np.maximum(scale.values, np.float32(SMALLEST)))
    ratio = (scale.values / wider).reshape(-1, *[1] * (integers.values.ndim - 1))
    integers.values = np.rint(integers.values * ratio).astype(np.int8)
    scale.values = wider


def _floats(graph: gs.Graph) -> Iterator[gs.Constant]:
    """The FP32 constants, but those that say how to resize."""
    seen = {id(t) for node in graph.nodes if node.op == "Resize" for t in node.inputs[1:]}
    for node in graph.nodes:
        for tensor in node.inputs:
            fresh = isinstance(tensor, gs.Constant) and id(tensor) not in seen
            if fresh and tensor.dtype == np.float32:
                seen.add(id(tensor))
                yield tensor


def _half(constant: gs.Constant) -> np.ndarray:
    values: np.ndarray = constant.values
    largest = float(np.abs(values).max(initial=0))
    if largest > LARGEST:
        raise PolicyError(
            f"{constant.name}: holds {largest:.3g}, above FP16's {LARGEST:.0f}; "
            "build fp32, or train with weight decay"
        )
    return values.astype(np.float16)


def _cast_ends(graph: gs.Graph) -> None:
    """The image is cast to FP16, the outputs to FP32."""
    for node in graph.nodes:
        if node.op == "Cast":
            node.attrs["to"] = onnx.TensorProto.FLOAT16
    for output in graph.outputs:
        (maker,) = output.inputs
        half = gs.Variable(f"{output.name}_half", np.float16, output.shape)
        maker.outputs = [half]
        to = {"to": onnx.TensorProto.FLOAT}
        graph.nodes.append(gs.Node("Cast", f"{output.name}_cast", to, [half], [output]))
