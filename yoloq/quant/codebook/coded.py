"""A convolution's weights as tables of entries and numbers of entries."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional


@dataclass(frozen=True)
class Coded:
    """A weight of some shape, output channels first, as it is stored.

    Attributes:
        tables: (1 or channels, entries, dim), as `in_half` gives them.
        numbers: (channels, runs) of entries, each for `dim` weights that follow one another in a
            channel; what the last one has too many is left out.
    """

    tables: Tensor
    numbers: Tensor
    shape: torch.Size

    @property
    def weight(self) -> Tensor:
        """The floats that it stands for, in the weight's shape."""
        columns = self.shape[1:].numel()
        return looked_up(self.tables.float(), self.numbers)[:, :columns].reshape(self.shape)


def looked_up(tables: Tensor, numbers: Tensor) -> Tensor:
    """Entries in the place of their numbers: (channels, runs * dim)."""
    rows = torch.arange(len(numbers), device=numbers.device) % len(tables)
    return tables[rows[:, None], numbers].flatten(1)


def summed_up(values: Tensor, tables: Tensor, numbers: Tensor) -> Tensor:
    """Sum of `values` (channels, runs * dim) over the places of each entry, shaped as `tables`.

    The transpose of `looked_up`, which is linear in the tables.
    """
    count, entries, dim = tables.shape
    rows = torch.arange(len(numbers), device=numbers.device) % count
    places = (rows[:, None] * entries + numbers).flatten()
    sums = torch.zeros(count * entries, dim, dtype=values.dtype, device=values.device)
    return sums.index_add_(0, places, values.reshape(-1, dim)).view(tables.shape)


def filled(columns: Tensor, dim: int) -> Tensor:
    """The last axis filled up with zeros to a multiple of `dim`."""
    return functional.pad(columns, (0, -columns.shape[-1] % dim))


def in_half(tables: Tensor) -> Tensor:
    """Entries as they are stored: in 16 bits, or as they are where those cannot hold them."""
    rounded = tables.half()
    return rounded if bool(rounded.isfinite().all()) else tables.float()
