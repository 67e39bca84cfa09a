"""Boxes and labels are where they should be, whatever the size of the picture."""

import numpy as np
import pytest

from yoloq.models.heads.decode import Candidates
from yoloq.report.drawn_boxes import COLOURS, LIGHT, _place, beside, draw_boxes

NAMES = ("cat", "Älg", "dog")
GREY = 90


def image(height: int = 480, width: int = 640) -> np.ndarray:
    return np.full((height, width, 3), GREY, np.uint8)


def found(*rows: tuple[float, float, float, float, float, int]) -> Candidates:
    table = np.array(rows, np.float64).reshape(-1, 6)
    return Candidates(
        table[:, :4].astype(np.float32), table[:, 4].astype(np.float32), table[:, 5].astype(int)
    )


def pixels(picture: np.ndarray, colour: tuple[int, int, int]) -> np.ndarray:
    """(n, 2) rows and columns that have a colour."""
    return np.argwhere((picture == colour).all(2))


def test_a_box_is_drawn_at_its_corners_in_the_colour_of_its_class() -> None:
    before = image()
    picture = draw_boxes(before, found((100, 120, 300, 400, 0.9, 2)), NAMES)
    assert (before == GREY).all(), "the image stays as it is"
    at = pixels(picture, COLOURS[2])
    box = at[at[:, 0] > 130]  # below the label
    assert (box[:, 1].min(), box[:, 1].max(), box[:, 0].max()) == (100, 300, 400)
    assert (picture[200:380, 110:290] == GREY).all(), "the inside stays free"
    assert (picture[420:, :] == GREY).all()


def test_without_boxes_the_picture_is_the_image() -> None:
    assert (draw_boxes(image(), found(), NAMES) == GREY).all()


def test_a_small_image_is_enlarged_with_its_boxes() -> None:
    picture = draw_boxes(image(64, 64), found((10, 30, 50, 60, 0.9, 0)), NAMES)
    assert picture.shape == (640, 640, 3)
    at = pixels(picture, COLOURS[0])
    assert (at[:, 1].min(), at[:, 1].max(), at[:, 0].max()) == (100 - 2, 500, 600)


def test_boxes_that_no_other_model_has_are_framed_in_white() -> None:
    boxes = found((100, 100, 200, 200, 0.9, 0), (300, 100, 400, 200, 0.8, 0))
    framed = pixels(draw_boxes(image(), boxes, NAMES, alone={1}), LIGHT)
    assert framed[:, 1].min() > 250
    assert not len(pixels(draw_boxes(image(), boxes, NAMES), LIGHT))


@pytest.mark.parametrize(
    "box",
    [
        pytest.param((0, 0, 640, 480), id="whole image"),
        pytest.param((630, 470, 640, 480), id="corner"),
        pytest.param((0, 0, 1, 1), id="a pixel"),
        pytest.param((50, 50, 50, 50), id="without area"),
    ],
)
def test_any_box_can_be_drawn(box: tuple[float, float, float, float]) -> None:
    picture = draw_boxes(image(), found((*box, 0.5, 1)), NAMES)
    assert picture.shape == (480, 640, 3)
    assert len(pixels(picture, COLOURS[1])) > 100, "box and label are seen"


@pytest.mark.parametrize(
    ("box", "taken", "want"),
    [
        pytest.param((100, 100, 300, 300), [], (98, 86), id="above"),
        pytest.param((100, 5, 300, 300), [], (98, 5), id="inside where there is no room above"),
        pytest.param((590, 100, 640, 300), [], (556, 86), id="pushed back into the picture"),
        pytest.param((100, 100, 300, 300), [(90, 80, 200, 100)], (218, 86), id="to the right"),
    ],
)
def test_labels_stand_where_they_hide_nothing(box, taken, want) -> None:
    place = _place(box, (0, 0, 80, 12), 2, taken, (640, 480))
    assert place == (*want, want[0] + 84, want[1] + 14)


def test_pictures_stand_side_by_side_under_their_titles() -> None:
    left, right = image(100, 200), np.full((100, 200, 3), 10, np.uint8)
    whole = beside({"FP32": left, "INT8": right})
    height, width = whole.shape[:2]
    assert height > 100 and width > 400
    assert (whole[-100:, :200] == GREY).all() and (whole[-100:, -200:] == 10).all()
    assert (whole[: height - 100] < 100).any(), "titles are written"
