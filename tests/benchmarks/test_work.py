"""The share of each block in a network's multiplications."""

import numpy as np
import pytest
from growth import exponents
from work import block_work

from yoloq.models.load import fused, new_model
from yoloq.models.yolov5.layout import v6_spec


def test_work_of_blocks_against_the_published_network() -> None:
    net = fused(new_model("yolov5", v6_spec("n", 80), tuple(map(str, range(80))))).net
    work = block_work(net)  # type: ignore[arg-type]
    assert sum(work) == pytest.approx(1)
    # multiply-adds at 640: 6x6x3x16 on 320x320, then 3x3x16x32 on 160x160, of 2.28 G (4.5 GFLOPs)
    assert work[0] == pytest.approx(36 * 3 * 16 * 320**2 / 2.24e9, rel=0.03)
    assert work[1] / work[0] == pytest.approx(9 * 16 * 32 * 160**2 / (36 * 3 * 16 * 320**2))
    assert work[11] == 0, "an upsampling multiplies nothing"
    again = [sum(work[block:]) for block in range(2, 24)]
    assert np.mean(again) == pytest.approx(0.42, abs=0.015)


def test_exponent_of_growth() -> None:
    # four times the work: four times the cost, then sixteen times, then the same
    assert exponents([1, 4, 16, 64], [2.0, 8.0, 128.0, 128.0]) == [None, 1.0, 2.0, 0.0]
