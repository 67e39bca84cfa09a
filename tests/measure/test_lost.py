"""Boxes that one model finds and another does not."""

import numpy as np
import pytest

from yoloq.geometry.detections import Detections
from yoloq.measure.lost import differences

BOX, NEAR, FAR = [0, 0, 10, 10], [0, 0, 10, 8], [50, 50, 60, 60]  # IoU of the first two: 0.8


def found(*items: tuple[int, list[int], int], score: float = 0.5) -> Detections:
    """Boxes as (image, corners, class)."""
    images, boxes, classes = zip(*items, strict=True) if items else ((), (), ())
    corners = np.array(boxes, np.float32).reshape(-1, 4)
    scores = np.full(len(items), score, np.float32)
    return Detections(3, np.array(images, int), corners, scores, np.array(classes, int))


@pytest.mark.parametrize(
    ("ours", "theirs", "expected"),
    [
        pytest.param([(0, BOX, 0)], [(0, NEAR, 0)], (1, 0, 0), id="moved"),
        pytest.param([(0, BOX, 0)], [(0, NEAR, 1)], (0, 1, 1), id="another class"),
        pytest.param([(0, BOX, 0)], [(0, FAR, 0)], (0, 1, 1), id="elsewhere"),
        pytest.param([(0, BOX, 0)], [], (0, 1, 0), id="lost"),
        pytest.param([], [(0, BOX, 0)], (0, 0, 1), id="found"),
        pytest.param([(0, BOX, 0)], [(0, BOX, 0), (0, NEAR, 0)], (1, 0, 1), id="twice"),
    ],
)
def test_one_image(ours: list, theirs: list, expected: tuple[int, int, int]) -> None:  # type: ignore[type-arg]
    [each] = differences(found(*ours), found(*theirs))
    assert (len(each.kept), len(each.lost), len(each.found)) == expected


def test_images_are_kept_apart() -> None:
    ours, theirs = found((0, BOX, 0), (2, FAR, 0)), found((1, BOX, 0), (2, FAR, 0))
    each = differences(ours, theirs)
    assert [item.image for item in each] == [0, 1, 2]
    assert [len(item.lost) for item in each] == [1, 0, 0]
    assert [len(item.found) for item in each] == [0, 1, 0]
    assert each[2].kept == ((1, 1),)


def test_two_boxes_of_one_place_take_their_own_partners() -> None:
    ours, theirs = found((0, BOX, 0), (0, NEAR, 0)), found((0, NEAR, 0), (0, BOX, 0))
    [each] = differences(ours, theirs)
    assert sorted(each.kept) == [(0, 1), (1, 0)]


def test_what_was_surer_weighs_more() -> None:
    ours, theirs = found((0, BOX, 0), score=0.9), found((0, FAR, 0), score=0.25)
    [each] = differences(ours, theirs)
    assert each.size == pytest.approx(1.15)


def test_a_box_that_fell_below_what_is_shown_is_lost_by_so_much() -> None:
    ours, theirs = found((0, BOX, 0), score=0.3), found((0, NEAR, 0), score=0.2)
    [each] = differences(ours, theirs)
    [change] = each.lost
    assert (change.index, each.kept, each.found) == (0, (), ())
    assert (change.score, change.other) == (pytest.approx(0.3), pytest.approx(0.2))
    assert each.size == pytest.approx(0.1)
    [back] = differences(theirs, ours)
    assert back.found == each.lost and back.lost == ()


def test_weak_boxes_of_both_are_nothing() -> None:
    weak = found((0, BOX, 0), score=0.2)
    assert differences(weak, weak)[0].size == 0


def test_nothing_found_is_nothing_different() -> None:
    assert differences(found(), found()) == []
