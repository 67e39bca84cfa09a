"""AP and fidelity against pycocotools, and where nothing is there to be scored."""

import math

import numpy as np
import pytest
from coco_reference import average_precision
from scenes import detections_of, published, random_scene, truth_of

from yoloq.measure.ap import fidelity, score

BOX = (10, 10, 50, 60)
FAR = (200, 200, 240, 260)


@pytest.mark.parametrize(
    "options",
    [
        pytest.param({"seed": 0}, id="crowds"),
        pytest.param({"seed": 1, "levels": 4}, id="ties"),
        pytest.param({"seed": 2, "crowds": False, "jitter": 0.02}, id="good detector"),
        pytest.param({"seed": 3, "images": 3}, id="few images"),
        pytest.param({"seed": 4, "nc": 2, "images": 40}, id="one class with truth"),
    ],
)
def test_equals_pycocotools(options):
    truth, detections = random_scene(**options)
    nc = options.get("nc", 4)
    result = score(truth, detections, nc)
    expected = average_precision(truth, detections, nc)
    assert (result.map50_95, result.map50) == pytest.approx(expected, abs=1e-12)
    assert result.per_class[nc - 1] is None
    given = [ap for ap in result.per_class if ap is not None]
    assert np.mean(given) == pytest.approx(result.map50_95, abs=1e-12)


def test_equals_pycocotools_beyond_a_hundred_detections_of_a_class():
    generator = np.random.default_rng(0)
    rows = [(0, 0, *(np.array(BOX) + generator.normal(0, 3, 4)), s) for s in generator.random(150)]
    truth = truth_of([(0, 0, *BOX), (0, 0, *FAR)], 1)
    detections = detections_of([*rows, (0, 0, *FAR, 0.001)], 1)
    result = score(truth, detections, 1)
    expected = average_precision(truth, detections, 1)
    assert (result.map50_95, result.map50) == pytest.approx(expected, abs=1e-12)
    assert result.map50 < 0.51  # the second box is found, but only by the 151st detection


@pytest.mark.parametrize(
    ("truth", "detections", "expected", "per_class"),
    [
        pytest.param([(0, 0, *BOX)], [(0, 0, *BOX, 0.9)], 1.0, (1.0, None), id="perfect"),
        pytest.param([(0, 0, *BOX)], [(0, 0, *FAR, 0.9)], 0.0, (0.0, None), id="missed"),
        pytest.param([(0, 0, *BOX)], [], 0.0, (0.0, None), id="no detection"),
        pytest.param([], [(0, 0, *BOX, 0.9)], 0.0, (None, None), id="no ground truth"),
        pytest.param([], [], 0.0, (None, None), id="nothing"),
        pytest.param([(0, 0, *BOX)], [(0, 1, *BOX, 0.9)], 0.0, (0.0, None), id="other class"),
        pytest.param([(0, 0, *BOX)], [(1, 0, *BOX, 0.9)], 0.0, (0.0, None), id="other image"),
    ],
)
def test_small_cases(truth, detections, expected, per_class):
    result = score(truth_of(truth, 2), detections_of(detections, 2), 2)
    assert result.map50_95 == pytest.approx(expected)
    assert result.map50 == pytest.approx(expected)
    assert result.per_class == pytest.approx(per_class)


def test_only_a_crowd_is_no_ground_truth():
    truth = truth_of([(0, 0, *BOX)], 1, crowd=[0])
    result = score(truth, detections_of([(0, 0, *BOX, 0.9)], 1), 1)
    assert (result.map50_95, result.map50, result.per_class) == (0.0, 0.0, (None,))


def test_different_images_are_refused():
    with pytest.raises(ValueError, match="2 images, detections of 3"):
        score(truth_of([], 2), detections_of([], 3), 1)


def test_nothing_is_printed(capfd):
    truth, detections = random_scene()
    score(truth, detections, 4)
    fidelity(detections, detections, 4)
    assert capfd.readouterr() == ("", "")


def test_fidelity_of_a_model_to_itself_is_one():
    detections = detections_of([(0, 0, *BOX, 0.9), (0, 1, *FAR, 0.3), (1, 0, *FAR, 0.1)], 2)
    assert fidelity(detections, detections, 2) == pytest.approx(1.0)


def test_fidelity_takes_the_references_confident_boxes_as_truth():
    _, reference = random_scene(seed=5)
    _, other = random_scene(seed=6)
    sure = reference.scores >= 0.25
    rows = np.column_stack((reference.image, reference.classes, reference.boxes))[sure]
    expected, _ = average_precision(truth_of(rows, 12), other, 4)
    assert fidelity(reference, other, 4) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(
    ("scores", "expected"),
    [
        pytest.param([], 1.0, id="nothing"),
        pytest.param([0.2], 1.0, id="nothing confident"),
        pytest.param([0.25], 0.0, id="something new"),
    ],
)
def test_fidelity_to_a_reference_without_confident_boxes(scores, expected):
    reference = detections_of([(0, 0, *BOX, 0.24)], 1)
    detections = detections_of([(0, 0, *BOX, value) for value in scores], 1)
    assert fidelity(reference, detections, 1) == expected


def test_published_detections_of_real_images(coco_mini):
    truth, detections = published(coco_mini)
    result = score(truth, detections, 80)
    assert 100 * result.map50_95 == pytest.approx(29.63, abs=0.01)
    assert 100 * result.map50 == pytest.approx(47.06, abs=0.01)
    expected = average_precision(truth, detections, 80)
    assert (result.map50_95, result.map50) == pytest.approx(expected, abs=1e-12)
    assert not any(math.isnan(ap) for ap in result.per_class if ap is not None)
