"""The table of a quantized network's convolutions says what stands there."""

from dataclasses import replace

import pytest
from tiny_quant import tiny_model, tiny_quantized

from yoloq.quant.modules import QuantConv2d
from yoloq.quant.placed import placed
from yoloq.quant.quantized import quantize_model
from yoloq.quant.spec import QuantSpec

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize("symmetric", [True, False])
def test_ranges_are_those_of_the_quantizers(symmetric: bool) -> None:
    quantized = tiny_quantized(activation=QuantSpec(symmetric=symmetric))
    rows = {row.layer: row for row in placed(quantized)}
    assert list(rows) == list(quantized.placement.layers)
    conv = quantized.model.net.get_submodule("model.3.conv")
    assert isinstance(conv, QuantConv2d)
    low, high = (float(getattr(conv.input_quantizer, name)) for name in ("low", "high"))
    scale = max(-low, high) / 127 if symmetric else (max(high, 0) - min(low, 0)) / 255
    assert rows["model.3.conv"].int8
    assert rows["model.3.conv"].scale == pytest.approx(scale)
    assert (rows["model.3.conv"].zero_point == 0) is symmetric


def test_what_stays_in_float_has_no_range() -> None:
    quantized = tiny_quantized()
    floats = [row for row in placed(quantized) if not row.int8]
    assert [row.layer for row in floats] == quantized.placement.float_layers
    assert {(row.scale, row.zero_point) for row in floats} == {(None, None)}


def test_what_is_not_calibrated_is_named() -> None:
    bare = quantize_model(tiny_model(), replace(tiny_quantized().policy))
    with pytest.raises(RuntimeError, match=r"model\.\d+.*amax is None"):
        placed(bare)
