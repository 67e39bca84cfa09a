"""Work in threads whose results keep the order of the items."""

import threading
import time
from collections.abc import Iterator

import pytest

from yoloq.base.ahead import in_order


def test_results_keep_the_order_whatever_each_takes() -> None:
    def work(number: int) -> int:
        time.sleep(0.01 * (number % 3))
        return 10 * number

    assert list(in_order(work, range(9), 3, 4)) == [0, 10, 20, 30, 40, 50, 60, 70, 80]
    assert list(in_order(work, [], 3, 4)) == []


@pytest.mark.parametrize("ahead", [0, 3])
def test_no_more_than_is_wanted_is_drawn_ahead(ahead: int) -> None:
    drawn: list[int] = []

    def items() -> Iterator[int]:
        for number in range(10):
            drawn.append(number)
            yield number

    results = in_order(lambda number: number, items(), 2, ahead)
    assert next(results) == 0
    assert len(drawn) == ahead + 1
    results.close()


def test_an_error_comes_where_its_result_would_and_no_thread_stays() -> None:
    before = threading.active_count()
    results = in_order(lambda number: 6 // number, [1, 0, 2], 2, 1)
    assert next(results) == 6
    with pytest.raises(ZeroDivisionError):
        next(results)
    assert threading.active_count() == before
