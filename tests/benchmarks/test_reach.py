"""The rows of the runtimes: what is not installed says so, what no CPU is for has no time."""

import pytest
from latency import Timed
from reach import BASE, COLUMNS, RUNTIMES, row

SCORES = (30.0, 48.0, -0.5, [-1.0, 0.0], 0.95, 0.97, 2.4)
TIMED = Timed(({BASE: 2.0, "ncnn INT8": 5.0}, {BASE: 4.0, "ncnn INT8": 8.0}), 60)


@pytest.mark.parametrize(
    ("title", "scores", "first", "last"),
    [
        ("ncnn INT8", SCORES, "ncnn INT8", (6.5, 2.25, [2.0, 2.5])),
        ("LiteRT INT16, weights INT8", SCORES, "LiteRT INT16, weights INT8", (None, None, None)),
        ("LiteRT INT8", None, "LiteRT INT8: not installed", (None, None, None)),
    ],
    ids=["timed", "not for a CPU", "not installed"],
)
def test_a_row(title: str, scores: tuple | None, first: str, last: tuple) -> None:
    found = row(title, scores, TIMED)
    assert len(found) == len(COLUMNS)
    assert found[0] == first and found[-3:] == last
    assert found[1:-3] == (scores or (None,) * 7)


def test_the_first_row_is_what_times_are_compared_with() -> None:
    assert RUNTIMES[0].title == BASE
    assert len({each.title for each in RUNTIMES}) == len(RUNTIMES)
