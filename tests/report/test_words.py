"""Figures and layers in words."""

import pytest

from yoloq.report.words import in_float, interval, points, times

MANY = tuple(f"model.{index}.conv" for index in range(6))
LAYERS = ("model.0.conv", "model.1.conv", "model.24.m.0", "model.20.cv1.conv", "model.24.m.1")


@pytest.mark.parametrize(
    ("ratio", "words"),
    [
        (1.83, "1.8 times faster"),
        (3.0, "3 times faster"),
        (123.4, "123.4 times faster"),
        (1.04, "1.04 times faster"),
        (1.0, "no faster"),
        (0.998, "no faster"),
        (0.5, "2 times slower"),
        (0.95, "1.05 times slower"),
    ],
)
def test_ratios(ratio: float, words: str) -> None:
    assert times(ratio, "faster", "slower") == words


@pytest.mark.parametrize(
    ("fraction", "words"),
    [
        (-0.001, "0.1 points below FP32"),
        (0.0234, "2.3 points above FP32"),
        (-0.0004, "as accurate as FP32"),
    ],
)
def test_losses(fraction: float, words: str) -> None:
    assert points(fraction) == words


def test_intervals_are_in_points() -> None:
    assert interval((-0.007, 0.004)) == "95%: -0.7 to +0.4"


@pytest.mark.parametrize(
    ("layers", "every", "words"),
    [
        ((), LAYERS, "every convolution in int8"),
        (("model.24.m.0", "model.24.m.1"), LAYERS, "head in float"),
        (("model.24.m.0",), (), "1 convolution in float (model.24)"),
        (
            ("model.1.conv", "model.24.m.0", "model.0.conv"),
            LAYERS,
            "3 of 5 convolutions in float (model.0, model.1, model.24)",
        ),
        (
            MANY,
            (*MANY, "model.24.m.0"),
            "6 of 7 convolutions in float (model.0, model.1, model.2, model.3, ...)",
        ),
    ],
)
def test_layers_in_float(layers: tuple[str, ...], every: tuple[str, ...], words: str) -> None:
    assert in_float(layers, every) == words
