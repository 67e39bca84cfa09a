"""Float network -> ONNX with uint8 images in and the raw head out.

Of a quantized network the float graph is exported too; `qdq.py` puts the quantizers into it, so
that no exporter has to know fake-quantize.
"""

import contextlib
import copy
import io
import logging
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import onnx
import torch
from torch import Tensor, nn

from yoloq.base.errors import EngineError
from yoloq.models.to_input import pixels_first, take_pixels
from yoloq.quant.modules import QuantAdd, QuantConv2d
from yoloq.quant.policy import replace
from yoloq.quant.trace import Op, trace

OPSET = 19  # the first whose DequantizeLinear can give FP16, which the typed variant needs
INPUT = "images"


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
        raws = self.net(pixels_first(images))
        return [raw.permute(0, 2, 3, 1) for raw in raws]


@dataclass(frozen=True)
class FloatGraph:
    """The float graph of a network; it is shared, so nobody changes it.

    Attributes:
        model: the exported graph.
        convolutions: module of each of its Conv nodes, in their order.
    """

    model: onnx.ModelProto
    convolutions: tuple[str, ...]


def export_float(
    net: nn.Module, imgsz: int, batch: int = 1, ops: Sequence[Op] | None = None
) -> FloatGraph:
    """The float graph of a (quantized or float) network.

    Args:
        net: fused, in eval mode; takes (N, 3, H, W) floats in 0..1. Not changed.
        imgsz: image size in pixels, a multiple of the largest stride.
        batch: images at once; the graph is static, which engines run fastest.
        ops: the trace of the float network, where there is one already.

    The input is `images`, uint8 (batch, imgsz, imgsz, 3) RGB; the outputs `raw0`, `raw1`, ... are
    the raw maps with channels last.

    Raises:
        EngineError: the exporter has no translation for a layer.
    """
    plain = float_copy(net)
    ops = trace(plain) if ops is None else ops
    convolutions = tuple(op.name for op in ops if op.kind == "conv")
    first = plain.get_submodule(convolutions[0])
    assert isinstance(first, nn.Conv2d)
    take_pixels(first)
    images = torch.zeros(batch, imgsz, imgsz, 3, dtype=torch.uint8)
    deployed = _Deployed(plain).eval()
    with torch.inference_mode():
        outputs = [f"raw{i}" for i in range(len(deployed(images)))]
    buffer = io.BytesIO()
    with _quiet(), torch.no_grad(), _exportable():
        torch.onnx.export(
            deployed,
            (images,),
            buffer,  # type: ignore[arg-type]
            input_names=[INPUT],
            output_names=outputs,
            opset_version=OPSET,
            dynamo=False,
        )
    return FloatGraph(onnx.load_from_string(buffer.getvalue()), convolutions)


class _Above(nn.Module):
    """A Threshold, of which the exporter knows that at 0 alone."""

    def __init__(self, like: nn.Threshold) -> None:
        super().__init__()
        self.threshold, self.value = like.threshold, like.value

    def forward(self, x: Tensor) -> Tensor:
        return torch.where(x > self.threshold, x, self.value)


def float_copy(net: nn.Module) -> nn.Module:
    """A copy on the CPU whose quantized modules are plain again; weights are unchanged."""
    plain = copy.deepcopy(net).cpu().float()
    for name, module in list(plain.named_modules()):
        if isinstance(module, QuantConv2d):
            replace(plain, name, module.float_conv())
        elif isinstance(module, QuantAdd):
            replace(plain, name, module.float_add())
        elif isinstance(module, nn.Threshold):
            replace(plain, name, _Above(module))
    return plain.eval()


@contextlib.contextmanager
def _exportable() -> Iterator[None]:
    """Name what the exporter has no translation for."""
    try:
        yield
    except torch.onnx.OnnxExporterError as error:
        reason = str(error).strip().partition("\n")[0].partition(". ")[0]
        raise EngineError(
            f"the network cannot be exported to ONNX ({reason}); train it with other layers there"
        ) from None


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
