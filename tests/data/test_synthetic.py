"""The built-in set: deterministic, tight boxes, labels that match what is drawn."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml

from yoloq.base.errors import DataError
from yoloq.base.own_files import ROOT
from yoloq.data import synthetic
from yoloq.data.shapes import (
    CLASSES,
    KINDS,
    Sprite,
    cross,
    disc,
    draw_sprite,
    polygon,
    ring,
    square,
)

SMALL = {"seed": 3, "train": 3, "val": 2, "imgsz": 64}


def sprite(kind: int, **changes: object) -> Sprite:
    colours = np.array([[200, 10, 10], [10, 200, 10]], np.float32)
    values = {"x": 32, "y": 32, "radius": 10, "aspect": 1, "angle": 0, "shade": 0}
    return Sprite(**{"kind": kind, "colours": colours, **values, **changes})


@pytest.mark.parametrize(
    ("shape", "inside", "outside"),
    [
        pytest.param(disc, (0.7, 0.7), (0.72, 0.72), id="disc"),
        pytest.param(square, (0.87, 0.87), (0.89, 0), id="square"),
        pytest.param(ring, (0.53, 0), (0.5, 0), id="ring"),
        pytest.param(cross, (0.29, 0.99), (0.31, 0.31), id="cross"),
        pytest.param(polygon(3, 0.5), (0, 0.49), (0, 0.51), id="triangle-side"),
        pytest.param(polygon(3, 0.5), (0, -0.99), (0, -1.01), id="triangle-tip"),
        pytest.param(polygon(5, 0.48), (0, -0.99), (0, 0.5), id="star"),
    ],
)
def test_shapes_are_negative_inside(shape, inside, outside):
    points = np.array([inside, outside], np.float32)
    signs = np.sign(shape(points[:, 0], points[:, 1]))
    assert signs.tolist() == [-1, 1]


@pytest.mark.parametrize(
    ("kind", "changes", "box"),
    [
        pytest.param("ring", {}, (22, 22, 42, 42), id="whole"),
        pytest.param("ring", {"x": 4}, (0, 22, 14, 42), id="cut by the border"),
        pytest.param("cross", {"aspect": 1.2}, (20, 24, 44, 40), id="stretched"),
        pytest.param("cross", {"angle": np.pi / 2, "aspect": 1.2}, (24, 20, 40, 44), id="turned"),
    ],
)
def test_boxes_are_tight_around_the_visible_frame(kind, changes, box):
    canvas = np.zeros((64, 64, 3), np.float32)
    extent = draw_sprite(canvas, sprite(list(CLASSES).index(kind), **changes))
    assert extent.box == pytest.approx(box, abs=1)
    rows, columns = np.nonzero(canvas.sum(2) > 110)  # half of the colour's 220
    assert extent.box == (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)


def test_a_sprite_outside_the_picture_leaves_it_alone():
    canvas = np.zeros((64, 64, 3), np.float32)
    assert draw_sprite(canvas, sprite(0, x=-50.0)).box == (0, 0, 0, 0)
    assert not canvas.any()


@pytest.mark.parametrize("kind", range(len(KINDS)))
def test_every_kind_is_drawn_within_its_picture(kind):
    canvas = np.zeros((64, 64, 3), np.float32)
    extent = draw_sprite(canvas, sprite(kind, angle=0.4))
    assert extent.area > 30
    assert np.isfinite(canvas).all()


def test_an_example_depends_on_its_generator_alone():
    one, two, other = (
        synthetic.draw_example(np.random.default_rng(seed), 96) for seed in (5, 5, 6)
    )
    np.testing.assert_array_equal(one[0], two[0])
    assert one[1:] == two[1:]
    assert one[0].dtype == np.uint8
    assert (one[0] != other[0]).any()


def test_boxes_lie_in_the_picture_and_are_not_tiny():
    for seed in range(8):
        _, classes, boxes = synthetic.draw_example(np.random.default_rng(seed), 320)
        corners = np.array(boxes).reshape(-1, 4)
        assert len(classes) == len(boxes)
        assert ((corners >= 0) & (corners <= 320)).all()
        assert (corners[:, 2:] - corners[:, :2] >= synthetic.MIN_BOX).all()


def test_label_rows_are_fractions():
    rows = list(synthetic.label_rows([7], [(10, 20, 30, 60)], 100))
    assert rows == ["7 0.200000 0.400000 0.200000 0.400000\n"]


def test_ensure_makes_the_set_once_and_whole(tmp_path):
    folder = tmp_path / "cache" / "set"
    synthetic.ensure(folder, **SMALL)
    files = sorted(folder.rglob("*.jpg"))
    assert [file.parent.name for file in files] == ["train"] * 3 + ["val"] * 2
    assert all((folder / "labels" / f.parent.name / f"{f.stem}.txt").exists() for f in files)
    assert cv2.imread(str(files[0])).shape == (64, 64, 3)
    assert [p.name for p in folder.parent.iterdir()] == ["set"]

    before = files[0].stat().st_mtime_ns
    synthetic.ensure(folder, **SMALL)
    assert files[0].stat().st_mtime_ns == before


def test_another_recipe_replaces_the_set(tmp_path):
    synthetic.ensure(tmp_path / "set", **SMALL)
    first = (tmp_path / "set/images/train/00000.jpg").read_bytes()
    synthetic.ensure(tmp_path / "set", **{**SMALL, "seed": 4})
    assert (tmp_path / "set/images/train/00000.jpg").read_bytes() != first
    assert json.loads((tmp_path / "set" / synthetic.MARKER).read_text())["seed"] == 4


def test_a_folder_of_somebody_else_is_left_alone(tmp_path):
    (tmp_path / "photo.jpg").write_text("mine")
    with pytest.raises(DataError, match="not a generated set"):
        synthetic.ensure(tmp_path, **SMALL)
    assert (tmp_path / "photo.jpg").read_text() == "mine"


def test_the_yaml_names_the_classes_in_order():
    document = yaml.safe_load((Path(ROOT) / "data" / "synthetic.yaml").read_text())
    assert list(document["names"].values()) == list(CLASSES)
    assert document["generate"] == "synthetic"
