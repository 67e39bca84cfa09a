"""Weights with one scale in all, and what their channels differ by behind the convolution.

The same numbers as one scale a channel: an integer times the common scale, times the factor. What
it is for: TensorRT for RTX lets an int8 convolution write FP16 where its weight has one scale, and
FP32 where it has one a channel. The factor, the bias, the activation and the next rounding are one
kernel in either form. yolov5n at 640 pixels then moves 104 MB between its kernels and not 141 (its
FP16 engine, whose activations are in the convolutions' own kernels: 92).
"""

from collections.abc import Iterator

import numpy as np
import onnx
import onnx_graphsurgeon as gs

from yoloq.graph.qdq import import_graph


def scale_behind(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy in which factors stand behind the convolutions that read integers.

    The common scale is the smallest of a weight, so that no sum is larger than it was. Small sums
    lose bits of FP16's fraction below 2**-14 then: of 2**-24 times the largest factor, which for
    channels that differ a thousandfold is 0.00006.

    Args:
        model: with Q/DQ on the inputs and weights of convolutions; not changed.
    """
    graph = import_graph(model)
    for conv, dequantize in list(_by_channel(graph)):
        _take_factor_out(graph, conv, dequantize)
    made = gs.export_onnx(graph.cleanup().toposort())
    del made.graph.value_info[:]
    onnx.checker.check_model(made, full_check=True)
    return made


def _by_channel(graph: gs.Graph) -> Iterator[tuple[gs.Node, gs.Node]]:
    """Convolutions of integers whose weight has several scales, with what dequantizes it."""
    for node in graph.nodes:
        sides = [tensor.inputs[0] for tensor in node.inputs[:2] if tensor.inputs]
        whole = [side for side in sides if side.op == "DequantizeLinear"]
        if node.op == "Conv" and len(whole) == 2 and whole[1].inputs[1].values.ndim:
            yield node, whole[1]


def _take_factor_out(graph: gs.Graph, conv: gs.Node, dequantize: gs.Node) -> None:
    """Give the weight its smallest scale; multiply by the rest, and add the bias behind that."""
    name, output = conv.name, conv.outputs[0]
    _, scale, zero_point = dequantize.inputs
    least = scale.values.min()
    factor = (scale.values.astype(np.float64) / np.float64(least)).astype(scale.values.dtype)
    scale.values, zero_point.values = np.array(least), np.zeros((), np.int8)
    dequantize.attrs.pop("axis", None)

    steps = [("Mul", "factor", factor)]
    if len(conv.inputs) > 2:
        steps.append(("Add", "bias", conv.inputs.pop().values))
    conv.outputs = [read] = [gs.Variable(f"{name}_sums")]
    for operator, what, values in steps:
        last = what == steps[-1][1]
        written = output if last else gs.Variable(f"{name}_{what}_output")
        constant = gs.Constant(f"{name}_{what}_values", values.reshape(1, -1, 1, 1))
        graph.nodes.append(gs.Node(operator, f"{name}_{what}", {}, [read, constant], [written]))
        read = written
