"""The head of classic YOLOv5: anchors, objectness and classes at every cell."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from yoloq.models.heads.decode import Candidates, Floats, decode_batch, logit, sigmoid


@dataclass(frozen=True)
class AnchorHead:
    """The head of classic YOLOv5: per anchor x, y, w, h, objectness and `nc` class logits.

    `anchors` are (width, height) in pixels, per level and anchor.
    """

    kind: ClassVar[str] = "anchor"

    strides: tuple[int, ...]
    anchors: tuple[tuple[tuple[float, float], ...], ...]
    nc: int

    def decode(self, raws: Sequence[NDArray[Any]], conf: float) -> list[Candidates]:
        """Every (box, class) whose objectness and whose objectness * class score exceed `conf`.

        Args:
            raws: per level a float array (N, anchors * (5 + nc), H, W) of logits.
            conf: score threshold in 0..1.

        Returns:
            One `Candidates` an image.

        Raises:
            ValueError: the maps do not have this head's number of levels or channels.
        """
        widths = [len(row) * (5 + self.nc) for row in self.anchors]
        return decode_batch(raws, widths, lambda level, raw: self._level(level, raw, conf))

    def _level(self, level: int, raw: Floats, conf: float) -> Candidates:
        """Candidates of one map (anchors * (5 + nc), H, W).

        Formulas: YOLOv5 v5.0 and later, models/yolo.py, Detect:
        xy = (2 sigmoid - 0.5 + cell) * stride, wh = (2 sigmoid)^2 * anchor.
        """
        raw = raw.reshape(-1, 5 + self.nc, *raw.shape[-2:])
        anchor, y, x = np.nonzero(raw[:, 4] > logit(conf))
        rows = raw[anchor, :, y, x]
        objectness = sigmoid(rows[:, 4])
        row, classes = np.nonzero(rows[:, 5:] > logit(conf / objectness)[:, None])
        scores = objectness[row] * sigmoid(rows[row, 5 + classes])

        stride = self.strides[level]
        doubled = 2 * sigmoid(rows[:, :4])
        centre = (doubled[:, :2] - 0.5 + np.stack((x, y), 1)) * stride
        half = doubled[:, 2:] ** 2 * np.asarray(self.anchors[level], np.float32)[anchor] / 2
        boxes = np.concatenate((centre - half, centre + half), 1).astype(np.float32)
        return Candidates(boxes[row], scores, classes)

    def box_channels(self, level: int) -> NDArray[np.bool_]:
        """Which channels of a level's map say where a box is; the others say what it is."""
        mask = np.zeros((len(self.anchors[level]), 5 + self.nc), bool)
        mask[:, :4] = True
        return mask.ravel()

    def scores(self, raw: NDArray[Any]) -> Floats:
        """Score (N, anchors, nc, H, W) in 0..1 of every box and class of a level's map."""
        parts = sigmoid(
            np.asarray(raw, np.float32).reshape(len(raw), -1, 5 + self.nc, *raw.shape[2:])
        )
        product: Floats = parts[:, :, 4:5] * parts[:, :, 5:]
        return product

    def to_json(self) -> dict[str, Any]:
        """A dict of JSON types; `head_from_json` reads it back."""
        return {"kind": self.kind, **asdict(self)}

    @property
    def distributions(self) -> bool:
        """Whether box logits are distributions over bins, along axis 2 of `split`."""
        return False

    def split(self, raw: Tensor) -> tuple[Tensor, Tensor]:
        """Logits of boxes (N, anchors, 4, H, W), and of objectness and classes, from a map."""
        parts = raw.unflatten(1, (-1, 5 + self.nc))
        return parts[:, :, :4], parts[:, :, 4:]

    def objectness(self, raw: Tensor) -> Tensor:
        """Logits (N, anchors, H, W) of whether there is an object."""
        return raw.unflatten(1, (-1, 5 + self.nc))[:, :, 4]

    def places(
        self, level: int, raw: Tensor, where: Tensor | None = None
    ) -> tuple[tuple[Tensor, Tensor], Tensor]:
        """Boxes by their corners (2, k), in cells from the cell's own, and class logits (k, nc).

        Args:
            where: (N, anchors, H, W), True at the k places that are asked for; None: all.
        """
        maps = raw.unflatten(1, (-1, 5 + self.nc)).movedim(2, -1)
        where = maps.new_ones(maps.shape[:-1], dtype=torch.bool) if where is None else where
        rows, anchor = maps[where], where.nonzero()[:, 1]
        sizes = rows.new_tensor(self.anchors[level])[anchor] / self.strides[level]
        boxes = anchor_boxes(rows[:, :4], sizes)
        centre, half = boxes[:, :2], boxes[:, 2:] / 2
        return ((centre - half).T, (centre + half).T), rows[:, 5:]


def anchor_boxes(logits: Tensor, anchors: Tensor) -> Tensor:
    """Logits (n, 4) to centre relative to the cell's corner and size, both in cells.

    xy = 2 sigmoid - 0.5, wh = (2 sigmoid)^2 * anchor (YOLOv5, "eliminate grid sensitivity");
    `AnchorHead.decode` in torch, with a gradient. `anchors` (n, 2) are sizes in cells.
    """
    doubled = logits.sigmoid() * 2
    return torch.cat((doubled[:, :2] - 0.5, doubled[:, 2:] ** 2 * anchors), 1)
