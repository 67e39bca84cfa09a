"""Weights of places by the teacher's scores, by hand, and the error that they weigh."""

import numpy as np
import pytest
import torch

from yoloq.models.heads.anchor import AnchorHead
from yoloq.models.heads.dfl import DflHead
from yoloq.train.terms.distill import Distillation
from yoloq.train.terms.focus import score_map, weights_at

TWO = AnchorHead((8, 16), (((10.0, 10.0),), ((20.0, 20.0),)), 1)  # 6 channels a level
OFF = -100.0


def anchor_maps() -> list[torch.Tensor]:
    """Objectness a half at one place of each level, of two images in turn."""
    fine, coarse = torch.zeros(2, 6, 4, 4), torch.zeros(2, 6, 2, 2)
    fine[:, 4], coarse[:, 4] = OFF, OFF
    fine[0, 4, 3, 1] = 0.0
    coarse[1, 4, 0, 1] = 0.0
    return [fine, coarse]


def test_scores_of_all_levels_at_the_finest() -> None:
    scores = score_map(TWO, anchor_maps())
    wanted = np.zeros((2, 1, 4, 4))
    wanted[0, 0, 3, 1] = 0.5
    wanted[1, 0, 0:2, 2:4] = 0.5
    np.testing.assert_array_equal(scores.numpy(), wanted)


def test_a_head_without_objectness_has_the_best_class() -> None:
    raw = torch.full((1, 6, 2, 2), OFF)  # four distances, two classes
    raw[0, 5, 1, 0] = 0.0
    raw[0, :4] = 50.0
    scores = score_map(DflHead((8,), 2, 1), [raw])
    np.testing.assert_array_equal(scores.numpy()[0, 0], [[0, 0], [0.5, 0]])


@pytest.mark.parametrize(
    ("size", "share", "wanted"),
    [
        pytest.param(2, 0.0, [[1, 1], [1, 1]], id="all alike"),
        pytest.param(2, 1.0, [[0, 1], [3, 0]], id="by score alone"),
        pytest.param(2, 0.5, [[0.5, 1], [2, 0.5]], id="half and half"),
        pytest.param(1, 1.0, [[1]], id="coarser: the best"),
    ],
)
def test_weights_by_hand(size: int, share: float, wanted: list[list[float]]) -> None:
    scores = torch.tensor([[[[0.0, 0.25], [0.75, 0.0]]]])
    weights = weights_at(scores * 2, size, size, share)[0, 0].tolist()
    assert weights == wanted


def test_weights_of_a_finer_map_repeat_and_have_mean_1() -> None:
    weights = weights_at(torch.tensor([[[[0.0, 0.5], [1.0, 0.0]]]]), 4, 4, 1.0)
    wanted = np.kron([[0, 4 / 3], [8 / 3, 0]], np.ones((2, 2)))
    np.testing.assert_allclose(weights[0, 0].numpy(), wanted, rtol=1e-6)


def test_without_objects_no_place_is_made_much_of() -> None:
    weights = weights_at(torch.full((1, 1, 2, 2), 1e-4), 2, 2, 1.0)
    np.testing.assert_allclose(weights.numpy(), 4e-4, rtol=1e-5)


def test_the_error_that_is_weighed() -> None:
    random = torch.Generator().manual_seed(0)
    theirs, difference = (torch.randn(2, 3, 4, 4, generator=random) for _ in range(2))
    raws = anchor_maps()
    features = {"model.1": theirs + difference}, {"model.1": theirs}
    ours = features[0]["model.1"].requires_grad_()
    distance = Distillation(TWO, detection_weight=0.0, head_weight=0.0, feature_focus=1.0)
    total, parts = distance(*features, raws, raws)
    total.backward()
    weight = np.zeros((2, 1, 4, 4))
    weight[0, 0, 3, 1] = weight[1, 0, 0:2, 2:4] = 1  # of one place and of four: a ratio of sums
    d, t = difference.double().numpy(), theirs.double().numpy()
    dims = (1, 2, 3)
    wanted = ((weight * d**2).sum(dims) / (weight * t**2).sum(dims)).sum()
    assert float(total.detach()) == pytest.approx(wanted, rel=1e-4)
    assert float(parts["features"]) == pytest.approx(wanted / 2, rel=1e-4)
    moved = (ours.grad.abs().sum(1, keepdim=True) > 1e-6).numpy()
    np.testing.assert_array_equal(moved, weight > 0)
