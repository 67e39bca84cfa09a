"""How one calibrated policy becomes a Q/DQ graph that an engine runs fast: one function an engine.

The engines differ: OpenVINO fuses a convolution, its activation and the next quantization by itself
and wants nothing else quantized; TensorRT hands integers on; what ONNX Runtime wants is so much
more that it is in `integer.py`.
"""

import onnx
import onnx_graphsurgeon as gs
from torch import nn

from yoloq.base.errors import PolicyError
from yoloq.base.own_files import MAKE
from yoloq.graph.export import FloatGraph
from yoloq.graph.qdq import Affine, QdqGraph
from yoloq.quant.modules import QuantAdd, QuantConv2d, is_on

Pairs = dict[tuple[str, Affine], tuple[gs.Variable, list[gs.Node]]]


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

    Args:
        exported: `export_float` of the network.
        net: the calibrated network, or a float one, which gets no pairs.

    Raises:
        PolicyError: an activation has a zero-point, which TensorRT does not run; names its layer.
    """
    check_symmetric(net)
    graph = QdqGraph(exported, net)
    pairs = _policy_pairs(graph)
    _pass_integers(graph.graph, pairs)
    return _with_pairs(graph, pairs)


def check_symmetric(net: nn.Module, runtime: str = "TensorRT", engine: str = "tensorrt") -> None:
    """Find an input with a zero-point.

    Args:
        runtime: that has none; the default is also that of TensorRT's relatives.
        engine: as ENGINE= calls it.

    Raises:
        PolicyError: the runtime does not run it; names its layer.
    """
    for name, module in net.named_modules():
        if not isinstance(module, QuantConv2d):
            continue
        quantizer = module.input_quantizer
        if is_on(quantizer) and not quantizer.spec.symmetric:
            raise PolicyError(
                f"{name}: its input has a zero-point, which {runtime} does not run; calibrate "
                f"for it: {MAKE} ptq ENGINE={engine}"
            )


def _pass_integers(graph: gs.Graph, pairs: Pairs) -> None:
    """Let operators that move values read the pair that everything reads behind them."""
    for node in reversed(graph.nodes):  # against the order of the forward pass
        if not (moved := moved_by(node)):
            continue
        readers = {id(user) for user in node.outputs[0].outputs}
        for (name, affine), (_, users) in list(pairs.items()):
            if name == node.outputs[0].name and {id(user) for user in users} == readers:
                for tensor in moved:
                    _join(pairs, tensor, affine, node)


def moved_by(node: gs.Node) -> list[gs.Tensor]:
    """The tensors whose values a Concat, MaxPool or nearest Resize hands on; none of another."""
    if node.op == "Concat":
        return list(node.inputs)
    nearest = node.op == "Resize" and node.attrs.get("mode", "nearest") == "nearest"
    return node.inputs[:1] if node.op == "MaxPool" or nearest else []
