"""The package's loss on raw maps: finite, differentiable, and its minimum is the labelled box."""

import numpy as np
import pytest
import torch

from yoloq.models.heads.dfl import DflHead
from yoloq.train.loss_ultralytics import UltralyticsLoss

pytestmark = pytest.mark.usefixtures("one_thread")

HEAD = DflHead((8, 16, 32), 3, 16)
TARGETS = torch.tensor([[1, 2, 0.52, 0.47, 0.25, 0.3]])


def maps(images: int = 2) -> list[torch.Tensor]:
    shapes = ((images, 67, 160 // s, 160 // s) for s in HEAD.strides)
    return [torch.zeros(shape, requires_grad=True) for shape in shapes]


def test_descent_on_the_maps_finds_the_box():
    raws, loss = maps(), UltralyticsLoss(HEAD)
    optimizer = torch.optim.Adam(raws, lr=0.3)
    for _ in range(80):
        optimizer.zero_grad()
        loss(raws, TARGETS)[0].backward()
        optimizer.step()
    empty, found = HEAD.decode([raw.detach().numpy() for raw in raws], 0.5)
    assert len(empty.scores) == 0
    assert len(found.scores) > 3
    assert set(found.classes.tolist()) == {2}
    wanted = np.array([0.52 - 0.125, 0.47 - 0.15, 0.52 + 0.125, 0.47 + 0.15]) * 160
    np.testing.assert_allclose(found.boxes, np.tile(wanted, (len(found.boxes), 1)), atol=2)


@pytest.mark.parametrize("count", [1, 0], ids=["one box", "no box"])
def test_total_is_the_sum_of_the_parts_times_the_batch(count):
    raws = maps()
    total, parts = UltralyticsLoss(HEAD)(raws, TARGETS[:count])
    total.backward()
    assert list(parts) == ["box", "cls", "dfl"]
    assert total.item() == pytest.approx(2 * sum(part.item() for part in parts.values()), rel=1e-5)
    assert all(raw.grad is not None and raw.grad.isfinite().all() for raw in raws)
    if count == 0:
        assert parts["box"].item() == parts["dfl"].item() == 0
