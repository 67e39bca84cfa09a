"""The anchor-free head of the ultralytics package: distributions of box sides, and classes."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from yoloq.models.heads.decode import Candidates, Floats, Ints, decode_batch, logit, sigmoid


@dataclass(frozen=True)
class DflHead:
    """The anchor-free head of the ultralytics package: four box sides, then `nc` class logits.

    Each side is a distribution over `reg_max` bins (Generalized Focal Loss, arXiv 2006.04388), or
    the distance itself where `reg_max` is 1.
    """

    kind: ClassVar[str] = "dfl"

    strides: tuple[int, ...]
    nc: int
    reg_max: int = 16

    def decode(self, raws: Sequence[NDArray[Any]], conf: float) -> list[Candidates]:
        """Every (box, class) whose class score exceeds `conf`.

        Args:
            raws: per level a float array (N, 4 * reg_max + nc, H, W) of logits.
            conf: score threshold in 0..1.

        Returns:
            One `Candidates` an image.

        Raises:
            ValueError: the maps do not have this head's number of levels or channels.
        """
        widths = [4 * self.reg_max + self.nc] * len(self.strides)
        return decode_batch(raws, widths, lambda level, raw: self._level(level, raw, conf))

    def _level(self, level: int, raw: Floats, conf: float) -> Candidates:
        """Candidates of one map: distances left, top, right, bottom from the cell's centre."""
        width = raw.shape[-1]
        raw = raw.reshape(len(raw), -1)
        logits = raw[4 * self.reg_max :]
        found = np.flatnonzero(logits > logit(conf))
        classes, cells = np.divmod(found, logits.shape[1])
        scores = sigmoid(logits.ravel()[found])

        used, row = _unique(cells, logits.shape[1])
        # take keeps the cells last in memory; indexing would not, and sums be five times slower
        sides = raw[: 4 * self.reg_max].take(used, 1).reshape(4, self.reg_max, -1)
        distances = _expectation(sides) if self.reg_max > 1 else sides[:, 0]
        centre = np.stack((used % width, used // width)) + 0.5
        corners = np.concatenate((centre - distances[:2], centre + distances[2:]))
        boxes = (corners.T * self.strides[level]).astype(np.float32)
        return Candidates(boxes[row], scores, classes)

    def box_channels(self, level: int) -> NDArray[np.bool_]:
        """Which channels of a level's map say where a box is; the others say what it is."""
        return np.arange(4 * self.reg_max + self.nc) < 4 * self.reg_max

    def scores(self, raw: NDArray[Any]) -> Floats:
        """Score (N, nc, H, W) in 0..1 of every box and class of a level's map."""
        return sigmoid(np.asarray(raw[:, 4 * self.reg_max :], np.float32))

    def to_json(self) -> dict[str, Any]:
        """A dict of JSON types; `head_from_json` reads it back."""
        return {"kind": self.kind, **asdict(self)}

    @property
    def distributions(self) -> bool:
        """Whether box logits are distributions over bins, along axis 2 of `split`."""
        return self.reg_max > 1

    def split(self, raw: Tensor) -> tuple[Tensor, Tensor]:
        """Logits of the sides' distributions (N, 4, reg_max, H, W), and of classes, from a map.

        Where `reg_max` is 1 the sides are distances (N, 4, H, W).
        """
        boxes, scores = raw[:, : 4 * self.reg_max], raw[:, 4 * self.reg_max :]
        return boxes.unflatten(1, (4, self.reg_max)) if self.distributions else boxes, scores

    def objectness(self, raw: Tensor) -> None:
        """It has none."""

    def places(
        self, level: int, raw: Tensor, where: Tensor | None = None
    ) -> tuple[tuple[Tensor, Tensor], Tensor]:
        """Boxes of all cells by their corners (2, N, H, W), in cells from the cell's centre.

        Returns:
            These, and class logits (N, nc, H, W).
        """
        sides, classes = self.split(raw)
        if self.distributions:
            bins = torch.arange(self.reg_max, dtype=raw.dtype, device=raw.device).view(-1, 1, 1)
            sides = (sides.softmax(2) * bins).sum(2)
        return (-sides[:, :2].movedim(1, 0), sides[:, 2:].movedim(1, 0)), classes


def _unique(values: Ints, size: int) -> tuple[Ints, Ints]:
    """The values in order and the place of each among them: np.unique for integers below `size`."""
    present = np.zeros(size, bool)
    present[values] = True
    return np.flatnonzero(present), (np.cumsum(present) - 1)[values]


def _expectation(logits: Floats) -> Floats:
    """Mean bin of the softmax over axis 1: (4, bins, cells) -> (4, cells)."""
    weights = np.exp(logits - logits.max(1, keepdims=True))
    bins = np.arange(logits.shape[1], dtype=np.float32)
    mean: Floats = np.einsum("sbc,b->sc", weights, bins) / weights.sum(1)
    return mean
