"""Ranges set by hand: parsing, names, and what changes."""

import pytest
from tiny_quant import tiny_quantized

from yoloq.base.errors import PolicyError
from yoloq.quant.amax_by_hand import resolve_amax, set_amax
from yoloq.quant.amax_flag import parse_amax
from yoloq.quant.calibrate import get_ranges

pytestmark = pytest.mark.usefixtures("one_thread")


def test_names_and_numbers_are_read() -> None:
    found = parse_amax(["model.8.cv1=4.2", "model.9.cv1.conv=1e-3"])
    assert found == {"model.8.cv1": 4.2, "model.9.cv1.conv": 0.001}


@pytest.mark.parametrize(
    "text", ["model.8.cv1", "=4", "model.8.cv1=", "model.8.cv1=x", "a=0", "a=-1", "a=nan", "a=inf"]
)
def test_a_bad_text_is_named(text: str) -> None:
    with pytest.raises(PolicyError, match=f"--amax {text}: must be a layer and a number"):
        parse_amax([text])


@pytest.mark.parametrize(
    ("chosen", "named"),
    [
        ({"model.8.cw1": 1.0}, "'model.8.cw1' matches no convolution; near names: .*model.8.cv1"),
        ({"model.8": 1.0}, "model.8: holds 5 convolutions; name one of model.8.cv1.conv"),
        ({"model.0": 1.0}, "model.0: is in float"),
        (
            {"model.8.cv1": 1.0, "model.8.cv2": 2.0},
            "model.8.cv2: shares its range with model.8.cv1",
        ),
    ],
    ids=["unknown", "several", "float", "siblings"],
)
def test_a_name_that_does_not_fit_changes_nothing(chosen: dict[str, float], named: str) -> None:
    quantized = tiny_quantized()
    net = quantized.model.net
    before = get_ranges(net)
    with pytest.raises(PolicyError, match=named):
        set_amax(net, quantized.placement, {"model.3": 1.0} | chosen)
    assert all(bool((pair == before[name]).all()) for name, pair in get_ranges(net).items())


@pytest.mark.parametrize("name", ["model.8.cv1", "model.8.cv1.conv", "model.8.cv1*"])
def test_a_name_around_one_convolution_stands_for_it(name: str) -> None:
    assert resolve_amax(tiny_quantized().placement, {name: 4.2}) == {"model.8.cv1.conv": 4.2}


def test_only_the_named_range_changes_and_siblings_follow() -> None:
    quantized = tiny_quantized()
    net = quantized.model.net
    before = get_ranges(net)
    [change] = set_amax(net, quantized.placement, {"model.8.cv1": 4.2})
    assert change.layers == ("model.8.cv1.conv", "model.8.cv2.conv")
    assert change.before == pytest.approx(
        float(before["model.8.cv1.conv.input_quantizer"].abs().max())
    )
    after = get_ranges(net)
    changed = {name for name in after if not bool((after[name] == before[name]).all())}
    assert changed == {"model.8.cv1.conv.input_quantizer"}
    quantizer = net.get_submodule("model.8.cv2.conv.input_quantizer")
    assert quantizer.amax == pytest.approx(4.2)
    assert float(quantizer.scale) == pytest.approx(4.2 / 127)
    assert float(quantizer.low) == -float(quantizer.high)
