"""Decoding of raw heads, against literals and a slow computation cell by cell."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from yoloq.models.heads import HEADS as HEAD_TABLE
from yoloq.models.heads import head_from_json
from yoloq.models.heads.anchor import AnchorHead
from yoloq.models.heads.dfl import DflHead

ANCHOR = AnchorHead((8, 16), (((10.0, 20.0), (30.0, 40.0)), ((50.0, 60.0), (70.0, 80.0))), 3)
DFL = DflHead((8, 16), 3, 4)
DISTANCE = DflHead((8, 16), 3, 1)
HEADS = pytest.mark.parametrize("head", [ANCHOR, DFL, DISTANCE], ids=["anchor", "dfl", "distance"])


def random_maps(head, images=2, seed=0):
    """Raw maps of 4 x 6 and 2 x 3 cells."""
    rng = np.random.default_rng(seed)
    width = 2 * (5 + head.nc) if isinstance(head, AnchorHead) else 4 * head.reg_max + head.nc
    shapes = [(images, width, 4, 6), (images, width, 2, 3)]
    return [rng.normal(0, 3, shape).astype(np.float32) for shape in shapes]


def sigmoid(x):
    return 1 / (1 + math.exp(-float(x)))


def slow_anchor(head, raw, level, conf):
    """Rows x1 y1 x2 y2 score class of one map, by the published formulas."""
    stride = head.strides[level]
    for a, (width, height) in enumerate(head.anchors[level]):
        for y in range(raw.shape[1]):
            for x in range(raw.shape[2]):
                v = raw[a * (5 + head.nc) : (a + 1) * (5 + head.nc), y, x]
                cx, cy = ((2 * sigmoid(v[i]) - 0.5 + c) * stride for i, c in ((0, x), (1, y)))
                w, h = (2 * sigmoid(v[2])) ** 2 * width, (2 * sigmoid(v[3])) ** 2 * height
                for c in range(head.nc):
                    score = sigmoid(v[4]) * sigmoid(v[5 + c])
                    if score > conf:
                        yield cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2, score, c


def slow_dfl(head, raw, level, conf):
    """Rows x1 y1 x2 y2 score class of one map, by the published formulas."""
    stride, bins = head.strides[level], head.reg_max
    for y in range(raw.shape[1]):
        for x in range(raw.shape[2]):
            sides = []
            for side in range(4):
                v = raw[side * bins : (side + 1) * bins, y, x].astype(float)
                weights = np.exp(v) / np.exp(v).sum()
                sides.append(v[0] if bins == 1 else (weights * range(bins)).sum())
            left, top, right, bottom = sides
            cx, cy = x + 0.5, y + 0.5
            box = np.array([cx - left, cy - top, cx + right, cy + bottom]) * stride
            for c in range(head.nc):
                if (score := sigmoid(raw[4 * bins + c, y, x])) > conf:
                    yield *box, score, c


def as_rows(candidates):
    return np.column_stack((candidates.boxes, candidates.scores, candidates.classes))


@HEADS
@pytest.mark.parametrize("conf", [0.0, 0.001, 0.3, 0.9])
def test_decode_equals_the_formulas_cell_by_cell(head, conf):
    slow = slow_anchor if isinstance(head, AnchorHead) else slow_dfl
    raws = random_maps(head)
    for image, found in enumerate(head.decode(raws, conf)):
        want = [row for i, raw in enumerate(raws) for row in slow(head, raw[image], i, conf)]
        key = lambda rows: np.lexsort(np.round(rows[:, [0, 4, 5]], 2).T)  # noqa: E731
        want, rows = np.array(want), as_rows(found)
        assert len(rows) == len(want)
        np.testing.assert_allclose(rows[key(rows)], want[key(want)], rtol=1e-4, atol=1e-3)
        assert found.boxes.dtype == found.scores.dtype == np.float32
        assert found.classes.dtype == np.int64


def test_anchor_head_of_zeros_is_the_anchor_in_the_middle_of_its_cell():
    head = AnchorHead((8,), (((10.0, 20.0),),), 1)
    (found,) = head.decode([np.zeros((1, 6, 1, 2), np.float32)], 0.1)
    np.testing.assert_allclose(found.boxes, [[-1, -6, 9, 14], [7, -6, 17, 14]])
    np.testing.assert_allclose(found.scores, [0.25, 0.25])


def test_dfl_head_of_zeros_reaches_half_the_bins_to_each_side():
    (found,) = DflHead((8,), 1).decode([np.zeros((1, 65, 1, 1), np.float32)], 0.1)
    np.testing.assert_allclose(found.boxes, [[-56, -56, 64, 64]])  # (0.5 -+ 7.5) * 8
    np.testing.assert_allclose(found.scores, [0.5])


@HEADS
def test_nothing_above_the_threshold_gives_empty_arrays(head):
    for found in head.decode(random_maps(head), 1.0):
        assert found.boxes.shape == (0, 4)
        assert found.scores.shape == found.classes.shape == (0,)


@HEADS
@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("value", [-1000.0, 1000.0])
def test_extreme_logits_give_finite_scores_without_warnings(head, value):
    for found in head.decode([np.full_like(raw, value) for raw in random_maps(head)], 0.001):
        assert np.isfinite(found.boxes).all()
        assert found.scores.size == 0 if value < 0 else (found.scores == 1).all()


@HEADS
def test_half_precision_maps_are_accepted(head):
    raws = [raw.astype(np.float16) for raw in random_maps(head)]
    (half, _), (full, _) = (
        head.decode(raws, 0.3),
        head.decode([r.astype(np.float32) for r in raws], 0.3),
    )
    np.testing.assert_array_equal(as_rows(half), as_rows(full))


@HEADS
@pytest.mark.parametrize(
    "spoil",
    [lambda raws: raws[:1], lambda raws: [raw[:, 1:] for raw in raws]],
    ids=["level", "width"],
)
def test_maps_of_another_head_are_an_error(head, spoil):
    with pytest.raises(ValueError, match="channels a level"):
        head.decode(spoil(random_maps(head)), 0.1)


@HEADS
def test_json_round_trip(head):
    assert head_from_json(json.loads(json.dumps(head.to_json()))) == head


def test_an_unknown_kind_is_an_error():
    with pytest.raises(ValueError, match="'circle'"):
        head_from_json({"kind": "circle"})


@HEADS
def test_channels_are_of_boxes_or_of_scores(head) -> None:
    maps = random_maps(head)
    others = random_maps(head, seed=1)
    for level, (raw, other) in enumerate(zip(maps, others, strict=True)):
        mask = head.box_channels(level)
        assert mask.shape == (raw.shape[1],)
        other[:, ~mask] = raw[:, ~mask]
    found, moved = head.decode(maps, 0.2), head.decode(others, 0.2)
    for item, same in zip(found, moved, strict=True):
        assert len(item.scores) > 5
        assert np.array_equal(item.scores, same.scores)
        assert np.array_equal(item.classes, same.classes)
        assert (np.abs(item.boxes - same.boxes).max(1) > 0).all()


@HEADS
def test_scores_of_all_boxes_are_those_of_the_decoder(head) -> None:
    maps = random_maps(head)
    dense = np.concatenate([head.scores(raw)[0].ravel() for raw in maps])
    found = head.decode(maps, 0.2)[0].scores
    assert 0 < len(found) < len(dense)
    assert np.allclose(np.sort(dense[dense > 0.2]), np.sort(found), rtol=1e-5)


ONE_CLASS = [replace(head, nc=1) for head in (ANCHOR, DFL, DISTANCE)]


@pytest.mark.parametrize("head", ONE_CLASS, ids=["anchor", "dfl", "distance"])
@pytest.mark.parametrize("level", [0, 1])
def test_boxes_in_torch_are_those_of_the_decoding(head, level):
    """The box formula stands twice, in NumPy and with a gradient: they agree at every place."""
    maps = random_maps(head, images=1)
    nothing = [np.full_like(each, -np.inf) for each in maps]
    nothing[level] = maps[level]
    [wanted] = head.decode(nothing, 0.0)
    (low, high), classes = head.places(level, torch.from_numpy(maps[level]))
    rows, columns = maps[level].shape[2:]
    cells = np.stack(np.meshgrid(np.arange(columns), np.arange(rows))).reshape(2, -1)
    corners = [corner.numpy().reshape(2, -1, cells.shape[1]) for corner in (low, high)]
    offset = 0 if isinstance(head, AnchorHead) else 0.5  # from the cell's corner, or its centre
    boxes = [(corner + cells[:, None] + offset) * head.strides[level] for corner in corners]
    found = np.concatenate(boxes).reshape(4, -1).T
    np.testing.assert_allclose(found, wanted.boxes, rtol=1e-4, atol=1e-3)
    assert classes.numel() == len(wanted.boxes)


def test_every_head_has_its_row():
    assert {kind: kind_of.kind for kind, kind_of in HEAD_TABLE.items()} == {
        "anchor": "anchor",
        "dfl": "dfl",
    }
