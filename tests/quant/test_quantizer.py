"""One tensor's quantizer: its range, its switch, what it refuses."""

import pytest
import torch

from yoloq.quant.quantizer import TensorQuantizer
from yoloq.quant.spec import WEIGHT, QuantSpec


def calibrated(spec: QuantSpec | None = None) -> TensorQuantizer:
    quantizer = TensorQuantizer(spec or QuantSpec())
    quantizer.set_range(torch.tensor(-1.0), torch.tensor(12.7))
    return quantizer


def test_uncalibrated_quantizer_has_no_amax_and_raises() -> None:
    quantizer = TensorQuantizer(QuantSpec())
    assert quantizer.amax is None
    with pytest.raises(RuntimeError, match="not calibrated"):
        quantizer(torch.ones(2))


def test_quantizer_that_is_off_returns_its_input() -> None:
    x = torch.randn(3)
    uncalibrated, ready = TensorQuantizer(QuantSpec()), calibrated()
    uncalibrated.enabled = ready.enabled = False
    assert uncalibrated(x) is x
    assert ready(x) is x


def test_range_amax_and_scale() -> None:
    quantizer = calibrated()
    assert float(quantizer.amax) == pytest.approx(12.7)
    assert float(quantizer.scale) == pytest.approx(0.1)
    x = torch.tensor([0.0, 0.04, 0.06, -13.0, 99.0])
    torch.testing.assert_close(quantizer(x), torch.tensor([0.0, 0.0, 0.1, -12.8, 12.7]))


@pytest.mark.parametrize(
    ("low", "high", "message"),
    [
        pytest.param(float("nan"), 1.0, "finite", id="NaN"),
        pytest.param(0.0, float("inf"), "finite", id="infinite"),
        pytest.param(1.0, -1.0, "low <= high", id="crossed"),
    ],
)
def test_impossible_range_is_refused(low: float, high: float, message: str) -> None:
    quantizer = calibrated()
    with pytest.raises(ValueError, match=message):
        quantizer.set_range(torch.tensor(low), torch.tensor(high))
    assert float(quantizer.amax) == pytest.approx(12.7), "the former range stays"


def test_range_moves_with_the_model_and_stays_out_of_its_state_dict() -> None:
    quantizer = calibrated()
    assert quantizer.state_dict() == {}
    assert quantizer.to("meta").scale.is_meta


@pytest.mark.parametrize(
    ("quantizer", "text"),
    [
        pytest.param(TensorQuantizer(WEIGHT), "bits=8, channel, amax=None", id="uncalibrated"),
        pytest.param(calibrated(), "bits=8, tensor, amax=12.7", id="calibrated"),
    ],
)
def test_representation(quantizer: TensorQuantizer, text: str) -> None:
    assert text in repr(quantizer)
