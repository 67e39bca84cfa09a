"""Float network -> ONNX with uint8 images in and the raw head out; and Q/DQ put into that graph.

The float graph is exported first, then QuantizeLinear/DequantizeLinear pairs and int8 weight
initializers go in at the tensors that the policy names, so no exporter has to know fake-quantize.
"""

import contextlib
import copy
import io
import logging
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import onnx_graphsurgeon as gs
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from yoloq.base.errors import PolicyError
from yoloq.quant.affine import quantize
from yoloq.quant.modules import QuantAdd, QuantConv2d, is_on
from yoloq.quant.policy import replace
from yoloq.quant.quantizer import TensorQuantizer
from yoloq.quant.trace import trace

OPSET = 19  # the first whose DequantizeLinear can give FP16, which the typed variant needs
INPUT = "images"
DEQUANTIZED = "_dequantized"  # behind the name of a tensor that is read from integers


class _Deployed(nn.Module):
    """uint8 (N, H, W, 3) -> raw maps (N, H / s, W / s, C).

    Channels last on both ends is what CPU kernels hold inside, and the box decode reads it best.
    The division by 255 is in the first convolution's weights: pixels stay whole numbers, which
    BF16 and int8 hold without rounding.
    """

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, images: Tensor) -> list[Tensor]:
        raws = self.net(images.permute(0, 3, 1, 2).float())
        return [raw.permute(0, 2, 3, 1) for raw in raws]


def export_float(net: nn.Module, imgsz: int, batch: int = 1) -> onnx.ModelProto:
    """The float graph of a (quantized or float) network.

    Args:
        net: fused, in eval mode; takes (N, 3, H, W) floats in 0..1. Not changed.
        imgsz: image size in pixels, a multiple of the largest stride.
        batch: images at once; the graph is static, which engines run fastest.

    The input is `images`, uint8 (batch, imgsz, imgsz, 3) RGB; the outputs `raw0`, `raw1`, ... are
    the raw maps with channels last.
    """
    plain = float_copy(net)
    levels = [op for op in trace(plain) if op.kind == "conv"]
    first = plain.get_submodule(levels[0].name)
    assert isinstance(first, nn.Conv2d)
    with torch.no_grad():
        first.weight /= 255
    images = torch.zeros(batch, imgsz, imgsz, 3, dtype=torch.uint8)
    deployed = _Deployed(plain).eval()
    with torch.inference_mode():
        outputs = [f"raw{i}" for i in range(len(deployed(images)))]
    buffer = io.BytesIO()
    with _quiet(), torch.no_grad():
        torch.onnx.export(
            deployed,
            (images,),
            buffer,  # type: ignore[arg-type]
            input_names=[INPUT],
            output_names=outputs,
            opset_version=OPSET,
            dynamo=False,
        )
    return onnx.load_from_string(buffer.getvalue())


def float_copy(net: nn.Module) -> nn.Module:
    """A copy on the CPU whose quantized modules are plain again; weights are unchanged."""
    plain = copy.deepcopy(net).cpu().float()
    for name, module in list(plain.named_modules()):
        if isinstance(module, QuantConv2d):
            replace(plain, name, module.float_conv())
        elif isinstance(module, QuantAdd):
            replace(plain, name, module.float_add())
    return plain.eval()


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Hold back the exporter's notice that a newer exporter exists, and its log."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def check_exportable(net: nn.Module) -> None:
    """Find out before anything is built whether engines can run the quantizers of a network.

    Raises:
        PolicyError: an activation has fewer than 8 bits, which no engine's int8 clips to.
    """
    for name, module in net.named_modules():
        if isinstance(module, QuantConv2d) and is_on(module.input_quantizer):
            bits = module.input_quantizer.spec.bits
            if bits != 8:
                raise PolicyError(
                    f"{name}: activations of {bits} bits run only on the torch engine "
                    "(simulated); give them 8 bits in the policy to export"
                )


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
    def high(self) -> float:
        """Largest value that the integers stand for."""
        return self.scale * (127 - self.zero_point)


class QdqGraph:
    """An exported graph into which Q/DQ pairs are put; tensors are addressed by name.

    Args:
        model: what `export_float` returned.
        net: the calibrated network that it was exported from.
        unsigned: whether symmetric activations are uint8 as well (asymmetric ones always are).

    Raises:
        PolicyError: no engine runs the network's quantizers (`check_exportable`).
    """

    def __init__(self, model: onnx.ModelProto, net: nn.Module, unsigned: bool = False) -> None:
        check_exportable(net)
        self.unsigned = unsigned
        self.graph = import_graph(model)
        self.net = net
        self.convolutions = self._match_convolutions()
        self.pairs: Counter[str] = Counter()  # of each tensor

    def _match_convolutions(self) -> dict[str, gs.Node]:
        """Module name -> Conv node: both stand in the order of the forward pass."""
        names = [op.name for op in trace(float_copy(self.net)) if op.kind == "conv"]
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
        quantizer = conv.weight_quantizer
        if not is_on(quantizer):
            return
        assert quantizer.scale is not None and quantizer.zero_point is not None
        weight = conv.weight.detach()
        integers = quantize(weight, quantizer.scale, quantizer.zero_point, quantizer.spec)
        scale = quantizer.scale.cpu().numpy()
        if self.reads_image(node):
            scale = np.asarray(scale / np.float32(255))  # NumPy makes a scalar of ()
        name = node.inputs[1].name
        inputs = [
            gs.Constant(f"{name}_int8", integers.cpu().numpy()),
            gs.Constant(f"{name}_scale", scale),
            gs.Constant(f"{name}_zero_point", np.zeros(scale.shape, np.int8)),
        ]
        output = gs.Variable(f"{name}_dequantized", np.float32, integers.shape)
        attributes = {"axis": 0} if scale.ndim else {}
        self.graph.nodes.append(
            gs.Node("DequantizeLinear", f"{name}_DQ", attributes, inputs, [output])
        )
        node.inputs[1] = output

    def reads_image(self, node: gs.Node) -> bool:
        """Whether this is the convolution into which the division by 255 was folded."""
        return node is next(iter(self.convolutions.values()))

    def affine(self, node: gs.Node, quantizer: TensorQuantizer) -> Affine:
        """Scale and zero-point of an input of a node."""
        assert quantizer.scale is not None and quantizer.zero_point is not None
        scale = float(quantizer.scale) * (255 if self.reads_image(node) else 1)
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


def raw_maps(outputs: Sequence[NDArray[Any]]) -> list[NDArray[np.float32]]:
    """Raw maps with channels last, as the deployed graph gives them -> (N, C, H, W) views."""
    return [output.transpose(0, 3, 1, 2) for output in outputs]
