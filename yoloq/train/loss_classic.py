"""The loss of classic YOLOv5, written from its published definition.

Sources: YOLOv5 v6.0 architecture summary (docs.ultralytics.com/yolov5: eliminate grid sensitivity,
build targets, loss weights), CIoU from arXiv 1911.08287. Targets are matched by shape: a box
belongs to every anchor whose sides differ from its own by less than a factor of `anchor_t`, at its
own cell and at the two nearest neighbours.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from yoloq.models.heads.anchor import AnchorHead, anchor_boxes
from yoloq.train.overlap import shared_area

EPS = 1e-7


@dataclass(frozen=True)
class Gains:
    """YOLOv5's weights for 80 classes, 640 px and three levels; the loss scales them from there."""

    box: float = 0.05
    objectness: float = 1.0
    classes: float = 0.5
    anchor_t: float = 4.0
    balance: tuple[float, ...] = (4.0, 1.0, 0.4)  # P3, P4, P5
    balance_others: tuple[float, ...] = (4.0, 1.0, 0.25, 0.06, 0.02)  # of any other number


@dataclass(frozen=True)
class Positives:
    """The positive cells of one level, one row each, and what they should predict.

    `image`, `anchor`, `row`, `column` index the map; `boxes` (n, 4) are centre relative to the
    cell's corner and size, in cells; `classes` (n,); `anchors` (n, 2) are sizes in cells.
    """

    image: Tensor
    anchor: Tensor
    row: Tensor
    column: Tensor
    boxes: Tensor
    classes: Tensor
    anchors: Tensor


