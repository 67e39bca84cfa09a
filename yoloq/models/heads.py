"""What a detector's raw feature maps mean: from logits to boxes in pixels, in NumPy.

Both heads test logits against the threshold's logit first and compute sigmoids, exponentials and
boxes for what is left: at conf 0.001 a few per cent of all anchors.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Candidates:
    """Boxes of one image before non-maximum suppression, one row a (box, class) pair.

    `boxes` (k, 4) are x1 y1 x2 y2 in pixels of the network's input, `scores` (k,) are in 0..1,
    `classes` (k,) are class indices.
    """

    boxes: Floats
    scores: Floats
    classes: Ints


class Head(Protocol):
    """How a family's raw maps are read; a head is plain data and travels with an engine as JSON."""

    @property
    def strides(self) -> tuple[int, ...]: ...

    @property
    def nc(self) -> int: ...

    def decode(self, raws: Sequence[NDArray[Any]], conf: float) -> list[Candidates]: ...

    def box_channels(self, level: int) -> NDArray[np.bool_]: ...

    def scores(self, raw: NDArray[Any]) -> Floats: ...

    def to_json(self) -> dict[str, Any]: ...


@dataclass(frozen=True)
class AnchorHead:
    """The head of classic YOLOv5: per anchor x, y, w, h, objectness and `nc` class logits.

    `anchors` are (width, height) in pixels, per level and anchor.
    """

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
        return _decode_batch(raws, widths, lambda level, raw: self._level(level, raw, conf))

    def _level(self, level: int, raw: Floats, conf: float) -> Candidates:
        """Candidates of one map (anchors * (5 + nc), H, W).

        Formulas: YOLOv5 v5.0 and later, models/yolo.py, Detect:
        xy = (2 sigmoid - 0.5 + cell) * stride, wh = (2 sigmoid)^2 * anchor.
        """
        raw = raw.reshape(-1, 5 + self.nc, *raw.shape[-2:])
        anchor, y, x = np.nonzero(raw[:, 4] > _logit(conf))
        rows = raw[anchor, :, y, x]
        objectness = _sigmoid(rows[:, 4])
        row, classes = np.nonzero(rows[:, 5:] > _logit(conf / objectness)[:, None])
        scores = objectness[row] * _sigmoid(rows[row, 5 + classes])

        stride = self.strides[level]
        doubled = 2 * _sigmoid(rows[:, :4])
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
        parts = _sigmoid(
            np.asarray(raw, np.float32).reshape(len(raw), -1, 5 + self.nc, *raw.shape[2:])
        )
        product: Floats = parts[:, :, 4:5] * parts[:, :, 5:]
        return product

    def to_json(self) -> dict[str, Any]:
        """A dict of JSON types; `head_from_json` reads it back."""
        return {"kind": "anchor", **asdict(self)}


@dataclass(frozen=True)
class DflHead:
    """The anchor-free head of the ultralytics package: four box sides, then `nc` class logits.

    Each side is a distribution over `reg_max` bins (Generalized Focal Loss, arXiv 2006.04388), or
    the distance itself where `reg_max` is 1.
    """

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
        return _decode_batch(raws, widths, lambda level, raw: self._level(level, raw, conf))

    def _level(self, level: int, raw: Floats, conf: float) -> Candidates:
        """Candidates of one map: distances left, top, right, bottom from the cell's centre."""
        width = raw.shape[-1]
        raw = raw.reshape(len(raw), -1)
        logits = raw[4 * self.reg_max :]
        found = np.flatnonzero(logits > _logit(conf))
        classes, cells = np.divmod(found, logits.shape[1])
        scores = _sigmoid(logits.ravel()[found])

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
        return _sigmoid(np.asarray(raw[:, 4 * self.reg_max :], np.float32))

    def to_json(self) -> dict[str, Any]:
        """A dict of JSON types; `head_from_json` reads it back."""
        return {"kind": "dfl", **asdict(self)}


def head_from_json(data: dict[str, Any]) -> Head:
    """The head that `to_json` described.

    Raises:
        ValueError: the kind is not known.
    """
    fields = {key: _tuples(value) for key, value in data.items() if key != "kind"}
    if data["kind"] not in HEADS:
        raise ValueError(f"head kind {data['kind']!r} is not one of {', '.join(HEADS)}")
    return HEADS[data["kind"]](**fields)


HEADS: dict[str, Callable[..., Head]] = {"anchor": AnchorHead, "dfl": DflHead}


def _decode_batch(
    raws: Sequence[NDArray[Any]], widths: list[int], level: Callable[[int, Floats], Candidates]
) -> list[Candidates]:
    """Run `level(index, map)` on every map of every image and join the levels of an image."""
    found = [raw.shape[1] for raw in raws]
    if found != widths:
        raise ValueError(f"the raw head has {found} channels a level, this head wants {widths}")
    floats = [np.asarray(raw, np.float32) for raw in raws]
    images = range(len(raws[0]))
    return [_join([level(i, raw[image]) for i, raw in enumerate(floats)]) for image in images]


def _join(levels: list[Candidates]) -> Candidates:
    return Candidates(
        np.concatenate([item.boxes for item in levels]),
        np.concatenate([item.scores for item in levels]),
        np.concatenate([item.classes for item in levels]),
    )


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


def _sigmoid(x: Floats) -> Floats:
    with np.errstate(over="ignore"):  # exp(-x) = inf gives the right limit, 0
        return np.reciprocal(1 + np.exp(-x))


def _logit(score: Any) -> Any:
    """Inverse of the sigmoid; -inf at 0 and below, +inf at 1 and above."""
    if isinstance(score, float | int):
        return (
            math.log(score / (1 - score)) if 0 < score < 1 else math.copysign(math.inf, score - 0.5)
        )
    with np.errstate(divide="ignore"):
        bounded = np.clip(score, 0, 1)
        return np.log(bounded) - np.log1p(-bounded)


def _tuples(value: Any) -> Any:
    """Lists, at any depth, as the tuples that a frozen dataclass holds."""
    return tuple(_tuples(item) for item in value) if isinstance(value, list | tuple) else value
