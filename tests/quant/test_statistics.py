"""What calibration collects: exact extremes, a seeded sample, and nothing twice."""

import contextlib

import numpy as np
import pytest
import torch
from tiny_quant import as_input, pictures, statistics, tiny_model
from torch import Tensor, nn

from yoloq.quant.observer import BINS, Observer, collect, observed
from yoloq.quant.trace import sibling_groups, trace

pytestmark = pytest.mark.usefixtures("one_thread")


def observe(*batches: Tensor, per_image: int = 500, seed: int = 0):
    observer = Observer(per_image, seed)
    for batch in batches:
        observer(batch)
    return observer.statistics()


def test_extremes_are_exact_and_the_histogram_holds_the_sample() -> None:
    batch = torch.randn(3, 4, 50, 50, generator=torch.Generator().manual_seed(0))
    batch[1, 2, 3, 4], batch[2, 0, 0, 0] = 77.0, -55.0
    found = observe(batch[:2], batch[2:])
    assert (found.low, found.high) == (-55.0, 77.0)
    assert found.counts.shape == (BINS,)
    assert found.counts.sum() == 3 * 500
    assert found.centers[0] == pytest.approx(-55 + 132 / BINS / 2)
    assert found.means.shape == found.deviations.shape == (3,)


def test_means_are_of_each_image_in_order() -> None:
    levels = torch.tensor([1.0, -2.0, 5.0])
    found = observe(levels.reshape(3, 1, 1, 1).expand(3, 2, 4, 4))
    np.testing.assert_allclose(found.means, levels)
    np.testing.assert_allclose(found.deviations, 0, atol=1e-6)


def test_same_seed_same_sample() -> None:
    batch = torch.randn(2, 3, 40, 40)
    a, b, c = (observe(batch, seed=seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(a.counts, b.counts)
    assert (a.counts != c.counts).any()


def test_memory_layout_does_not_matter_to_the_extremes() -> None:
    batch = torch.randn(2, 3, 8, 8).to(memory_format=torch.channels_last)
    found = observe(batch)
    assert (found.low, found.high) == (float(batch.min()), float(batch.max()))


@pytest.mark.parametrize(
    "value",
    [0.0, 0.1, -3.7, pytest.param(1e-45, id="subnormal")],
)
def test_constant_tensor(value: float) -> None:
    found = observe(torch.full((2, 3, 4, 4), value))
    assert found.low == found.high == pytest.approx(value, rel=1e-6)
    assert found.counts.sum() == 1000
    np.testing.assert_array_equal(found.centers, found.low)


def test_nearly_constant_tensor_has_a_histogram() -> None:
    batch = torch.ones(1, 1, 4, 4)
    batch[0, 0, 0, 0] = 1 + 2**-23  # the next number of float32
    assert observe(batch).counts.sum() == 500


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_values_that_are_not_finite_are_refused(value: float) -> None:
    batch = torch.zeros(1, 1, 2, 2)
    batch[0, 0, 1, 1] = value
    with pytest.raises(ValueError, match="NaN or infinite"):
        observe(torch.ones(1, 1, 2, 2), batch)


def test_nothing_observed() -> None:
    with pytest.raises(ValueError, match="no batch"):
        Observer(10, 0).statistics()


def test_collect_uses_every_image_once_and_each_shared_tensor_once() -> None:
    net = tiny_model().net
    groups = sibling_groups(trace(net))
    seen = []
    net.register_forward_pre_hook(lambda module, args: seen.append(len(args[0])))
    found = collect(net, groups, as_input(pictures(5)).split(2), images=5)
    assert seen == [2, 2, 1]
    assert list(found.inputs) == [group[0] for group in groups]
    assert "model.2.cv2.conv" not in found.inputs, "it reads what model.2.cv1.conv reads"
    assert set(found.outputs) == {name for group in groups for name in group}
    assert all(len(item.means) == 5 for item in found.inputs.values())


def test_collected_extremes_are_those_of_the_image() -> None:
    image = as_input(pictures(8))
    found = statistics().inputs["model.0.conv"]
    assert (found.low, found.high) == (float(image.min()), float(image.max()))


@pytest.mark.parametrize(
    ("layer", "named"),
    [
        pytest.param("model.5.conv", "input of model.6.cv1.conv", id="within the network"),
        pytest.param("model.24.m.2", "output of model.24.m.2", id="in the head"),
    ],
)
def test_nan_is_named_with_its_layer(layer: str, named: str) -> None:
    net = tiny_model().net
    with torch.no_grad():
        net.get_submodule(layer).bias[:] = float("nan")
    groups = sibling_groups(trace(net))
    with pytest.raises(ValueError, match=f"{named}: the tensor holds NaN"):
        collect(net, groups, [as_input(pictures(1))], images=1)


def test_no_batches() -> None:
    net = tiny_model().net
    with pytest.raises(ValueError, match=r"input of model\.0\.conv: no batch"):
        collect(net, sibling_groups(trace(net)), [], images=0)


def test_hooks_are_removed_after_an_exception() -> None:
    net = nn.Sequential(nn.Conv2d(1, 1, 1))
    calls: list[Tensor] = []
    seen = {"0": calls.append}
    with contextlib.suppress(KeyError), observed({"0": net[0]}, seen, seen):
        net(torch.zeros(1, 1, 1, 1))
        raise KeyError
    net(torch.zeros(1, 1, 1, 1))
    assert len(calls) == 2
