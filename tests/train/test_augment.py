"""Augmentation: boxes follow the pixels."""

import numpy as np
import pytest

from yoloq.train.augment import (
    Augment,
    Sample,
    View,
    make_sample,
    mosaic,
    random_view,
    render,
    shift_colours,
)

STILL = Augment(0, 0, 0, 0, 0, 0, 0, 0)


def sample(box: tuple[int, int, int, int] = (20, 30, 60, 50), size: int = 100) -> Sample:
    """A white box on black."""
    x1, y1, x2, y2 = box
    image = np.zeros((size, size, 3), np.uint8)
    image[y1:y2, x1:x2] = 255
    return Sample(image, np.array([box], np.float32), np.array([3]))


def drawn_box(image: np.ndarray) -> tuple[int, int, int, int]:
    """Where the white is."""
    rows, columns = np.nonzero(image[..., 0] > 127)
    return columns.min(), rows.min(), columns.max() + 1, rows.max() + 1


@pytest.mark.parametrize(
    ("view", "box"),
    [
        pytest.param(View((1, 1), (0, 0)), (20, 30, 60, 50), id="identity"),
        pytest.param(View((2, 2), (-20, -40)), (20, 20, 100, 60), id="zoomed"),
        pytest.param(View((-1, 1), (100, 0)), (40, 30, 80, 50), id="mirrored"),
        pytest.param(View((1, -1), (0, 100)), (20, 50, 60, 70), id="upside down"),
        pytest.param(View((0.5, 0.5), (10, 30)), (20, 45, 40, 55), id="shrunk"),
        pytest.param(View((1, 1), (-30, 0)), (0, 30, 30, 50), id="cut"),
    ],
)
def test_boxes_follow_the_pixels(view, box):
    got = render(sample(), view, 100, 100)
    assert got.boxes.tolist() == [list(box)]
    assert got.classes.tolist() == [3]
    assert drawn_box(got.image) == box


@pytest.mark.parametrize(
    "view",
    [
        pytest.param(View((1, 1), (-200, 0)), id="outside"),
        pytest.param(View((1, 1), (-50, 0)), id="a quarter left"),
        pytest.param(View((0.1, 0.1), (0, 0)), id="two pixels high"),
    ],
)
def test_boxes_of_which_little_remains_are_dropped(view):
    got = render(sample(), view, 100, 100)
    assert got.boxes.shape == (0, 4)
    assert got.classes.shape == (0,)


def test_no_box_is_fine():
    empty = Sample(sample().image, np.zeros((0, 4), np.float32), np.zeros(0, np.int64))
    assert render(empty, View((1, 1), (5, 5)), 50, 50).boxes.shape == (0, 4)


def test_all_zero_leaves_only_the_resize():
    got = make_sample(np.random.default_rng(0), [sample()], 200, STILL)
    assert got.boxes.tolist() == [[40, 60, 120, 100]]
    assert drawn_box(got.image) == (40, 60, 120, 100)


def test_random_views_keep_boxes_on_the_pixels():
    generator = np.random.default_rng(1)
    for _ in range(20):
        source = sample((40, 40, 70, 60))
        view = random_view(generator, source, 160, Augment())
        got = render(source, view, 160, 160)
        np.testing.assert_allclose(got.boxes[0], drawn_box(got.image), atol=1)


def test_mosaic_shows_four_pictures_with_their_boxes():
    sources = [sample((10, 10, 90, 90)) for _ in range(4)]
    got = mosaic(np.random.default_rng(2), sources, 100, STILL)
    assert got.image.shape == (100, 100, 3)
    assert 1 <= len(got.boxes) <= 4
    for x1, y1, x2, y2 in got.boxes.round().astype(int):
        assert (got.image[y1 + 1 : y2 - 1, x1 + 1 : x2 - 1] == 255).mean() > 0.95


def test_colours_change_and_the_input_does_not():
    image = np.full((4, 4, 3), (200, 100, 50), np.uint8)
    before = image.copy()
    got = shift_colours(np.random.default_rng(0), image, Augment())
    assert got.dtype == np.uint8
    assert (got != before).any()
    np.testing.assert_array_equal(image, before)
    np.testing.assert_array_equal(shift_colours(np.random.default_rng(0), image, STILL), before)
