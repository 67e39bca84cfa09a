"""How one calibrated policy becomes a Q/DQ graph that an engine runs fast: one function an engine.

The engines differ: OpenVINO fuses a convolution, its SiLU and the next quantization by itself and
wants nothing else quantized; ONNX Runtime forms integer convolutions only when their output is
quantized too, and then needs every operator between two convolutions in integers.
"""

import math
from collections.abc import Mapping

import onnx
import onnx_graphsurgeon as gs
from torch import nn

from .export import Affine, QdqGraph
from .quant.modules import QuantAdd

Ranges = Mapping[str, tuple[float, float]]

SILU_MINIMUM = -0.2784645  # of x * sigmoid(x), at x = -1.278
SILU_FLAT = -8.0  # below this SiLU is within 0.003 of 0: steps spent there are wasted


def lower_minimal(model: onnx.ModelProto, net: nn.Module) -> onnx.ModelProto:
    """Q/DQ on the inputs and weights of quantized convolutions and on quantized residuals, no more.

    Numerically this is the network with its fake quantizers.

    Args:
        model: `export_float` of the network.
        net: the calibrated network.
    """
    graph = QdqGraph(model, net)
    pairs: dict[str, tuple[gs.Variable, Affine, list[gs.Node]]] = {}
    inputs = {name: node.inputs[0] for name, node in graph.convolutions.items()}
    for name, node, conv in graph.quantized():
        graph.quantize_weight(node, conv)
        tensor, affine = inputs[name], graph.input_affine(node, conv)
        pairs.setdefault(tensor.name, (tensor, affine, []))[2].append(node)
    for name, module in net.named_modules():
        if isinstance(module, QuantAdd):
            _quantize_residual(pairs, inputs[f"{name.rpartition('.')[0]}.cv1.conv"], module.both)
    for tensor, affine, users in pairs.values():
        graph.insert_pair(tensor, affine, users)
    return graph.finish()


def _quantize_residual(
    pairs: dict[str, tuple[gs.Variable, Affine, list[gs.Node]]], residual: gs.Variable, both: bool
) -> None:
    """Let the Add beside a bottleneck's first convolution read the same pair."""
    if residual.name not in pairs:
        return  # the bottleneck's input stays in float
    add = next(node for node in residual.outputs if node.op == "Add")
    _, affine, users = pairs[residual.name]
    users.append(add)
    other = next(tensor for tensor in add.inputs if tensor is not residual)
    if both:
        pairs.setdefault(other.name, (other, affine, []))[2].append(add)


def lower_integer(model: onnx.ModelProto, net: nn.Module, outputs: Ranges) -> onnx.ModelProto:
    """All tensors from one quantized convolution to the next in uint8: ONNX Runtime's QLinear path.

    Quantizes more than the policy's fake quantizers do: convolution outputs, SiLU's sigmoid, and
    the inputs of Concat and Add; so its accuracy is measured on its own.

    Args:
        outputs: range of each convolution's output, before its activation.
    """
    graph = QdqGraph(model, net)
    affines: dict[str, Affine] = {}
    quantized = list(graph.quantized())
    for _, node, conv in quantized:
        affine = graph.input_affine(node, conv)
        affines[node.inputs[0].name] = Affine(affine.scale, affine.zero_point, unsigned=True)
        graph.quantize_weight(node, conv)
    for name, node, _ in quantized:
        _quantize_silu(node, outputs[name], affines)
    _follow_shape_operators(graph.graph, affines)
    for tensor in list(graph.graph.tensors().values()):
        if tensor.name in affines and tensor.outputs:
            graph.insert_pair(tensor, affines[tensor.name])
    return graph.finish()


def _quantize_silu(conv: gs.Node, output: tuple[float, float], affines: dict[str, Affine]) -> None:
    """Ranges of Conv -> Sigmoid -> Mul; other activations keep their float kernels."""
    users = conv.outputs[0].outputs
    sigmoid = next((node for node in users if node.op == "Sigmoid"), None)
    product = next((node for node in users if node.op == "Mul"), None)
    if sigmoid is None or product is None:
        return
    low, high = max(output[0], SILU_FLAT), max(output[1], 0.0)
    affines[conv.outputs[0].name] = asymmetric(low, high)
    affines[sigmoid.outputs[0].name] = Affine(1 / 256, -128, unsigned=True)
    silu = (max(low, SILU_MINIMUM), high / (1 + math.exp(-high)))
    affines.setdefault(product.outputs[0].name, asymmetric(*silu))


def asymmetric(low: float, high: float) -> Affine:
    """uint8 scale and zero-point of [low, high], widened to hold 0."""
    low, high = min(low, 0.0), max(high, 0.0)
    scale = (high - low) / 255 or 1.0
    return Affine(scale, round(-low / scale) - 128, unsigned=True)


def _follow_shape_operators(graph: gs.Graph, affines: dict[str, Affine]) -> None:
    """Ranges of pooled, resized, concatenated and added tensors that no convolution reads."""
    for node in graph.nodes:  # in the order of the forward pass
        source = node.inputs[0].name if node.inputs else ""
        if node.op in ("MaxPool", "Resize") and source in affines:
            affines[node.outputs[0].name] = affines[source]  # int8 kernels pass the scale on
    for node in reversed(graph.nodes):
        if node.op == "Concat" and node.outputs[0].name in affines:
            for tensor in node.inputs:
                affines.setdefault(tensor.name, affines[node.outputs[0].name])
