"""Weights by codebook: each is stored as the number of an entry in a short table of floats.

A table is fitted to the weights by k-means (Han et al., Deep Compression, 2016); an entry may stand
for several weights that follow one another, which is product quantization (Gong et al., Compressing
Deep Convolutional Networks using Vector Quantization, 2014; Stock et al., And the Bit Goes Down,
2020). It makes a file small. Nothing runs faster: the floats are looked up before anything runs.
"""

from dataclasses import dataclass

PER = ("layer", "channel")  # what has a table of its own
DIMS = (1, 2, 4, 8)  # weights an entry
MOST_BITS = 8  # of the number of an entry


@dataclass(frozen=True)
class BookSpec:
    """How a convolution's weights are coded.

    Args:
        bits: of a weight; an entry's number has `bits * dim`.
        per: a table for the layer, or for each output channel.
        dim: weights that an entry stands for.

    Raises:
        ValueError: an entry's number would have no bit or more than eight, `dim` is not in `DIMS`,
            or several weights an entry have a table for each channel, which would take more than
            the weights.
    """

    bits: int
    per: str = "channel"
    dim: int = 1

    def __post_init__(self) -> None:
        if self.per not in PER:
            raise ValueError(f"a codebook per {self.per!r}: not one of {', '.join(PER)}")
        if self.dim not in DIMS:
            raise ValueError(f"{self.dim} weights an entry: not one of {DIMS}")
        if not 1 <= self.bits <= MOST_BITS // self.dim:
            raise ValueError(
                f"{self.bits} bits a weight, {self.dim} weights an entry: an entry's number has "
                f"1 to {MOST_BITS} bits"
            )
        if self.dim > 1 and self.per == "channel":
            raise ValueError("several weights an entry need a codebook per layer")

    @property
    def entries(self) -> int:
        """Length of a table."""
        return 2 ** (self.bits * self.dim)

    def tables(self, channels: int, columns: int) -> int:
        """Tables of a convolution of so many weights a channel.

        Channels whose tables would be larger than the numbers of their entries share the layer's.
        """
        table, numbers = 16 * self.entries, self.bits * columns  # in bits
        return channels if self.per == "channel" and table <= numbers else 1
