"""Letterbox against YOLOv5's rule written out again, and box geometry against literals."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from yoloq.data.images import read_image
from yoloq.geometry.boxes import (
    Letterbox,
    area,
    iou,
    letterbox,
    overlap,
    resized_shape,
    to_original,
    xywh_to_xyxy,
)
from yoloq.train.overlap import shared_area


@pytest.mark.parametrize(
    ("height", "width", "imgsz", "want"),
    [
        pytest.param(426, 640, 640, (640, 640, 0, 107, 426), id="landscape at its own size"),
        pytest.param(640, 427, 640, (640, 640, 106, 0, 640), id="portrait, odd pad to the right"),
        pytest.param(100, 200, 320, (320, 320, 0, 80, 160), id="enlarged"),
        pytest.param(64, 64, 64, (64, 64, 0, 0, 64), id="exact"),
        pytest.param(1, 1000, 64, (64, 64, 0, 31, 1), id="a line stays one pixel high"),
        pytest.param(549, 100, 640, (640, 640, 261, 0, 640), id="549 * (640 / 549) > 640"),
    ],
)
def test_letterbox_geometry(
    height: int, width: int, imgsz: int, want: tuple[int, int, int, int, int]
) -> None:
    image = np.full((height, width, 3), 7, dtype=np.uint8)
    square, box = letterbox(image, imgsz)
    rows = int((square == 7).all(axis=(2,)).any(axis=1).sum())
    assert (*square.shape[:2], box.pad_x, box.pad_y, rows) == want
    assert square.flags.c_contiguous
    assert (box.height, box.width, box.ratio) == (height, width, imgsz / max(height, width))
    outside = (square != 7).all(axis=2)
    assert (square[outside] == 114).all()


def test_letterbox_does_not_touch_its_input() -> None:
    image = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)
    before = image.copy()
    square, _ = letterbox(image, 4)
    square[:] = 0
    np.testing.assert_array_equal(image, before)


@pytest.mark.parametrize("imgsz", [320, 640])
def test_letterbox_equals_yolov5_on_photographs(coco_mini: Path, imgsz: int) -> None:
    files = sorted((coco_mini / "images" / "dev").glob("*.jpg"))
    assert len(files) == 158
    for file in files:
        image = read_image(file)
        assert image is not None
        square, box = letterbox(image, imgsz)
        want, pad = _yolov5_letterbox(file, imgsz)
        assert (box.pad_x, box.pad_y) == pad, file
        np.testing.assert_array_equal(square, want, err_msg=str(file))


def test_letterbox_equals_the_stored_reference(coco_mini: Path) -> None:
    image = read_image(coco_mini / "images" / "dev" / "000000000139.jpg")
    assert image is not None
    want = np.load(coco_mini / "reference" / "yolov5n_raw_320.npz")["image"]
    np.testing.assert_array_equal(letterbox(image, 320)[0].transpose(2, 0, 1), want)


def _yolov5_letterbox(file: Path, imgsz: int) -> tuple[np.ndarray, tuple[int, int]]:
    """The two steps of YOLOv5 v7.0 (load_image, then letterbox), on BGR and with its rounding."""
    import cv2

    image = cv2.imread(str(file))
    ratio = imgsz / max(image.shape[:2])
    size = tuple(math.ceil(side * ratio) for side in image.shape[1::-1])
    if ratio != 1:
        how = cv2.INTER_LINEAR if ratio > 1 else cv2.INTER_AREA
        image = cv2.resize(image, size, interpolation=how)
    half_x, half_y = (imgsz - image.shape[1]) / 2, (imgsz - image.shape[0]) / 2
    left, right = round(half_x - 0.1), round(half_x + 0.1)
    top, bottom = round(half_y - 0.1), round(half_y + 0.1)
    grey = (114, 114, 114)
    image = cv2.copyMakeBorder(image, top, bottom, left, right, cv2.BORDER_CONSTANT, value=grey)
    return image[..., ::-1], (left, top)


@pytest.mark.parametrize(
    ("box", "inside", "want"),
    [
        pytest.param(Letterbox(0.5, 0, 10, 40, 80), [0, 10, 40, 30], [0, 0, 80, 40], id="whole"),
        pytest.param(Letterbox(2.0, 5, 0, 20, 10), [7, 4, 9, 8], [1, 2, 2, 4], id="enlarged"),
        pytest.param(Letterbox(1.0, 0, 0, 20, 20), [-5, 3, 90, 4], [0, 3, 20, 4], id="clipped"),
        pytest.param(
            Letterbox(0.5, 0, 0, 5, 20), [0, 0, 10, 3], [0, 0, 20, 5], id="5 rows become 3, not 2.5"
        ),
    ],
)
def test_to_original(box: Letterbox, inside: list[float], want: list[float]) -> None:
    found = to_original(np.array([inside]), box)
    np.testing.assert_allclose(found, [want])
    assert found.dtype == np.float32


def test_to_original_of_no_boxes() -> None:
    assert to_original(np.zeros((0, 4)), Letterbox(1.0, 0, 0, 8, 8)).shape == (0, 4)


@pytest.mark.parametrize(
    ("height", "width", "imgsz", "want"),
    [(480, 640, 320, (240, 320)), (375, 500, 640, (480, 640)), (333, 500, 640, (427, 640))],
)
def test_resized_shape(height: int, width: int, imgsz: int, want: tuple[int, int]) -> None:
    assert resized_shape(height, width, imgsz / max(height, width)) == want


def test_centre_and_size_to_corners() -> None:
    xyxy = np.array([[0.0, 2.0, 4.0, 8.0], [1.0, 1.0, 1.0, 1.0]])
    xywh = np.array([[2.0, 5.0, 4.0, 6.0], [1.0, 1.0, 0.0, 0.0]])
    np.testing.assert_array_equal(xywh_to_xyxy(xywh), xyxy)
    assert xywh_to_xyxy(np.zeros((2, 0, 4))).shape == (2, 0, 4)


def test_area_of_a_box_turned_inside_out_is_zero() -> None:
    np.testing.assert_array_equal(area(np.array([[0, 0, 3, 2], [3, 2, 0, 0]])), [6, 0])


def test_iou_of_all_pairs() -> None:
    a = np.array([[0, 0, 2, 2], [5, 5, 5, 5]], dtype=np.float32)
    b = np.array([[0, 0, 2, 2], [1, 1, 3, 3], [2, 0, 4, 2], [5, 5, 5, 5]], dtype=np.float32)
    want = [[1, 1 / 7, 0, 0], [0, 0, 0, 0]]
    np.testing.assert_allclose(iou(a[:, None], b[None]), want, rtol=1e-6)
    assert iou(a[:0, None], b[None]).shape == (0, 4)


@pytest.mark.parametrize(
    ("a", "b", "want"),
    [
        pytest.param([0, 0, 2, 2], [0, 0, 2, 4], 0.5, id="whole numbers"),
        pytest.param([0, 0, 2, 2], [0, 0, np.nan, 2], 0.0, id="no number"),
        pytest.param([3, 2, 0, 0], [0, 0, 3, 2], 0.0, id="inside out"),
    ],
)
def test_iou_of_a_pair(a: list[float], b: list[float], want: float) -> None:
    assert iou(np.array(a), np.array(b)) == want


def test_shared_area_in_torch_is_that_of_numpy() -> None:
    corners = np.random.default_rng(0).uniform(0, 9, (2, 50, 2, 2)).astype(np.float32)
    boxes = np.sort(corners, 2).reshape(2, 50, 4)
    a, b = ((torch.from_numpy(x[:, :2]), torch.from_numpy(x[:, 2:])) for x in boxes)
    shared, _ = overlap(*boxes)
    assert (shared > 0).any() and (shared == 0).any()
    np.testing.assert_allclose(shared_area(a, b, 1).numpy(), shared, rtol=1e-6)
