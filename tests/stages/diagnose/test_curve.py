"""amax against the number of images: each point is what calibration chooses from that many."""

import numpy as np
import pytest
import torch
from tiny_quant import as_input, pictures, tiny_model

from yoloq.quant.calibrators import CALIBRATORS
from yoloq.quant.observer import Observer, collect, sample_size
from yoloq.quant.spec import ACTIVATION, QuantSpec
from yoloq.quant.statistics import Statistics
from yoloq.quant.trace import sibling_groups, trace
from yoloq.stages.diagnose.curve import amax_curve

pytestmark = pytest.mark.usefixtures("one_thread")

IMAGES = 11
INPUTS = as_input(pictures(IMAGES))
BATCHES = INPUTS.split([1, 1, 2, 4, 3])  # points between batches: other batches, other kernels
LAYERS = ["model.0.conv", "model.2.cv1.conv", "model.2.cv2.conv", "model.23.cv3.conv"]
FIRST = {"model.2.cv2.conv": "model.2.cv1.conv"}  # reads the same tensor
NET = tiny_model().net
GROUPS = sibling_groups(trace(NET))


def curve(calibrator: str = "mse", seed: int = 0, spec: QuantSpec = ACTIVATION, batches=BATCHES):
    return amax_curve(NET, GROUPS, LAYERS, batches, IMAGES, calibrator, spec, seed)


def amax(statistics: Statistics, calibrator: str, spec: QuantSpec = ACTIVATION) -> float:
    return max(map(abs, CALIBRATORS[calibrator](statistics, spec)))


def collected(images: int, told: int, seed: int = 0) -> dict[str, Statistics]:
    groups = GROUPS
    ends = {1: 1, 2: 2, 4: 3, 8: 4, IMAGES: 5}
    return collect(NET, groups, BATCHES[: ends[images]], told, seed).inputs


def test_counts_are_powers_of_two_and_all() -> None:
    for points in curve().values():
        assert [images for images, _ in points] == [1, 2, 4, 8, 11]


@pytest.mark.parametrize(
    ("images", "counts"),
    [(1, [1]), (2, [1, 2]), (3, [1, 2, 3]), (4, [1, 2, 4])],
)
def test_counts_of_few_images(images: int, counts: list[int]) -> None:
    found = amax_curve(NET, GROUPS, LAYERS[:1], [INPUTS[:images]], images, "max", ACTIVATION)
    assert [count for count, _ in found["model.0.conv"]] == counts


@pytest.mark.parametrize("calibrator", CALIBRATORS)
@pytest.mark.parametrize("seed", [0, 5])
def test_last_point_is_the_whole_calibration(calibrator: str, seed: int) -> None:
    wanted = collected(IMAGES, IMAGES, seed)
    for layer, points in curve(calibrator, seed).items():
        assert points[-1][1] == amax(wanted[FIRST.get(layer, layer)], calibrator)


@pytest.mark.parametrize("calibrator", CALIBRATORS)
def test_each_point_is_a_calibration_that_ends_there(calibrator: str) -> None:
    found = curve(calibrator)
    for place, count in enumerate([1, 2, 4, 8]):
        prefix = collected(count, told=IMAGES)
        for layer, points in found.items():
            assert points[place][1] == amax(prefix[FIRST.get(layer, layer)], calibrator)


def test_extremes_are_those_of_a_calibration_on_fewer_images() -> None:
    found = curve("max")
    for place, count in enumerate([1, 2, 4, 8]):
        alone = collected(count, told=count)
        for layer, points in found.items():
            assert points[place][1] == amax(alone[FIRST.get(layer, layer)], "max")


def test_other_calibrators_are_close_to_a_calibration_on_fewer_images() -> None:
    assert sample_size(8) != sample_size(64), "or nothing is compared"
    groups = GROUPS
    wanted = collect(NET, groups, [INPUTS[:8]], 8).inputs
    found = amax_curve(NET, GROUPS, LAYERS, [INPUTS], 64, "mse", ACTIVATION)
    for layer, points in found.items():
        assert dict(points)[8] == pytest.approx(
            amax(wanted[FIRST.get(layer, layer)], "mse"), rel=0.1
        )


def test_asymmetric_ranges_give_the_bound_of_their_magnitudes() -> None:
    spec = QuantSpec(symmetric=False)
    wanted = collected(IMAGES, IMAGES)["model.2.cv1.conv"]
    low, high = CALIBRATORS["percentile"](wanted, spec)
    assert curve("percentile", spec=spec)["model.2.cv1.conv"][-1][1] == max(-low, high)


def test_observer_forgets_the_images_behind_a_prefix() -> None:
    batches = [torch.randn(n, 3, 9, 9) * 10**n for n in (2, 3)]
    whole, beginning = Observer(50, 1), Observer(50, 1)
    for batch in batches:
        whole(batch)
    beginning(batches[0])
    beginning(batches[1][:1])
    found, wanted = whole.statistics(3), beginning.statistics()
    assert (whole.images, beginning.images) == (5, 3)
    assert (found.low, found.high) == (wanted.low, wanted.high)
    for field in ("counts", "means", "deviations"):
        np.testing.assert_array_equal(getattr(found, field), getattr(wanted, field))


def test_later_images_that_are_not_finite_spoil_only_their_own_points() -> None:
    seen = Observer(10, 0)
    seen(torch.tensor([1.0, float("nan")]).reshape(2, 1, 1, 1))
    assert seen.statistics(1).high == 1.0
    with pytest.raises(ValueError, match="NaN or infinite"):
        seen.statistics(2)


def test_no_batch_is_named_with_its_layer() -> None:
    with pytest.raises(ValueError, match=r"input of model\.0\.conv: no batch"):
        curve(batches=[])


def test_hooks_are_removed() -> None:
    curve()
    assert not any(module._forward_pre_hooks for module in NET.modules())
