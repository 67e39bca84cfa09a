"""Q/DQ put into an exported float graph: pairs where the policy names tensors, int8 weights."""

from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import onnx_graphsurgeon as gs
from numpy.typing import NDArray
from torch import nn

from yoloq.base.errors import PolicyError
from yoloq.graph.export import FloatGraph
from yoloq.models.to_input import WHITE
from yoloq.quant.affine import quantize
from yoloq.quant.modules import QuantConv2d, is_on
from yoloq.quant.quantizer import TensorQuantizer

DEQUANTIZED = "_dequantized"  # behind the name of a tensor that is read from integers


def check_exportable(net: nn.Module, bits: Collection[int] = (8,)) -> None:
    """Find out before anything is built whether engines can run the quantizers of a network.

    Args:
        bits: that an activation may have; those of int8, which clips to no fewer, and of an ONNX
            file.

    Raises:
        PolicyError: an activation has others, or a weight has more than 8.
    """
    for name, module in net.named_modules():
        if not isinstance(module, QuantConv2d):
            continue
        activation, weight = module.input_quantizer, module.weight_quantizer
        if is_on(activation) and activation.spec.bits not in bits:
            raise PolicyError(_simulated(name, "activations", activation.spec.bits))
        if is_on(weight) and weight.spec.bits > 8:
            raise PolicyError(_simulated(name, "weights", weight.spec.bits))


def _simulated(name: str, side: str, bits: int) -> str:
    where = "the torch engine (simulated)"
    if (side, bits) == ("activations", 16):
        where = f"the litert engine and on {where}"
    remedy = "give them 8 bits in the policy to export"
    return f"{name}: {side} of {bits} bits run only on {where}; {remedy}"


@dataclass(frozen=True)
class Affine:
    """Scale and zero-point of an activation; the zero-point's type is the integers' type."""

    scale: float
    zero_point: int
    unsigned: bool = False

    @property
    def dtype(self) -> Any:
        """int8, or uint8 where an engine wants that: the same steps, 128 higher."""
        return np.uint8 if self.unsigned else np.int8

    @property
    def low(self) -> float:
        """Smallest value that the integers stand for."""
        return self.scale * (-128 - self.zero_point)

    @property
    def high(self) -> float:
        """Largest value that the integers stand for."""
        return self.scale * (127 - self.zero_point)


