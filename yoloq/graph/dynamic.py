"""Dynamic quantization: the range of an activation is that of the activation itself, at run time.

Weights are the integers of the calibrated network; nothing that was calibrated is used. ONNX has an
operator for each half: DynamicQuantizeLinear looks at the whole tensor and then rounds it to uint8,
ConvInteger sums products of integers. What it gives goes back to floats, with the product of both
scales, before the bias and the activation.
"""

import numpy as np
import onnx
import onnx_graphsurgeon as gs
from torch import nn

from yoloq.graph.export import FloatGraph
from yoloq.graph.qdq import QdqGraph
from yoloq.quant.modules import QuantConv2d

Rounded = tuple[gs.Variable, gs.Variable, gs.Variable]  # integers, scale, zero-point


def lower_dynamic(exported: FloatGraph, net: nn.Module) -> onnx.ModelProto:
    """The graph in which each convolution that is quantized on both sides is a ConvInteger.

    Args:
        exported: `export_float` of the network.
        net: with quantizers on the same sides; those of weights are calibrated.
    """
    graph = QdqGraph(exported, net)
    rounded: dict[str, Rounded] = {}
    for _, node, conv in graph.quantized():
        if conv.both_quantized:
            tensor = node.inputs[0]
            if tensor.name not in rounded:
                rounded[tensor.name] = _round(graph.graph, tensor)
            _to_integers(graph, node, conv, rounded[tensor.name])
        else:
            graph.quantize_weight(node, conv)
    return graph.finish()


def _round(graph: gs.Graph, tensor: gs.Variable) -> Rounded:
    """A tensor in the 256 steps between its own extremes."""
    made = (
        gs.Variable(f"{tensor.name}_quantized", np.uint8, tensor.shape),
        gs.Variable(f"{tensor.name}_scale", np.float32, ()),
        gs.Variable(f"{tensor.name}_zero_point", np.uint8, ()),
    )
    name = f"{tensor.name}_Q"
    graph.nodes.append(gs.Node("DynamicQuantizeLinear", name, {}, [tensor], list(made)))
    return made


def _to_integers(graph: QdqGraph, node: gs.Node, conv: QuantConv2d, read: Rounded) -> None:
    """Put a ConvInteger, and what makes floats of its sums, in the place of a convolution."""
    integers, scale, zero_point = read
    weight, weight_scale = graph.integer_weight(node, conv)
    name, result = node.name, node.outputs[0]
    column = (1, -1, 1, 1)
    sums, floats, product, scaled = (
        gs.Variable(f"{name}_{what}", dtype)
        for what, dtype in (
            ("sums", np.int32),
            ("floats", np.float32),
            ("scale", np.float32),
            ("scaled", np.float32),
        )
    )
    inputs = [
        integers,
        gs.Constant(f"{name}_weight", weight),
        zero_point,
        gs.Constant(f"{name}_weight_zero_point", np.array(0, np.int8)),
    ]
    scales = gs.Constant(f"{name}_weight_scale", np.reshape(weight_scale, column))
    bias = node.inputs[2:]
    node.outputs.clear()
    last = scaled if bias else result
    graph.graph.nodes += [
        gs.Node("ConvInteger", name, node.attrs, inputs, [sums]),
        gs.Node("Cast", f"{name}_cast", {"to": onnx.TensorProto.FLOAT}, [sums], [floats]),
        gs.Node("Mul", f"{name}_scales", {}, [scale, scales], [product]),
        gs.Node("Mul", f"{name}_scale", {}, [floats, product], [last]),
    ]
    if bias:
        offset = gs.Constant(f"{name}_bias", bias[0].values.reshape(column))
        graph.graph.nodes.append(gs.Node("Add", f"{name}_bias", {}, [scaled, offset], [result]))
