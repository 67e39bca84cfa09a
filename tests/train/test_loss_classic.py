"""The classic loss against independent NumPy, box by box."""

import math

import numpy as np
import pytest
import torch

from yoloq.models.heads.anchor import AnchorHead, anchor_boxes
from yoloq.train.loss_classic import ClassicLoss, ciou, match

pytestmark = pytest.mark.usefixtures("one_thread")

ANCHORS = (
    ((10.0, 13.0), (16.0, 30.0), (33.0, 23.0)),
    ((30.0, 61.0), (62.0, 45.0), (59.0, 119.0)),
    ((116.0, 90.0), (156.0, 198.0), (373.0, 326.0)),
)
HEAD = AnchorHead((8, 16, 32), ANCHORS, 4)


def ciou_numpy(a: np.ndarray, b: np.ndarray) -> float:
    """CIoU of two (x, y, w, h) boxes, straight from the paper."""
    ax1, ay1, ax2, ay2 = a[0] - a[2] / 2, a[1] - a[3] / 2, a[0] + a[2] / 2, a[1] + a[3] / 2
    bx1, by1, bx2, by2 = b[0] - b[2] / 2, b[1] - b[3] / 2, b[0] + b[2] / 2, b[1] + b[3] / 2
    inter = max(min(ax2, bx2) - max(ax1, bx1), 0) * max(min(ay2, by2) - max(ay1, by1), 0)
    iou = inter / (a[2] * a[3] + b[2] * b[3] - inter)
    diagonal = (max(ax2, bx2) - min(ax1, bx1)) ** 2 + (max(ay2, by2) - min(ay1, by1)) ** 2
    rho = (a[0] - b[0]) ** 2 + (a[1] - b[1]) ** 2
    v = 4 / math.pi**2 * (math.atan(b[2] / b[3]) - math.atan(a[2] / a[3])) ** 2
    return iou - rho / diagonal - v * (v / (1 - iou + v) if v else 0)


@pytest.mark.parametrize(
    ("one", "two"),
    [
        pytest.param((5, 5, 4, 4), (5, 5, 4, 4), id="same"),
        pytest.param((5, 5, 4, 4), (6, 5, 4, 4), id="shifted"),
        pytest.param((5, 5, 4, 2), (5, 5, 2, 4), id="turned"),
        pytest.param((0, 0, 2, 2), (9, 9, 2, 3), id="apart"),
        pytest.param((5, 5, 8, 6), (4, 5, 1, 2), id="inside"),
    ],
)
def test_ciou(one, two):
    got = ciou(torch.tensor([one], dtype=torch.float64), torch.tensor([two], dtype=torch.float64))
    assert got.item() == pytest.approx(ciou_numpy(np.array(one), np.array(two)), abs=1e-6)


def match_numpy(target: list[float], anchors: np.ndarray, height: int, width: int) -> set:
    """(anchor, row, column) of the positive cells of one target, by plain loops."""
    x, y, w, h = target[2] * width, target[3] * height, target[4] * width, target[5] * height
    found = set()
    for index, (aw, ah) in enumerate(anchors):
        if max(w / aw, aw / w, h / ah, ah / h) >= 4:
            continue
        column, row = int(x), int(y)
        cells = [(row, column)]
        if x - column < 0.5 and x > 1:
            cells.append((row, column - 1))
        if y - row < 0.5 and y > 1:
            cells.append((row - 1, column))
        if x - column > 0.5 and column + 1 < width:
            cells.append((row, column + 1))
        if y - row > 0.5 and row + 1 < height:
            cells.append((row + 1, column))
        found |= {(index, r, c) for r, c in cells}
    return found


