"""What all heads decode with, in NumPy: candidates, levels and images put together, sigmoids."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

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


def decode_batch(
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


def sigmoid(x: Floats) -> Floats:
    with np.errstate(over="ignore"):  # exp(-x) = inf gives the right limit, 0
        return np.reciprocal(1 + np.exp(-x))


def logit(score: Any) -> Any:
    """Inverse of the sigmoid; -inf at 0 and below, +inf at 1 and above."""
    if isinstance(score, float | int):
        return (
            math.log(score / (1 - score)) if 0 < score < 1 else math.copysign(math.inf, score - 0.5)
        )
    with np.errstate(divide="ignore"):
        bounded = np.clip(score, 0, 1)
        return np.log(bounded) - np.log1p(-bounded)
