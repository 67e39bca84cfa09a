"""NMS against a plain greedy loop."""

import time

import numpy as np
import pytest

from yoloq.geometry.nms import BLOCK, nms


def greedy(boxes, scores, classes, iou, max_det, max_candidates):
    """One candidate after another, in float64."""
    kept = []
    for i in sorted(range(len(scores)), key=lambda i: -scores[i])[:max_candidates]:
        if all(classes[i] != classes[j] or overlap(boxes[i], boxes[j]) <= iou for j in kept):
            kept.append(i)
        if len(kept) == max_det:
            break
    return kept


def overlap(a, b):
    a, b = [float(x) for x in a], [float(x) for x in b]
    width = max(min(a[2], b[2]) - max(a[0], b[0]), 0)
    height = max(min(a[3], b[3]) - max(a[1], b[1]), 0)
    areas = [(x[2] - x[0]) * (x[3] - x[1]) for x in (a, b)]
    union = sum(areas) - width * height
    return width * height / union if union else 0


def scene(n, classes, objects=12, levels=None, seed=0):
    """Boxes scattered around a few objects; with `levels` the scores have many ties."""
    generator = np.random.default_rng(seed)
    centre = generator.uniform(40, 600, (objects, 2))
    size = generator.uniform(20, 250, (objects, 2))
    index = generator.integers(0, objects, n)
    middle = centre[index] + generator.normal(0, 0.1, (n, 2)) * size[index]
    half = size[index] * np.exp(generator.normal(0, 0.2, (n, 2))) / 2
    scores = generator.random(n)
    if levels:
        scores = np.floor(scores * levels) / levels
    boxes = np.concatenate((middle - half, middle + half), 1).astype(np.float32)
    return boxes, scores.astype(np.float32), generator.integers(0, classes, n)


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize(
    ("n", "classes", "levels", "iou", "max_det", "limit"),
    [
        pytest.param(400, 3, None, 0.6, 300, 30000, id="several blocks"),
        pytest.param(400, 3, 5, 0.6, 300, 30000, id="ties"),
        pytest.param(400, 1, 1, 0.5, 300, 30000, id="all scores equal"),
        pytest.param(400, 80, None, 0.6, 20, 30000, id="stops at max_det"),
        pytest.param(400, 2, 4, 0.6, 300, 150, id="only the best candidates"),
        pytest.param(BLOCK, 2, None, 0.6, 300, 30000, id="one whole block"),
        pytest.param(BLOCK + 1, 2, None, 0.3, 300, 30000, id="one more"),
        pytest.param(60, 2, None, 0.0, 300, 30000, id="no overlap at all"),
        pytest.param(60, 2, None, 1.0, 300, 30000, id="any overlap"),
        pytest.param(1, 1, None, 0.6, 300, 30000, id="one box"),
    ],
)
def test_keeps_what_a_greedy_loop_keeps(n, classes, levels, iou, max_det, limit, seed):
    boxes, scores, labels = scene(n, classes, levels=levels, seed=seed)
    kept = nms(boxes, scores, labels, iou, max_det, limit)
    assert kept.tolist() == greedy(boxes, scores, labels, iou, max_det, limit)


def test_of_equal_scores_the_first_is_kept():
    box = [[0, 0, 10, 10], [1, 0, 11, 10], [0, 0, 10, 10]]
    kept = nms(np.array(box, np.float32), np.full(3, 0.5, np.float32), np.array([0, 0, 1]))
    assert kept.tolist() == [0, 2]


def test_iou_at_the_threshold_is_kept():
    boxes = np.array([[0, 0, 10, 10], [0, 0, 10, 5]], np.float32)
    assert len(nms(boxes, np.array([0.9, 0.8], np.float32), np.zeros(2, int), iou=0.5)) == 2


def test_boxes_without_area_do_not_suppress_each_other():
    boxes = np.full((2, 4), 7, np.float32)
    assert len(nms(boxes, np.array([0.9, 0.8], np.float32), np.zeros(2, int))) == 2


def test_no_candidates():
    kept = nms(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, int))
    assert kept.shape == (0,)
    assert kept.dtype == np.int64


def test_thirty_thousand_candidates_take_milliseconds():
    boxes, scores, labels = scene(30_000, 80, objects=30)
    start = time.perf_counter()
    assert len(nms(boxes, scores, labels)) == 300
    assert time.perf_counter() - start < 0.5  # about 4 ms on an idle core
