"""Ranges from statistics, and ranges as plain tensors."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny_quant import as_input, pictures, statistics, tiny_model, tiny_quantized

from yoloq.quant.calibrate import calibrate, get_ranges, set_ranges
from yoloq.quant.calibrators import CALIBRATORS
from yoloq.quant.policy import Policy, Rule
from yoloq.quant.quantized import quantize_model
from yoloq.quant.spec import ACTIVATION, WEIGHT, QuantSpec, granularity_of

pytestmark = pytest.mark.usefixtures("one_thread")

EVERYTHING = Policy((Rule("*", WEIGHT, ACTIVATION),))


def test_weights_take_their_exact_range_per_channel() -> None:
    conv = tiny_quantized().model.net.get_submodule("model.3.conv")
    wanted = np.abs(conv.weight.detach().numpy()).max((1, 2, 3))
    np.testing.assert_array_equal(conv.weight_quantizer.amax, wanted)


@pytest.mark.parametrize("calibrator", CALIBRATORS)
def test_inputs_take_the_range_of_the_calibrator(calibrator: str) -> None:
    conv = tiny_quantized(calibrator=calibrator).model.net.get_submodule("model.3.conv")
    low, high = CALIBRATORS[calibrator](statistics().inputs["model.3.conv"], ACTIVATION)
    assert float(conv.input_quantizer.amax) == pytest.approx(max(-low, high))


@pytest.mark.parametrize("calibrator", ["max", "mse", "percentile"])
@pytest.mark.parametrize(
    ("symmetric", "step", "zero_point"),
    [
        pytest.param(False, 1 / 255, -128, id="exact"),
        pytest.param(True, 1 / 127, 0, id="a bit less"),
    ],
)
def test_an_image_has_the_range_of_all_images(
    symmetric: bool, step: float, zero_point: int, calibrator: str
) -> None:
    """Whatever the calibration images show: of the small set's, `percentile` clips the white."""
    spec = QuantSpec(symmetric=symmetric)
    whole = {"float_first": 0, "activation": spec, "calibrator": calibrator}
    quantizer = tiny_quantized(**whole).model.net.get_submodule("model.0.conv").input_quantizer
    assert float(quantizer.scale) == np.float32(step)
    assert int(quantizer.zero_point) == zero_point
    every = torch.arange(256) / 255
    error = (quantizer(every) - every).abs().max()
    assert error <= (1e-7 if zero_point else step / 2)


def test_max_calibration_covers_every_image() -> None:
    net = tiny_quantized().model.net
    seen = []
    conv = net.get_submodule("model.3.conv")
    float_net = tiny_model().net
    float_net.get_submodule("model.3.conv").register_forward_pre_hook(
        lambda module, args: seen.append(float(args[0].abs().max()))
    )
    with torch.inference_mode():
        float_net(as_input(pictures(8)))
    assert float(conv.input_quantizer.amax) == pytest.approx(max(seen), rel=1e-5)


def test_rule_overrides_the_calibrator() -> None:
    policy = Policy(
        (Rule("*", WEIGHT, ACTIVATION, "mse"), Rule("model.3", WEIGHT, ACTIVATION, "max"))
    )
    conv = tiny_quantized(policy=policy).model.net.get_submodule("model.3.conv")
    seen = statistics().inputs["model.3.conv"]
    assert float(conv.input_quantizer.amax) == pytest.approx(max(-seen.low, seen.high))


def test_group_of_several_tensors_takes_the_widest_range() -> None:
    quantized = tiny_quantized(sharing="concat")
    seen = [statistics().inputs[f"model.{n}.conv"] for n in ("5", "17.cv1", "20.cv1")]
    widest = max(max(-item.low, item.high) for item in seen)
    conv = quantized.model.net.get_submodule("model.20.cv2.conv")
    assert float(conv.input_quantizer.amax) == pytest.approx(widest)


def test_calibrating_again_replaces_the_ranges() -> None:
    quantized = tiny_quantized(calibrator="mse")
    net = quantized.model.net
    calibrate(net, quantized.placement, statistics().inputs, "max")
    wanted = get_ranges(tiny_quantized(calibrator="max").model.net)
    assert all(torch.equal(pair, wanted[name]) for name, pair in get_ranges(net).items())


def test_dead_channels_are_found_and_stay_zero() -> None:
    model = tiny_model()
    with torch.no_grad():
        conv = model.net.get_submodule("model.3.conv")
        conv.weight[[1, 4]] = 0
        conv.bias[[1, 4]] = 0
    quantized = quantize_model(model, EVERYTHING)
    dead = calibrate(model.net, quantized.placement, statistics().inputs, "max")
    assert [(item.layer, item.channels) for item in dead] == [("model.3.conv", (1, 4))]
    conv = model.net.get_submodule("model.3.conv")
    with torch.inference_mode():
        assert not conv(torch.randn(1, conv.in_channels, 8, 8))[:, [1, 4]].any()


def test_missing_statistics_name_the_convolution() -> None:
    model = tiny_model()
    quantized = quantize_model(model, EVERYTHING)
    left = {n: s for n, s in statistics().inputs.items() if n != "model.3.conv"}
    with pytest.raises(ValueError, match=r"model\.3\.conv"):
        calibrate(model.net, quantized.placement, left, "mse")


def test_uncalibrated_ranges_are_refused_by_name() -> None:
    model = tiny_model()
    quantize_model(model, EVERYTHING)
    with pytest.raises(RuntimeError, match=r"model\.0\.conv\.input_quantizer is not calibrated"):
        get_ranges(model.net)


def test_ranges_go_to_another_network() -> None:
    ranges = get_ranges(tiny_quantized(calibrator="mse").model.net)
    other = tiny_quantized(calibrator="max").model.net
    set_ranges(other, ranges)
    found = get_ranges(other)
    assert all(torch.equal(found[name], ranges[name]) for name in ranges)
    assert {pair.shape for pair in ranges.values()} >= {(2,), (2, 8)}


@pytest.mark.parametrize("change", ["missing", "unknown"])
def test_ranges_that_do_not_fit_are_named(change: str) -> None:
    net = tiny_quantized().model.net
    ranges = get_ranges(net)
    if change == "missing":
        del ranges["model.3.conv.input_quantizer"]
    else:
        ranges["model.99.conv.input_quantizer"] = torch.zeros(2)
    named = "model.3.conv" if change == "missing" else "model.99.conv"
    with pytest.raises(ValueError, match=named):
        set_ranges(net, ranges)


@pytest.mark.parametrize(("granularity", "distinct"), [("tensor", 1), ("group", 2), ("channel", 8)])
def test_weight_granularity(granularity: str, distinct: int) -> None:
    weight = replace(WEIGHT, granularity=granularity_of(granularity, 4))
    net = tiny_quantized(weight=weight).model.net
    quantizer = net.get_submodule("model.2.cv1.conv").weight_quantizer
    assert quantizer.scale.unique().numel() == distinct
    assert quantizer.scale.ndim == (0 if granularity == "tensor" else 1)
