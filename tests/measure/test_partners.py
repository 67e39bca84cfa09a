"""Boxes of two models that are the same object."""

import numpy as np
import pytest

from yoloq.measure.partners import partners
from yoloq.models.heads.decode import Candidates


def boxes(*rows: tuple[float, float, float, float, int]) -> Candidates:
    table = np.array(rows, np.float32).reshape(-1, 5)
    return Candidates(table[:, :4], np.ones(len(table), np.float32), table[:, 4].astype(np.int64))


FIRST = boxes((0, 0, 10, 10, 0), (100, 0, 110, 10, 1), (50, 50, 60, 60, 0))


@pytest.mark.parametrize(
    ("second", "want"),
    [
        pytest.param(FIRST, [(0, 0), (1, 1), (2, 2)], id="all"),
        pytest.param(boxes(), [], id="none"),
        pytest.param(boxes((0, 0, 10, 10, 1)), [], id="another class"),
        pytest.param(boxes((0, 0, 10, 5, 0)), [(0, 0)], id="IoU of a half"),
        pytest.param(boxes((0, 0, 10, 4.9, 0)), [], id="just below"),
        pytest.param(boxes((0, 0, 10, 8, 0), (0, 0, 10, 9, 0)), [(0, 1)], id="the nearest alone"),
    ],
)
def test_partners(second: Candidates, want: list[tuple[int, int]]) -> None:
    found = partners(FIRST, second)
    assert sorted(map(tuple, found.tolist())) == want
    assert found.shape == (len(want), 2)
    turned = partners(second, FIRST)[:, ::-1]
    assert sorted(map(tuple, turned.tolist())) == want


def test_a_pair_that_overlaps_most_comes_first() -> None:
    first = boxes((0, 0, 10, 10, 0), (0, 1, 10, 11, 0))
    second = boxes((0, 1, 10, 11, 0), (0, 2, 10, 12, 0))
    assert partners(first, second).tolist() == [[1, 0], [0, 1]]