@pytest.mark.parametrize("level", range(3))
def test_match_finds_the_cells_of_plain_loops(level):
    generator = np.random.default_rng(level)
    stride, (height, width) = 8 * 2**level, (20 // 2**level, 28 // 2**level)
    anchors = np.array(ANCHORS[level]) / stride
    centres = generator.uniform(0.01, 0.99, (60, 2))
    sizes = np.exp(generator.uniform(np.log(0.02), np.log(0.9), (60, 2)))
    targets = np.concatenate(
        (np.arange(60)[:, None] % 4, np.arange(60)[:, None] % 3, centres, sizes), 1
    )
    for row in targets:
        found = match(torch.tensor(row[None]), torch.tensor(anchors), height, width, limit=4.0)
        got = set(
            zip(found.anchor.tolist(), found.row.tolist(), found.column.tolist(), strict=True)
        )
        assert got == match_numpy(row.tolist(), anchors, height, width)
        assert len(got) == len(found.anchor)
        assert set(found.image.tolist()) <= {int(row[0])}
        cell = torch.stack((found.column, found.row), 1)
        back = (found.boxes[:, :2] + cell) / torch.tensor([width, height])
        np.testing.assert_allclose(back.numpy(), np.tile(row[2:4], (len(cell), 1)), atol=1e-9)


def test_anchor_boxes_at_zero_are_the_cell_centre_and_the_anchor():
    got = anchor_boxes(torch.zeros(1, 4), torch.tensor([[3.0, 5.0]]))
    assert got.tolist() == [[0.5, 0.5, 3.0, 5.0]]


def bce(logit: np.ndarray, target: np.ndarray) -> float:
    return float(np.mean(np.maximum(logit, 0) - logit * target + np.log1p(np.exp(-np.abs(logit)))))


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def loss_numpy(raws: list[np.ndarray], targets: np.ndarray, imgsz: int) -> dict[str, float]:
    """The whole loss by loops over matches."""
    parts = {"box": 0.0, "obj": 0.0, "cls": 0.0}
    for level, (raw, balance) in enumerate(zip(raws, (4.0, 1.0, 0.4), strict=True)):
        images, _, height, width = raw.shape
        maps = raw.reshape(images, 3, 9, height, width)
        anchors = np.array(ANCHORS[level]) / (8 * 2**level)
        wanted, overlaps, classes, hot = np.zeros((images, 3, height, width)), [], [], []
        for target in targets:
            image, kind = int(target[0]), int(target[1])
            for anchor, row, column in match_numpy(target.tolist(), anchors, height, width):
                logits = maps[image, anchor, :, row, column]
                xy = 2 * sigmoid(logits[:2]) - 0.5 + (column, row)
                wh = (2 * sigmoid(logits[2:4])) ** 2 * anchors[anchor]
                box = target[2:] * (width, height, width, height)
                overlap = ciou_numpy(np.concatenate((xy, wh)), box)
                overlaps.append(overlap)
                wanted[image, anchor, row, column] = max(
                    wanted[image, anchor, row, column], overlap
                )
                classes.append(logits[5:])
                hot.append(np.eye(4)[kind])
        parts["obj"] += bce(maps[:, :, 4], wanted) * balance * (imgsz / 640) ** 2
        if overlaps:
            parts["box"] += (1 - np.mean(overlaps)) * 0.05
            parts["cls"] += bce(np.array(classes), np.array(hot)) * 0.5 * 4 / 80
    return parts


def example(seed: int = 0, images: int = 2) -> tuple[list[torch.Tensor], torch.Tensor]:
    torch.manual_seed(seed)
    raws = [torch.randn(images, 27, 160 // s, 160 // s, dtype=torch.float64) for s in (8, 16, 32)]
    rows = [
        [0, 1, 0.31, 0.42, 0.2, 0.3],
        [0, 3, 0.32, 0.43, 0.21, 0.28],
        [1, 0, 0.9, 0.05, 0.15, 0.1],
    ]
    return raws, torch.tensor(rows, dtype=torch.float64)


@pytest.mark.parametrize("count", [3, 1, 0], ids=["three boxes", "one box", "no box"])
def test_loss_equals_plain_loops(count):
    raws, targets = example()
    targets = targets[:count]
    loss = ClassicLoss(HEAD, 320)
    loss.anchors = [anchors.double() for anchors in loss.anchors]
    total, parts = loss(raws, targets)
    wanted = loss_numpy([raw.numpy() for raw in raws], targets.numpy(), 320)
    assert {name: value.item() for name, value in parts.items()} == pytest.approx(wanted, abs=1e-6)
    assert total.item() == pytest.approx(2 * sum(wanted.values()), abs=1e-5)


def test_gradients_reach_every_map_and_stay_finite():
    raws, targets = example()
    raws = [raw.float().requires_grad_() for raw in raws]
    ClassicLoss(HEAD, 320)(raws, targets.float())[0].backward()
    for raw in raws:
        assert raw.grad is not None
        assert raw.grad.isfinite().all()
        assert raw.grad.unflatten(1, (3, 9))[:, :, 4].abs().min() > 0


def test_descent_on_the_maps_finds_the_box():
    targets = torch.tensor([[0, 2, 0.52, 0.47, 0.25, 0.3]])
    raws = [torch.zeros(1, 27, 160 // s, 160 // s, requires_grad=True) for s in (8, 16, 32)]
    optimizer = torch.optim.Adam(raws, lr=0.2)
    loss = ClassicLoss(HEAD, 160)
    for _ in range(100):
        optimizer.zero_grad()
        loss(raws, targets)[0].backward()
        optimizer.step()
    found = HEAD.decode([raw.detach().numpy() for raw in raws], 0.5)[0]
    assert len(found.scores) > 3
    assert set(found.classes.tolist()) == {2}
    wanted = np.array([0.52 - 0.125, 0.47 - 0.15, 0.52 + 0.125, 0.47 + 0.15]) * 160
    np.testing.assert_allclose(found.boxes, np.tile(wanted, (len(found.boxes), 1)), atol=4)


@pytest.mark.parametrize(
    ("levels", "balance"),
    [(1, (4.0,)), (2, (4.0, 1.0)), (4, (4.0, 1.0, 0.25, 0.06)), (5, (4.0, 1.0, 0.25, 0.06, 0.02))],
)
def test_levels_weigh_as_in_yolov5(levels: int, balance: tuple[float, ...]) -> None:
    """Objectness where nothing is to be found: log 2 a cell of a map of zeros."""
    strides = tuple(8 * 2**level for level in range(levels))
    head = AnchorHead(strides, (((10.0, 13.0),),) * levels, nc=1)
    raws = [torch.zeros(1, 6, 128 // stride, 128 // stride) for stride in strides]
    _, parts = ClassicLoss(head, imgsz=640)(raws, torch.zeros(0, 6))
    assert float(parts["obj"]) == pytest.approx(sum(balance) * math.log(2) * 3 / levels, rel=1e-5)
