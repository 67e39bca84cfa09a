"""The flags of each detection against those that pycocotools keeps."""

import numpy as np
import pytest
from coco_reference import evaluator
from scenes import detections_of, random_scene, truth_of

from yoloq.measure.match import match


@pytest.mark.parametrize(
    "options",
    [
        pytest.param({"seed": 0}, id="crowds"),
        pytest.param({"seed": 1, "levels": 3}, id="ties"),
        pytest.param({"seed": 2, "images": 30, "jitter": 0.15}, id="poor detector"),
    ],
)
def test_flags_equal_those_of_pycocotools(options):
    truth, detections = random_scene(**options)
    matches = match(truth, detections, 4)
    reference = evaluator(truth, detections, 4).evalImgs
    whole = reference[:: 4 * detections.images]  # category-major, then area: "all" comes first
    assert len(whole) == 4
    for index in range(4):
        first = 4 * index * detections.images
        found = [item for item in reference[first : first + detections.images] if item]
        scores = np.concatenate([item["dtScores"] for item in found])
        order = np.argsort(-scores, kind="stable")
        ignored = np.concatenate([item["dtIgnore"] for item in found], 1)[:, order].astype(bool)
        taken = np.concatenate([item["dtMatches"] for item in found], 1)[:, order] > 0
        here = slice(matches.starts[index], matches.starts[index + 1])
        np.testing.assert_array_equal(matches.ignored[:, here], ignored)
        np.testing.assert_array_equal(matches.matched[:, here], taken & ~ignored)
        counted = sum(int((item["gtIgnore"] == 0).sum()) for item in found)
        assert matches.truths[:, index].sum() == counted


def test_a_higher_threshold_can_free_a_box_for_a_later_detection():
    truth = truth_of([(0, 0, 0, 0, 100, 100)], 1)
    loose, tight = (0, 0, 100, 60), (0, 0, 100, 98)
    matches = match(truth, detections_of([(0, 0, *loose, 0.9), (0, 0, *tight, 0.8)], 1), 1)
    assert matches.matched[0].tolist() == [True, False]
    assert matches.matched[5].tolist() == [False, True]


def test_nothing_at_all():
    matches = match(truth_of([], 3), detections_of([], 3), 2)
    assert matches.matched.shape == (10, 0)
    assert matches.truths.tolist() == [[0, 0]] * 3
    assert matches.starts.tolist() == [0, 0, 0]
