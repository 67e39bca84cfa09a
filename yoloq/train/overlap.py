"""The area that boxes share, in torch with a gradient; `geometry.boxes.overlap` in NumPy."""

import torch
from torch import Tensor

Corners = tuple[Tensor, Tensor]  # the lower and the higher one, x and y along one axis


def shared_area(a: Corners, b: Corners, axis: int) -> Tensor:
    """Area of the intersection of boxes by their corners; 0 where they do not meet.

    Args:
        axis: along which x and y lie; it is gone from the result.
    """
    return (torch.minimum(a[1], b[1]) - torch.maximum(a[0], b[0])).clamp(min=0).prod(axis)
