"""The teacher's boxes as labels: their form, edges, doubles, none at all; and one pass for all."""

from typing import Any

import pytest
import torch
from torch import nn

from yoloq.models.heads.anchor import AnchorHead
from yoloq.models.heads.dfl import DflHead
from yoloq.train.loss_classic import ClassicLoss
from yoloq.train.terms.objective import Seen
from yoloq.train.terms.task import TaskLoss
from yoloq.train.terms.teacher import Teacher
from yoloq.train.terms.teacher_boxes import TeacherBoxes

HEAD = AnchorHead((8,), (((10.0, 10.0), (10.0, 10.0)),), 3)  # 2 * (5 + 3) channels
SURE, OFF = 8.0, -20.0


class Fixed(nn.Module):
    """Finds the same, whatever it sees; counts how often it is run."""

    def __init__(self, raw: torch.Tensor) -> None:
        super().__init__()
        self.raw, self.passes = raw, 0

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        self.passes += 1
        return [self.raw]


def nothing(images: int) -> torch.Tensor:
    """Raw maps of `HEAD` for 32 px: boxes of 10 px around each cell's middle, none an object."""
    maps = torch.zeros(images, 2, 8, 4, 4)
    maps[:, :, 4:] = OFF
    return maps


def found(maps: torch.Tensor, *places: Any, score: float = SURE) -> torch.Tensor:
    """Put objects at (image, anchor, row, column, class)."""
    for image, anchor, row, column, category in places:
        maps[image, anchor, 4, row, column] = score
        maps[image, anchor, 5 + category, row, column] = SURE
    return maps


def seen(images: int = 2) -> Seen:
    return Seen(torch.zeros(images, 3, 32, 32), [], torch.zeros(0, 6))


def labels(maps: torch.Tensor, score: float = 0.25) -> list[list[float]]:
    boxes = TeacherBoxes(Teacher(Fixed(maps.flatten(1, 2))), HEAD, score)
    return boxes(seen(len(maps))).tolist()


@pytest.mark.parametrize(
    ("places", "wanted"),
    [
        # the cell of row 1 and column 2 has its middle at (20, 12) of 32 px
        pytest.param([(1, 0, 1, 2, 2)], [[1, 2, 0.625, 0.375, 0.3125, 0.3125]], id="a box"),
        # around (4, 4): from -1 to 9 px
        pytest.param(
            [(0, 1, 0, 0, 0)], [[0, 0, 0.140625, 0.140625, 0.28125, 0.28125]], id="at the edge"
        ),
        pytest.param(
            [(0, 0, 1, 1, 1), (0, 1, 1, 1, 1)],
            [[0, 1, 0.375, 0.375, 0.3125, 0.3125]],
            id="found twice",
        ),
        pytest.param([], [], id="nothing"),
    ],
)
def test_labels_by_hand(places: list[Any], wanted: list[list[float]]) -> None:
    assert labels(found(nothing(2), *places)) == wanted


def test_a_score_below_the_least_is_no_label() -> None:
    maps = found(nothing(1), (0, 0, 1, 1, 1), score=0.0)  # objectness a half
    assert len(labels(maps, 0.49)) == 1 and labels(maps, 0.51) == []


def test_a_box_outside_the_image_is_no_label() -> None:
    head = DflHead((8,), 1, 1)  # four distances in cells, a class
    raw = torch.full((1, 5, 4, 4), OFF)
    raw[0, :, 0, 0] = torch.tensor([3.0, 3.0, -2.0, -2.0, SURE])  # ends left of the image
    assert TeacherBoxes(Teacher(Fixed(raw)), head, 0.25)(seen(1)).tolist() == []


def test_the_loss_is_that_of_the_boxes_and_finite_without_any() -> None:
    loss = ClassicLoss(HEAD, 32)
    raws = [torch.randn(2, 16, 4, 4, generator=torch.Generator().manual_seed(0))]
    for places in ([(1, 0, 1, 2, 2)], []):
        maps = found(nothing(2), *places)
        term = TaskLoss(loss, 2.0, TeacherBoxes(Teacher(Fixed(maps.flatten(1, 2))), HEAD, 0.25))
        value, _ = term(
            Seen(torch.zeros(2, 3, 32, 32), raws, torch.tensor([[0, 0, 0.5, 0.5, 1, 1]]))
        )
        wanted, _ = loss(raws, torch.tensor(labels(maps)).reshape(-1, 6))
        assert float(value) == pytest.approx(2 * float(wanted)) and torch.isfinite(value)


def test_a_teacher_looks_at_a_batch_once() -> None:
    net = Fixed(nothing(2).flatten(1, 2))
    teacher, (one, two) = Teacher(net), (seen(), seen())
    for batch in (one, one, two):
        teacher(batch.x)
    assert net.passes == 2
