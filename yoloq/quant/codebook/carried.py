"""Entries chosen column by column, what is left of each error carried by the columns that follow.

The rounding of GPTQ (`refine/gptq.py`) onto tables of any values, several columns at a time where
an entry stands for several: van Baalen et al., GPTVQ: The Blessing of Dimensionality for LLM
Quantization, 2024.
"""

import torch
from torch import Tensor

PART = 128  # columns that are done before the rest is updated; a multiple of every `dim`


def carried(weight: Tensor, tables: Tensor, moments: Tensor) -> Tensor:
    """Numbers (channels, runs) of the entries.

    Args:
        weight: (channels, columns), a whole number of runs.
        tables: (1 or channels, entries, dim).
        moments: (columns, columns) of what the columns read, positive definite.
    """
    dim = tables.shape[2]
    runs = moments.diagonal().view(-1, dim).sum(1).argsort(descending=True)
    order = (runs[:, None] * dim + torch.arange(dim, device=runs.device)).flatten()
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(moments[order][:, order]))
    upper = torch.linalg.cholesky(inverse, upper=True)
    return _in_order(weight[:, order], tables, upper)[:, runs.argsort()]


def _in_order(weight: Tensor, tables: Tensor, upper: Tensor) -> Tensor:
    """`upper` is the Cholesky factor of the inverse of the moments."""
    dim, columns = tables.shape[2], weight.shape[1]
    weight, numbers = weight.clone(), []
    for start in range(0, columns, PART):
        stop = min(start + PART, columns)
        part, errors = weight[:, start:stop], torch.zeros_like(weight[:, start:stop])
        for at in range(0, stop - start, dim):
            run = slice(at, at + dim)
            row = upper[start + at : start + at + dim, start:stop]
            chosen, error = _chosen(part[:, run], tables, row[:, run])
            numbers.append(chosen)
            errors[:, run] = error
            part[:, at + dim :] -= error @ row[:, at + dim :]
        weight[:, stop:] -= errors @ upper[start:stop, stop:]
    return torch.stack(numbers, 1)


def _chosen(weight: Tensor, tables: Tensor, factor: Tensor) -> tuple[Tensor, Tensor]:
    """The entry (channels,) that costs least in the output, and its error (channels, dim) there."""
    inverse = torch.linalg.inv(factor)
    errors = (weight[:, None] - tables) @ inverse
    chosen = errors.square().sum(2).argmin(1)
    return chosen, errors[torch.arange(len(chosen), device=chosen.device), chosen]
