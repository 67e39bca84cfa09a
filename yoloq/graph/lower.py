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

from yoloq.base.errors import PolicyError
from yoloq.graph.export import FloatGraph
from yoloq.graph.qdq import Affine, QdqGraph
from yoloq.quant.modules import QuantAdd, QuantConv2d, is_on

Ranges = Mapping[str, tuple[float, float]]
Pairs = dict[tuple[str, Affine], tuple[gs.Variable, list[gs.Node]]]

SILU_MINIMUM = -0.2784645  # of x * sigmoid(x), at x = -1.278; also of x * sigmoid(x) - x for x > 0
SILU_FLAT = -6.0  # below this SiLU is within 0.015 of 0: steps spent there are wasted


def lower_minimal(exported: FloatGraph, net: nn.Module, unsigned: bool = False) -> onnx.ModelProto:
    """Q/DQ on the inputs and weights of quantized convolutions and on quantized residuals, no more.

    Numerically this is the network with its fake quantizers.

    Args:
        exported: `export_float` of the network.
        net: the calibrated network.
        unsigned: write all activations in uint8, symmetric ones with zero-point 128: the same
            steps.
    """
    graph = QdqGraph(exported, net, unsigned)
    return _with_pairs(graph, _policy_pairs(graph))


def _policy_pairs(graph: QdqGraph) -> Pairs:
    """Quantize the weights, and list the pairs that the policy puts on activations."""
    pairs: Pairs = {}
    for _, node, conv in graph.quantized():
        graph.quantize_weight(node, conv)
        if is_on(conv.input_quantizer):
            affine = graph.affine(node, conv.input_quantizer)
            _join(pairs, node.inputs[0], affine, node)
    for module in graph.net.modules():
        if isinstance(module, QuantAdd) and is_on(module.residual_quantizer):
            reader = graph.convolutions[module.reader]
            affine = graph.affine(reader, module.residual_quantizer)
            _quantize_residual(pairs, reader.inputs[0], affine, module.both)
    return pairs


def _with_pairs(graph: QdqGraph, pairs: Pairs) -> onnx.ModelProto:
    for (_, affine), (tensor, users) in pairs.items():
        graph.insert_pair(tensor, affine, users)
    return graph.finish()


def _join(pairs: Pairs, tensor: gs.Variable, affine: Affine, user: gs.Node) -> None:
    """Let a node read the tensor's pair of this scale."""
    pairs.setdefault((tensor.name, affine), (tensor, []))[1].append(user)


def _quantize_residual(pairs: Pairs, residual: gs.Variable, affine: Affine, both: bool) -> None:
    """Quantize the inputs of the Add beside the first convolution of its branch."""
    add = next(node for node in residual.outputs if node.op == "Add")
    _join(pairs, residual, affine, add)
    if both:
        other = next(tensor for tensor in add.inputs if tensor is not residual)
        _join(pairs, other, affine, add)


def lower_tensorrt(exported: FloatGraph, net: nn.Module) -> onnx.ModelProto:
    """`lower_minimal` in int8, and int8 passed through Concat, MaxPool and nearest Resize.

    These operators only move values. Where all that reads such a result reads it through one pair,
    the same pair goes on what the operator reads: rounding twice to one scale is rounding once, so
    that the numbers stay those of the simulation, and TensorRT moves bytes in the place of floats.
    TensorRT takes a uint8 input only where nothing but a Cast reads it (its `DataType.UINT8`).

    Args:
        exported: `export_float` of the network.
        net: the calibrated network, or a float one, which gets no pairs.

    Raises:
        PolicyError: an activation has a zero-point, which TensorRT does not run; names its layer.
    """
    _check_symmetric(net)
    graph = QdqGraph(exported, net)
    _cast_first(graph.graph)
    pairs = _policy_pairs(graph)
    _pass_integers(graph.graph, pairs)
    return _with_pairs(graph, pairs)


def _check_symmetric(net: nn.Module) -> None:
    for name, module in net.named_modules():
        if not isinstance(module, QuantConv2d):
            continue
        quantizer = module.input_quantizer
        if is_on(quantizer) and not quantizer.spec.symmetric:
            raise PolicyError(
                f"{name}: its input has a zero-point, which TensorRT does not run; calibrate "
                "without: make ptq ARGS=--symmetric"
            )


def _cast_first(graph: gs.Graph) -> None:
    """Turn the image into floats before its channels are moved, not after."""
    (transpose,) = graph.inputs[0].outputs
    (cast,) = transpose.outputs[0].outputs
    assert (transpose.op, cast.op) == ("Transpose", "Cast")
    images, moved, floats = transpose.inputs[0], transpose.outputs[0], cast.outputs[0]
    cast.inputs, cast.outputs = [images], [moved]
    transpose.inputs, transpose.outputs = [moved], [floats]


