"""Tables fitted to the output: least squares, the numbers of the entries held."""

from collections.abc import Callable

import torch
from torch import Tensor

from yoloq.quant.codebook.coded import looked_up, summed_up

STEPS = 20  # of conjugate gradients; the numbers were chosen for these tables, so they are near


def refitted(
    weight: Tensor,
    tables: Tensor,
    numbers: Tensor,
    times_moments: Callable[[Tensor], Tensor],
    importance: Tensor,
) -> Tensor:
    """Tables with the least squared error of the layer's output, shaped as before.

    The output is linear in the entries, so this is least squares; its matrix is never written
    down: conjugate gradients (Hestenes and Stiefel, 1952) need products with it alone. Tables of
    several channels are solved at once.

    Args:
        weight: (channels, columns) that would give the right output.
        times_moments: the product of (channels, columns) with the moments of what they read.
        importance: (channels, columns), the diagonal of the moments, for each channel; divides out
            how often an entry is used.
    """

    def product(direction: Tensor) -> Tensor:
        return summed_up(times_moments(looked_up(direction, numbers)), tables, numbers)

    def inner(one: Tensor, other: Tensor) -> Tensor:
        return (one * other).sum((1, 2), keepdim=True)

    diagonal = _usable(summed_up(importance, tables, numbers))
    left = summed_up(times_moments(weight - looked_up(tables, numbers)), tables, numbers)
    scaled = left / diagonal
    direction, along = scaled, inner(left, scaled)
    for _ in range(STEPS):
        ahead = product(direction)
        step = along / _usable(inner(direction, ahead))
        tables, left = tables + step * direction, left - step * ahead
        scaled = left / diagonal
        before, along = along, inner(left, scaled)
        direction = scaled + along / _usable(before) * direction
    return tables


def _usable(divisor: Tensor) -> Tensor:
    """1 where it is 0: of an entry that no weight has, or of tables that are right already."""
    return torch.where(divisor > 0, divisor, torch.ones_like(divisor))