class ClassicLoss:
    """Box + objectness + class loss of raw maps, summed over the images of a batch.

    Args:
        head: strides, anchors in pixels, number of classes.
        imgsz: image size; the objectness gain scales with its area.
        gains: the published weights.
    """

    def __init__(self, head: AnchorHead, imgsz: int, gains: Gains | None = None) -> None:
        gains = gains or Gains()
        levels = len(head.strides)
        self.nc = head.nc
        self.anchor_t = gains.anchor_t
        self.balance = gains.balance if levels == 3 else gains.balance_others[:levels]
        self.anchors = [
            torch.tensor(rows, dtype=torch.float32) / stride
            for rows, stride in zip(head.anchors, head.strides, strict=True)
        ]
        self.box = gains.box * 3 / levels
        self.objectness = gains.objectness * 3 / levels * (imgsz / 640) ** 2
        self.classes = gains.classes * 3 / levels * head.nc / 80

    def __call__(self, raws: Sequence[Tensor], targets: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Loss and its detached parts (means over the batch).

        Args:
            raws: per level (N, anchors * (5 + nc), H, W) float32.
            targets: (M, 6): image index in the batch, class, centre x, y, width, height in 0..1.
        """
        box = objectness = classes = raws[0].new_zeros(())
        for raw, anchors, balance in zip(raws, self.anchors, self.balance, strict=True):
            anchors = anchors.to(raw.device)
            maps = raw.unflatten(1, (len(anchors), 5 + self.nc)).permute(0, 1, 3, 4, 2)
            matches = match(targets, anchors, maps.shape[2], maps.shape[3], self.anchor_t)
            level = self._level(maps, matches)
            box, classes = box + level[0], classes + level[2]
            objectness = objectness + level[1] * balance
        parts = {
            "box": box * self.box,
            "obj": objectness * self.objectness,
            "cls": classes * self.classes,
        }
        total = torch.stack(list(parts.values())).sum() * len(raws[0])
        return total, {name: part.detach() for name, part in parts.items()}

    def _level(self, maps: Tensor, found: Positives) -> tuple[Tensor, Tensor, Tensor]:
        """Unweighted box, objectness and class loss of maps (N, anchors, H, W, 5 + nc)."""
        wanted = maps.new_zeros(maps.shape[:-1])
        box = classes = maps.new_zeros(())
        if len(found.classes):
            rows = maps[found.image, found.anchor, found.row, found.column]
            overlap = ciou(anchor_boxes(rows[:, :4], found.anchors), found.boxes)
            box = (1 - overlap).mean()
            if self.nc > 1:
                hot = F.one_hot(found.classes, self.nc).to(rows.dtype)
                classes = F.binary_cross_entropy_with_logits(rows[:, 5:], hot)
            # two boxes may share a cell: the better one counts, whatever their order
            wanted.view(-1).scatter_reduce_(
                0, _flat(found, wanted), overlap.detach().clamp(min=0), "amax"
            )
        return box, F.binary_cross_entropy_with_logits(maps[..., 4], wanted), classes


def match(targets: Tensor, anchors: Tensor, height: int, width: int, limit: float) -> Positives:
    """Positive cells of one level.

    Args:
        targets: (M, 6) as in `ClassicLoss`.
        anchors: (A, 2) width and height in cells.
        height, width: of the map, in cells.
        limit: largest factor between a box's and an anchor's side.
    """
    grid = targets.new_tensor([width, height])
    centres, sizes = targets[:, 2:4] * grid, targets[:, 4:6] * grid
    ratio = sizes[None] / anchors[:, None]  # (A, M, 2)
    anchor, which = (torch.maximum(ratio, 1 / ratio).amax(2) < limit).nonzero(as_tuple=True)

    offsets = neighbour_offsets(centres[which], grid)  # (k, 5, 2), nan where not used
    pick, side = offsets[..., 0].isfinite().nonzero(as_tuple=True)
    anchor, which = anchor[pick], which[pick]
    corner = (centres[which] - offsets[pick, side]).floor()
    column, row = corner.long().unbind(1)
    return Positives(
        image=targets[which, 0].long(),
        anchor=anchor,
        row=row.clamp(0, height - 1),
        column=column.clamp(0, width - 1),
        boxes=torch.cat((centres[which] - corner, sizes[which]), 1),
        classes=targets[which, 1].long(),
        anchors=anchors[anchor],
    )


def neighbour_offsets(centres: Tensor, grid: Tensor) -> Tensor:
    """For centres (k, 2) in cells: (k, 5, 2) steps to the own cell and up to two neighbours.

    Order: own, left, up, right, down; a neighbour takes part when the centre lies in the half of
    its cell on that side and the neighbour is inside the grid; the others are nan.
    """
    steps = centres.new_tensor([[0, 0], [0.5, 0], [0, 0.5], [-0.5, 0], [0, -0.5]])
    fraction = centres % 1
    near = (fraction < 0.5) & (centres > 1)
    far = (fraction > 0.5) & (centres < grid - 1)
    used = torch.cat((torch.ones_like(near[:, :1]), near, far), 1)
    return torch.where(used[..., None], steps, math.nan)


def ciou(one: Tensor, two: Tensor) -> Tensor:
    """Complete IoU (n,) of boxes (n, 4) given as centre and size (arXiv 1911.08287, eq. 10-12).

    IoU - d^2 / c^2 - alpha v, where d is the distance of the centres, c the diagonal of the
    enclosing box and v the difference of the aspect angles; alpha has no gradient.
    """
    low1, high1 = one[:, :2] - one[:, 2:] / 2, one[:, :2] + one[:, 2:] / 2
    low2, high2 = two[:, :2] - two[:, 2:] / 2, two[:, :2] + two[:, 2:] / 2
    shared = shared_area((low1, high1), (low2, high2), 1)
    union = one[:, 2:].prod(1) + two[:, 2:].prod(1) - shared + EPS
    iou = shared / union
    hull = torch.maximum(high1, high2) - torch.minimum(low1, low2)
    distance = (one[:, :2] - two[:, :2]).square().sum(1) / (hull.square().sum(1) + EPS)
    turn = torch.atan(two[:, 2] / (two[:, 3] + EPS)) - torch.atan(one[:, 2] / (one[:, 3] + EPS))
    shape = 4 / math.pi**2 * turn.square()
    with torch.no_grad():
        alpha = shape / (1 - iou + shape + EPS)
    return iou - distance - alpha * shape


def _flat(found: Positives, wanted: Tensor) -> Tensor:
    """Index of each match in the flattened (N, anchors, H, W) map."""
    _, anchors, height, width = wanted.shape
    return ((found.image * anchors + found.anchor) * height + found.row) * width + found.column
