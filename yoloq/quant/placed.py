"""What stands at each convolution of a quantized network, as a table for people."""

from dataclasses import dataclass

from yoloq.quant.modules import QuantConv2d, is_on
from yoloq.quant.quantized import QuantizedModel


@dataclass(frozen=True)
class PlacedLayer:
    """A convolution: whether both its sides are integers, and how its input is quantized.

    `scale` and `zero_point` are those of the input, None where that stays in float.
    """

    layer: str
    int8: bool
    scale: float | None
    zero_point: int | None


def placed(quantized: QuantizedModel) -> list[PlacedLayer]:
    """Every convolution, in forward order.

    Raises:
        RuntimeError: an input's quantizer is not calibrated.
    """
    return [
        PlacedLayer(name, plan.quantized, *_affine(quantized, name))
        for name, plan in quantized.placement.layers.items()
    ]


def _affine(quantized: QuantizedModel, name: str) -> tuple[float | None, int | None]:
    conv = quantized.model.net.get_submodule(name)
    if not (isinstance(conv, QuantConv2d) and is_on(conv.input_quantizer)):
        return None, None
    quantizer = conv.input_quantizer
    if quantizer.scale is None or quantizer.zero_point is None:
        raise RuntimeError(f"{name}: its input is not calibrated (amax is None)")
    return float(quantizer.scale), int(quantizer.zero_point)
