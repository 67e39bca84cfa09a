"""What a detector's raw feature maps mean: a head is a file here and a row in `HEADS`.

All heads test logits against the threshold's logit first and compute sigmoids, exponentials and
boxes for what is left: at conf 0.001 a few per cent of all anchors.
"""

from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from yoloq.models.heads.anchor import AnchorHead
from yoloq.models.heads.decode import Candidates, Floats
from yoloq.models.heads.dfl import DflHead


class Head(Protocol):
    """How a family's raw maps are read; a head is plain data and travels with an engine as JSON.

    Attributes:
        kind: its name in `HEADS` and in JSON.
    """

    kind: ClassVar[str]

    @property
    def strides(self) -> tuple[int, ...]:
        """Pixels a cell of each level."""

    @property
    def nc(self) -> int:
        """Number of classes."""

    @property
    def distributions(self) -> bool:
        """Whether box logits are distributions over bins, along axis 2 of `split`."""

    def decode(self, raws: Sequence[NDArray[Any]], conf: float) -> list[Candidates]:
        """Boxes whose score exceeds `conf`, of each image; in NumPy."""

    def box_channels(self, level: int) -> NDArray[np.bool_]:
        """Which channels of a level's map say where a box is; the others say what it is."""

    def scores(self, raw: NDArray[Any]) -> Floats:
        """Score in 0..1 of every box and class of a level's map."""

    def to_json(self) -> dict[str, Any]:
        """A dict of JSON types; `head_from_json` reads it back."""

    def split(self, raw: Tensor) -> tuple[Tensor, Tensor]:
        """Logits of boxes and of scores, from a raw map (N, C, H, W); for distillation."""

    def objectness(self, raw: Tensor) -> Tensor | None:
        """Logits of whether there is an object at a place; None of a head without."""

    def places(
        self, level: int, raw: Tensor, where: Tensor | None = None
    ) -> tuple[tuple[Tensor, Tensor], Tensor]:
        """Corners of boxes, in cells, and class logits; with a gradient.

        `where` is of the shape of `objectness`, and None of a head without: then the maps of all
        places are returned, images first.
        """


HEADS: dict[str, Callable[..., Head]] = {head.kind: head for head in (AnchorHead, DflHead)}


def head_from_json(data: dict[str, Any]) -> Head:
    """The head that `to_json` described.

    Raises:
        ValueError: the kind is not known.
    """
    fields = {key: _tuples(value) for key, value in data.items() if key != "kind"}
    if data["kind"] not in HEADS:
        raise ValueError(f"head kind {data['kind']!r} is not one of {', '.join(HEADS)}")
    return HEADS[data["kind"]](**fields)


def _tuples(value: Any) -> Any:
    """Lists, at any depth, as the tuples that a frozen dataclass holds."""
    return tuple(_tuples(item) for item in value) if isinstance(value, list | tuple) else value
