"""What a convolution reads: which of its weights matter, and what an error of them costs."""

from dataclasses import dataclass

import torch
from torch import Tensor

from yoloq.quant.codebook.carried import carried
from yoloq.quant.codebook.coded import filled
from yoloq.quant.refine.patches import fitted, grouped, moments_of, parts_of
from yoloq.quant.refine.walk import Block

DAMP = 0.01  # of the mean of the diagonal of moments, as GPTQ has it


@dataclass(frozen=True)
class Part:
    """Channels and columns that read the same; `moments` (columns, columns) of it."""

    rows: slice
    columns: slice
    moments: Tensor


@dataclass(frozen=True)
class Reads:
    """What a convolution reads, and the weights (channels, columns) that serve it best.

    Columns are filled up to whole entries.
    """

    weight: Tensor
    parts: list[Part]

    @property
    def importance(self) -> Tensor:
        """The diagonal of the moments, for each channel: (channels, columns)."""
        found = torch.zeros_like(self.weight)
        for part in self.parts:
            found[part.rows, part.columns] = part.moments.diagonal()
        return found

    def times_moments(self, weight: Tensor) -> Tensor:
        """The product of (channels, columns) with the moments."""
        found = torch.zeros_like(self.weight)
        for part in self.parts:
            found[part.rows, part.columns] = weight[part.rows, part.columns] @ part.moments
        return found

    def chosen(self, tables: Tensor) -> Tensor:
        """Numbers (channels, runs) of the entries that the weights become."""
        dim = tables.shape[2]
        found = torch.zeros_like(self.weight[:, ::dim], dtype=torch.long)
        for part in self.parts:
            runs = slice(part.columns.start // dim, part.columns.stop // dim)
            own = tables if len(tables) == 1 else tables[part.rows]
            weight = self.weight[part.rows, part.columns]
            found[part.rows, runs] = carried(weight, own, part.moments)
        return found


def reads_of(block: Block, name: str, dim: int) -> Reads:
    """What a convolution of a block reads, for entries of `dim` weights."""
    conv = block.conv(name)
    weight, parts = grouped(conv), []
    channels = weight.shape[1]
    halves = moments_of(block, name, conv)
    for (group, run), (first, second) in zip(parts_of(conv), halves, strict=True):
        first, second = first.double(), second.double()
        weight[group, :, run] = fitted(weight[group, :, run], first, second)
        moments = filled(filled((first + second).ridged(DAMP), dim).mT, dim)
        missing = len(moments) - (run.stop - run.start)
        if missing:  # of the last entry, which has more than there are weights
            moments.diagonal()[-missing:] = DAMP * moments.diagonal().mean()
        columns = slice(run.start, run.start + len(moments))
        parts.append(Part(slice(group * channels, (group + 1) * channels), columns, moments))
    return Reads(filled(weight.flatten(0, 1), dim), parts)
