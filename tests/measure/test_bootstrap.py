"""The weighted AP against pycocotools on images that are really there several times."""

import numpy as np
import pytest
from coco_reference import average_precision as reference
from coco_reference import repeat_images
from scenes import detections_of, published, random_scene, truth_of

from yoloq.base.ranks import Share
from yoloq.measure import bootstrap
from yoloq.measure.bootstrap import average_precision, draw, joined, paired_bootstrap, resampled
from yoloq.measure.match import match

SCENES = [
    pytest.param({"seed": 0}, id="crowds"),
    pytest.param({"seed": 1, "levels": 4}, id="ties"),
    pytest.param({"seed": 2, "images": 30, "jitter": 0.15}, id="poor detector"),
]


@pytest.mark.parametrize("options", SCENES)
def test_weights_of_one_give_the_ap_of_pycocotools(options):
    truth, detections = random_scene(**options)
    ap = average_precision(match(truth, detections, 4), np.ones((1, truth.images), np.float32))
    assert ap[0] == pytest.approx(reference(truth, detections, 4)[0], abs=1e-9)


@pytest.mark.parametrize("options", [SCENES[0], SCENES[2]])
def test_weights_equal_copies_of_the_images(options):
    truth, detections = random_scene(**options)
    weights = draw(truth.images, 5, seed=3)
    aps = average_precision(match(truth, detections, 4), weights)
    for ap, counts in zip(aps, weights.astype(int), strict=True):
        copies = repeat_images(truth, counts), repeat_images(detections, counts)
        assert ap == pytest.approx(reference(*copies, 4)[0], abs=1e-9)


def test_a_resample_without_ground_truth_scores_zero():
    truth = truth_of([(0, 0, 0, 0, 9, 9)], 2)
    matches = match(truth, detections_of([(0, 0, 0, 0, 9, 9, 0.9)], 2), 1)
    weights = np.array([[0, 2], [2, 0], [1, 1]], np.float32)
    assert average_precision(matches, weights).tolist() == pytest.approx([0, 1, 1])


def test_small_chunks_change_nothing(monkeypatch):
    matches = match(*random_scene(), 4)
    weights = draw(12, 50, seed=0)
    whole = average_precision(matches, weights)
    monkeypatch.setattr(bootstrap, "CHUNK_BYTES", 1)
    for rows in (50, 49):  # the last slice has two, or three
        assert average_precision(matches, weights[:rows]).tolist() == whole[:rows].tolist()


@pytest.mark.parametrize("world", [2, 3])
def test_shares_are_the_figures_of_the_whole(world):
    matches = match(*random_scene(), 4)
    whole = resampled(matches, 20, seed=1)
    shares = [resampled(matches, 20, 1, Share(rank, world)) for rank in range(world)]
    assert [len(share) for share in shares] == [11, 10] if world == 2 else [7, 7, 7]
    assert joined(shares).tolist() == whole.tolist()


def test_draws_are_seeded_and_of_the_full_size():
    weights = draw(7, 20, seed=1)
    assert weights.shape == (20, 7)
    assert (weights.sum(1) == 7).all()
    np.testing.assert_array_equal(weights, draw(7, 20, seed=1))
    assert (weights != draw(7, 20, seed=2)).any()


def test_identical_models_differ_by_exactly_nothing():
    matches = match(*random_scene(), 4)
    interval = paired_bootstrap(matches, match(*random_scene(), 4), resamples=100)
    assert (interval.delta, interval.low, interval.high) == (0.0, 0.0, 0.0)


def test_a_worse_model_has_a_negative_interval_that_holds_its_delta():
    truth, good = random_scene(seed=0, jitter=0.02, images=30)
    _, poor = random_scene(seed=0, jitter=0.15, images=30)
    interval = paired_bootstrap(match(truth, good, 4), match(truth, poor, 4), resamples=300)
    expected = reference(truth, poor, 4)[0] - reference(truth, good, 4)[0]
    assert interval.delta == pytest.approx(expected, abs=1e-9)
    assert interval.low < interval.delta < interval.high < 0


@pytest.mark.parametrize(
    ("truth", "detections"),
    [
        pytest.param([], [], id="nothing"),
        pytest.param([], [(0, 0, 0, 0, 9, 9, 0.5)], id="no ground truth"),
        pytest.param([(0, 0, 0, 0, 9, 9)], [], id="no detections"),
    ],
)
def test_empty_sets_have_an_interval_of_zero(truth, detections):
    matches = match(truth_of(truth, 1), detections_of(detections, 1), 1)
    interval = paired_bootstrap(matches, matches, resamples=10)
    assert (interval.delta, interval.low, interval.high) == (0.0, 0.0, 0.0)


def test_other_labels_are_refused():
    one = match(truth_of([(0, 0, 0, 0, 9, 9)], 1), detections_of([], 1), 1)
    other = match(truth_of([], 1), detections_of([], 1), 1)
    with pytest.raises(ValueError, match="same images and labels"):
        paired_bootstrap(one, other)


@pytest.mark.parametrize(("images", "resamples"), [(0, 10), (1, 0)])
def test_nothing_to_draw_is_refused(images, resamples):
    matches = match(truth_of([], images), detections_of([], images), 1)
    with pytest.raises(ValueError, match=f"{resamples} resamples of {images} images"):
        paired_bootstrap(matches, matches, resamples)


def test_real_detections(coco_mini):
    truth, detections = published(coco_mini)
    matches = match(truth, detections, 80)
    point = average_precision(matches, np.ones((1, truth.images), np.float32))
    assert point[0] == pytest.approx(reference(truth, detections, 80)[0], abs=1e-9)
    weights = draw(truth.images, 2, seed=0)
    for ap, counts in zip(average_precision(matches, weights), weights.astype(int), strict=True):
        copies = repeat_images(truth, counts), repeat_images(detections, counts)
        assert ap == pytest.approx(reference(*copies, 80)[0], abs=1e-9)