class QdqGraph:
    """An exported graph into which Q/DQ pairs are put; tensors are addressed by name.

    Args:
        exported: what `export_float` returned.
        net: the calibrated network that it was exported from.
        unsigned: whether symmetric activations are uint8 as well (asymmetric ones always are).

    Raises:
        PolicyError: no engine runs the network's quantizers (`check_exportable`).
    """

    def __init__(self, exported: FloatGraph, net: nn.Module, unsigned: bool = False) -> None:
        check_exportable(net)
        self.unsigned = unsigned
        self.graph = import_graph(exported.model)
        self.net = net
        self.convolutions = self._match_convolutions(exported.convolutions)
        self.pairs: Counter[str] = Counter()  # of each tensor

    def _match_convolutions(self, names: Sequence[str]) -> dict[str, gs.Node]:
        """Module name -> Conv node: both stand in the order of the forward pass."""
        nodes = [node for node in self.graph.nodes if node.op == "Conv"]
        if len(names) != len(nodes):
            raise RuntimeError(f"{len(names)} convolutions ran, {len(nodes)} were exported")
        for name, node in zip(names, nodes, strict=True):
            weight = self.net.get_parameter(f"{name}.weight")
            if weight.shape != node.inputs[1].values.shape:
                raise RuntimeError(f"{name} and the exported {node.name} differ in shape")
        return dict(zip(names, nodes, strict=True))

    def quantized(self) -> Iterator[tuple[str, gs.Node, QuantConv2d]]:
        """The convolutions that have quantizers, on one side or on both."""
        for name, node in self.convolutions.items():
            module = self.net.get_submodule(name)
            if isinstance(module, QuantConv2d):
                yield name, node, module

    def quantize_weight(self, node: gs.Node, conv: QuantConv2d) -> None:
        """Put int8 values and a DequantizeLinear in the place of a float weight.

        A weight whose quantizer is off stays in float.
        """
        if not is_on(conv.weight_quantizer):
            return
        integers, scale = self.integer_weight(node, conv)
        name = node.inputs[1].name
        inputs = [
            gs.Constant(f"{name}_int8", integers),
            gs.Constant(f"{name}_scale", scale),
            gs.Constant(f"{name}_zero_point", np.zeros(scale.shape, np.int8)),
        ]
        output = gs.Variable(f"{name}_dequantized", np.float32, integers.shape)
        attributes = {"axis": 0} if scale.ndim else {}
        self.graph.nodes.append(
            gs.Node("DequantizeLinear", f"{name}_DQ", attributes, inputs, [output])
        )
        node.inputs[1] = output

    def integer_weight(
        self, node: gs.Node, conv: QuantConv2d
    ) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
        """A quantized weight's integers, in its shape, and their scales: () or (channels,)."""
        quantizer = conv.weight_quantizer
        assert is_on(quantizer)
        assert quantizer.scale is not None and quantizer.zero_point is not None
        weight = conv.weight.detach()
        integers = quantize(weight, quantizer.scale, quantizer.zero_point, quantizer.spec)
        scale = quantizer.scale.cpu().numpy()
        if self.reads_image(node):
            scale = np.asarray(scale / np.float32(WHITE))  # NumPy makes a scalar of ()
        return integers.cpu().numpy(), scale

    def reads_image(self, node: gs.Node) -> bool:
        """Whether this is the convolution into which the division by 255 was folded."""
        return node is next(iter(self.convolutions.values()))

    def affine(self, node: gs.Node, quantizer: TensorQuantizer) -> Affine:
        """Scale and zero-point of an input of a node."""
        assert quantizer.scale is not None and quantizer.zero_point is not None
        scale = float(quantizer.scale) * (WHITE if self.reads_image(node) else 1)
        # engines run an asymmetric input in uint8 only
        unsigned = self.unsigned or not quantizer.spec.symmetric
        return Affine(scale, int(quantizer.zero_point), unsigned)

    def insert_pair(
        self, tensor: gs.Variable, affine: Affine, users: Sequence[gs.Node] | None = None
    ) -> None:
        """Quantize and dequantize a tensor once for the given readers; None: for all of them."""
        users = list(tensor.outputs) if users is None else users
        count, dtype = self.pairs[tensor.name], affine.dtype
        name = f"{tensor.name}_{count}" if count else tensor.name
        self.pairs[tensor.name] += 1
        scale = gs.Constant(f"{name}_scale", np.array(affine.scale, np.float32))
        zero = affine.zero_point + (128 if affine.unsigned else 0)
        zero_point = gs.Constant(f"{name}_zero_point", np.array(zero, dtype))
        integers = gs.Variable(f"{name}_quantized", dtype, tensor.shape)
        output = gs.Variable(f"{name}{DEQUANTIZED}", np.float32, tensor.shape)
        self.graph.nodes += [
            gs.Node("QuantizeLinear", f"{name}_Q", {}, [tensor, scale, zero_point], [integers]),
            gs.Node("DequantizeLinear", f"{name}_DQ", {}, [integers, scale, zero_point], [output]),
        ]
        for user in users:
            swap(user, tensor, output)

    def finish(self) -> onnx.ModelProto:
        """The checked model.

        Raises:
            onnx.checker.ValidationError: the graph is not valid; a defect of the lowering.
        """
        model = gs.export_onnx(self.graph.cleanup().toposort())
        onnx.checker.check_model(model)
        return model


def import_graph(model: onnx.ModelProto) -> gs.Graph:
    """The graph with every constant as an initializer, and none behind an Identity.

    The exporter stores equal initializers once, behind Identity nodes, and small ones in Constant
    nodes.
    """
    graph = gs.import_onnx(model)
    for node in list(graph.nodes):
        if node.op == "Constant":
            (source,) = node.attrs.values()
        elif node.op == "Identity" and isinstance(node.inputs[0], gs.Constant):
            (source,) = node.inputs
        else:
            continue
        copied = gs.Constant(f"{node.outputs[0].name}_value", source.values)
        for user in list(node.outputs[0].outputs):
            swap(user, node.outputs[0], copied)
    return graph.cleanup()


def swap(node: gs.Node, old: gs.Tensor, new: gs.Tensor) -> None:
    """Let a node read `new` wherever it read `old`."""
    node.inputs = [new if tensor is old else tensor for tensor in node.inputs]