def _pass_integers(graph: gs.Graph, pairs: Pairs) -> None:
    """Let operators that move values read the pair that everything reads behind them."""
    for node in reversed(graph.nodes):  # against the order of the forward pass
        if not (moved := _moved_by(node)):
            continue
        readers = {id(user) for user in node.outputs[0].outputs}
        for (name, affine), (_, users) in list(pairs.items()):
            if name == node.outputs[0].name and {id(user) for user in users} == readers:
                for tensor in moved:
                    _join(pairs, tensor, affine, node)


def _moved_by(node: gs.Node) -> list[gs.Tensor]:
    """The tensors whose values a Concat, MaxPool or nearest Resize hands on; none of another."""
    if node.op == "Concat":
        return list(node.inputs)
    nearest = node.op == "Resize" and node.attrs.get("mode", "nearest") == "nearest"
    return node.inputs[:1] if node.op == "MaxPool" or nearest else []


def lower_integer(exported: FloatGraph, net: nn.Module, outputs: Ranges) -> onnx.ModelProto:
    """All tensors from one quantized convolution to the next in uint8: ONNX Runtime's QLinear path.

    Quantizes more than the policy's fake quantizers do: convolution outputs, SiLU's sigmoid, and
    the inputs of Concat and Add; so its accuracy is measured on its own. A float convolution reads
    the tensor as it was before it was quantized.

    Args:
        outputs: range of each convolution's output, before its activation.
    """
    graph = QdqGraph(exported, net, unsigned=True)
    affines: dict[str, Affine] = {}  # of each tensor that is held in integers
    inside: set[int] = set()  # ids of the convolutions that read it so
    apart: list[tuple[gs.Variable, Affine, gs.Node]] = []
    for _, node, conv in graph.quantized():
        graph.quantize_weight(node, conv)
        if is_on(conv.input_quantizer):
            tensor = node.inputs[0]
            affine = graph.affine(node, conv.input_quantizer)
            if conv.both_quantized and affines.setdefault(tensor.name, affine) == affine:
                inside.add(id(node))
            else:
                apart.append((tensor, affine, node))
    _spread_to_sources(graph.graph, affines)
    for name, node in graph.convolutions.items():
        if id(node) in inside:
            _quantize_silu(node, outputs[name], affines)
    _spread_to_results(graph.graph, affines)
    for tensor in list(graph.graph.tensors().values()):
        users = [node for node in tensor.outputs if node.op != "Conv" or id(node) in inside]
        if tensor.name in affines and users:
            graph.insert_pair(tensor, affines[tensor.name], users)
    for tensor, affine, node in apart:
        graph.insert_pair(tensor, affine, [node])
    return graph.finish()


def _spread_to_sources(graph: gs.Graph, affines: dict[str, Affine]) -> None:
    """Give what values are moved from the range of where they go: they are rounded once."""
    for node in reversed(graph.nodes):  # against the order of the forward pass
        for tensor in _moved_by(node) if node.outputs[0].name in affines else ():
            affines.setdefault(tensor.name, affines[node.outputs[0].name])


def _quantize_silu(conv: gs.Node, output: tuple[float, float], affines: dict[str, Affine]) -> None:
    """Ranges of Conv -> Sigmoid -> Mul; other activations keep their float kernels."""
    users = conv.outputs[0].outputs
    sigmoid = next((node for node in users if node.op == "Sigmoid"), None)
    product = next((node for node in users if node.op == "Mul"), None)
    if sigmoid is None or product is None:
        return
    result = product.outputs[0].name
    low, high = max(output[0], SILU_FLAT), max(output[1], 0.0)
    if result in affines:  # what is clipped behind SiLU may be clipped before it
        high = min(high, affines[result].high - SILU_MINIMUM)
    affines[conv.outputs[0].name] = asymmetric(low, high)
    affines[sigmoid.outputs[0].name] = asymmetric(0.0, 1.0)
    affines.setdefault(result, asymmetric(max(low, SILU_MINIMUM), high / (1 + math.exp(-high))))


def asymmetric(low: float, high: float) -> Affine:
    """uint8 scale and zero-point of [low, high], widened to hold 0."""
    low, high = min(low, 0.0), max(high, 0.0)
    scale = (high - low) / 255 or 1.0
    return Affine(scale, round(-low / scale) - 128, unsigned=True)


def _spread_to_results(graph: gs.Graph, affines: dict[str, Affine]) -> None:
    """Give pooled and resized tensors the range of their source: int8 kernels pass it on."""
    for node in graph.nodes:  # in the order of the forward pass
        for tensor in _moved_by(node) if node.op != "Concat" else ():
            if tensor.name in affines:
                affines[node.outputs[0].name] = affines[tensor.name]
